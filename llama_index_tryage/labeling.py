"""`label`: measure any LLM on your prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from llama_index.core.base.llms.types import CompletionResponse
from llama_index.core.llms import LLM

from tryage.labeling import LabelSummary, Scorer, alabel_answers, label_answers, wrapped
from tryage.labeling.calling import report_field, stated_end, stated_tokens
from tryage.prompts import Prompts
from tryage.runtime import Answer


def label(
    experts: Mapping[str, LLM],
    prompts: Prompts,
    metric_or_judge: Scorer,
    out: str | Path,
    **options: Any,
) -> LabelSummary:
    """Let every expert answer every prompt, score the answers, and store the results.

    The folder is then a score table: `Router.fit(ScoreTable.read(out), library=...)`.

    Args:
        experts: name → LLM, called by `complete`.
        prompts: texts, mappings of ``{"prompt", "id"?, "group"?, "reference"?}``, or a file.
        metric_or_judge: ``(answer, reference) -> score`` in [0, 1], the name of such a metric, or
            a judge over an LLM: `tryage.labeling.PairwiseJudge(llm)`.
        out: folder to create or to resume.
        **options: those of `tryage.labeling.label_answers`: `library`, `concurrency`,
            `per_minute`, `retries`, `timeout`, `sample`, `keep_answers`, `progress` and others.

    Raises:
        TypeError: an expert is no LLM.
        PromptError, LibraryError, OptionError, OutputFolderError: as in `label_answers`. An error
            that an expert raises becomes the reason of its cell.
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
    """Do what `label` does, through `acomplete`; only small files block the event loop."""
    calls, metric = wrapped(experts, metric_or_judge, _AsyncCall.of)
    return await alabel_answers(calls, prompts, metric, out, **options)


@dataclass(frozen=True)
class _Expert:
    """An LLM to call."""

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
    """Return a response as an answer, with what it states of tokens and of its end.

    Raises:
        TypeError: there is none.
    """
    if response is None:
        raise TypeError("it returned nothing")
    raw = response.raw
    usage, choices = (report_field(raw, key) for key in ("usage", "choices"))
    first_choice = choices[0] if isinstance(choices, list) and choices else None
    tokens = stated_tokens(usage, report_field(raw, "usage_metadata"), response.additional_kwargs)
    read, written = tokens or (0, 0)
    return Answer(
        response.text,
        read,
        written,
        0.0,
        truncated=report_field(raw, "truncated") is True,
        finish_reason=stated_end(raw, first_choice),
        counted=tokens is not None,
    )
