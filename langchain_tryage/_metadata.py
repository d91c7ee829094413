"""Where a decision is told: run tags and metadata, and copies of what the expert answered."""

from __future__ import annotations

from typing import TypeVar

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from tryage import Decision
from tryage.dispatch import DispatchedDecision

M = TypeVar("M", bound=BaseMessage)

TOP = 5
"""Experts of the ranking that metadata carries."""


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
    tag = f"expert:{expert or decision.expert}"
    tags = config.get("tags") or []
    config["tags"] = tags if tag in tags else [*tags, tag]
    config["metadata"] = {**(config.get("metadata") or {}), "tryage": decision.to_dict(top=TOP)}
    return config


def annotate(message: M, decision: Decision) -> M:
    """Return a copy of a message that carries the decision.

    A copy, because the expert's cache may hold the message itself.
    """
    metadata = {**message.response_metadata, "tryage": decision.to_dict(top=TOP)}
    return message.model_copy(update={"response_metadata": metadata})


def annotated_result(result: ChatResult, decision: DispatchedDecision) -> ChatResult:
    """Return a copy of a result whose messages carry the decision."""
    generations = [
        generation.model_copy(update={"message": annotate(generation.message, decision)})
        for generation in result.generations
    ]
    return ChatResult(generations=generations, llm_output=result.llm_output)


def annotated_chunk(
    chunk: ChatGenerationChunk, decision: DispatchedDecision
) -> ChatGenerationChunk:
    """Return a copy of a chunk whose message carries the decision."""
    return chunk.model_copy(update={"message": annotate(chunk.message, decision)})
