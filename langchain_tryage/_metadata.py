"""Where the decision goes: run tags and metadata, and copies of what the expert answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, Generation
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from tryage import Decision
from tryage.binding import TOP
from tryage.dispatch import DispatchedDecision

M = TypeVar("M", bound=BaseMessage)
G = TypeVar("G", bound=Generation)

TAG = "expert:"
"""How the tag begins that names a run's expert."""


class RunRecord(dict[str, Any]):
    """The decision in a run's metadata; callbacks may also read the routed text.

    Attributes:
        text: the routed text, which no serializer of the record shows.
    """

    __slots__ = ("text",)

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.to_dict(top=TOP))
        self.text = decision.text


def metadata(decision: Decision) -> dict[str, Any]:
    """Return what a message carries of a decision, under the key ``"tryage"``."""
    return {"tryage": decision.to_dict(top=TOP)}


def run_metadata(decision: Decision) -> dict[str, Any]:
    """Return what a run carries of a decision, under the key ``"tryage"``."""
    return {"tryage": RunRecord(decision)}


def run_config(
    config: RunnableConfig | None, decision: Decision, expert: str | None = None
) -> RunnableConfig:
    """Return the config of the run that is about to open, which names an expert.

    Args:
        config: of the caller, or None for that of the run around it.
        decision: goes into the metadata.
        expert: the one to name; None means the chosen one.
    """
    config = ensure_config(config)
    tag = f"{TAG}{expert or decision.expert}"
    tags = config.get("tags") or []
    config["tags"] = tags if tag in tags else [*tags, tag]
    config["metadata"] = {**(config.get("metadata") or {}), **run_metadata(decision)}
    return config


def annotated_message(message: M, decision: Decision | None) -> M:
    """Return a copy of a message that carries the decision.

    A copy, because the expert's cache may hold the message itself. Where the expert routes too, its
    own record goes on under ``"inner"``, also in chunks that carry no decision (None): LangChain
    adds the records of a stream's chunks up.
    """
    fields = _with_record(message.response_metadata, decision)
    return message if fields is None else message.model_copy(update={"response_metadata": fields})


def annotated_result(result: ChatResult, decision: DispatchedDecision) -> ChatResult:
    """Return a copy of a result whose messages carry the decision."""
    generations = [
        generation.model_copy(update={"message": annotated_message(generation.message, decision)})
        for generation in result.generations
    ]
    return ChatResult(generations=generations, llm_output=result.llm_output)


def annotated_chunk(
    chunk: ChatGenerationChunk, decision: DispatchedDecision | None
) -> ChatGenerationChunk:
    """Return a chunk whose message carries the decision, as `annotated_message` does."""
    message = annotated_message(chunk.message, decision)
    return chunk if message is chunk.message else chunk.model_copy(update={"message": message})


def annotated_text(generation: G, decision: DispatchedDecision | None) -> G:
    """Return a text or a chunk of it that carries the decision, as `annotated_message` does."""
    info = _with_record(generation.generation_info or {}, decision)
    return generation if info is None else generation.model_copy(update={"generation_info": info})


def _with_record(fields: Mapping[str, Any], decision: Decision | None) -> dict[str, Any] | None:
    """Return fields with the record of a decision added; None if nothing changes."""
    inner = fields.get("tryage")
    if decision is None and inner is None:
        return None
    own = {} if decision is None else metadata(decision)["tryage"]
    return {**fields, "tryage": own if inner is None else {**own, "inner": inner}}
