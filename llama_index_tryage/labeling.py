"""`label`: any LLM is measured on your prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from llama_index.core.base.llms.types import CompletionResponse
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.callbacks.token_counting import get_tokens_from_response
from llama_index.core.llms import LLM

from tryage.labeling import LabelSummary, Scorer, alabel_answers, label_answers, wrapped
from tryage.prompts import Prompts
from tryage.runtime import Answer

_ENDS = ("finish_reason", "stop_reason", "done_reason")
_OUT_OF_TOKENS = ("length", "max_tokens")


def label(
    experts: Mapping[str, LLM],
    prompts: Prompts,
    metric_or_judge: Scorer,
    out: str | Path,
    **options: Any,
) -> LabelSummary:
    """Let every expert answer every prompt, score the answers, and keep what is measured.

    What lies in the folder then is what `Router.fit(ScoreTable.read(out), library=...)` takes.

    Args:
        experts: name → LLM; each is asked by its `complete`.
        prompts: texts, mappings of ``{"prompt", "id"?, "group"?, "reference"?}``, or a file.
        metric_or_judge: ``(answer, reference) -> score`` in [0, 1], the name of such a metric, or
            a judge over an LLM: `tryage.labeling.PairwiseJudge(llm)`.
        out: folder to fill, or to go on with.
        **options: those of `tryage.labeling.label_answers`: `library`, `concurrency`,
            `per_minute`, `retries`, `timeout`, `sample`, `keep_answers`, `progress` and others.

    Raises:
        TypeError: an expert is no LLM.
        PromptError, LibraryError, OptionError, OutputFolderError: as `label_answers` says. What
            an expert raises is the reason of its cell.
    """
    calls, metric = wrapped(experts, metric_or_judge, _Call.of)
    return label_answers(calls, prompts, metric, out, **options)


async def alabel(
    experts: Mapping[str, LLM],
    prompts: Prompts,
    metric_or_judge: Scorer,
    out: str | Path,
    **options: Any,
) -> LabelSummary:
    """Do what `label` does, through `acomplete`; nothing blocks the event loop but small files."""
    calls, metric = wrapped(experts, metric_or_judge, _AsyncCall.of)
    return await alabel_answers(calls, prompts, metric, out, **options)


@dataclass(frozen=True)
class _Expert:
    """An LLM that is to be called."""

    llm: LLM

    @classmethod
    def of(cls, llm: Any) -> Self:
        if not isinstance(llm, LLM):
            raise TypeError(f"expected an LLM, found {type(llm).__name__}")
        return cls(llm)


class _Call(_Expert):
    """An LLM as a function of a prompt."""

    def __call__(self, prompt: str) -> Answer:
        return _answer(self.llm.complete(prompt))


class _AsyncCall(_Expert):
    """An LLM as a coroutine function of a prompt."""

    async def __call__(self, prompt: str) -> Answer:
        return _answer(await self.llm.acomplete(prompt))


def _answer(response: CompletionResponse | None) -> Answer:
    """Return a response with what it tells of tokens and of its end.

    Raises:
        TypeError: there is none.
    """
    if response is None:
        raise TypeError("it returned nothing")
    raw = response.raw
    read = written = 0
    if raw is None or isinstance(raw, dict | BaseModel):
        read, written = get_tokens_from_response(response)
    told = dict(raw) if isinstance(raw, dict | BaseModel) else {}
    return Answer(
        response.text,
        read,
        written,
        0.0,
        truncated=told.get("truncated") is True,
        finish_reason="length" if _ran_out(told) else "stop",
        counted=bool(read or written),
    )


def _ran_out(told: Mapping[str, Any]) -> bool:
    """Tell whether the answer ended because there were no tokens left for it."""
    choices = told.get("choices")
    last = choices[0] if isinstance(choices, list) and choices else {}
    found = [told.get(key) for key in _ENDS]
    found += [
        last.get(key) if isinstance(last, dict) else getattr(last, key, None) for key in _ENDS
    ]
    return any(str(end).lower() in _OUT_OF_TOKENS for end in found)
