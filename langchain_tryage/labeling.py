"""`label`: measure any runnable, chat model or text model on your prompts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import LanguageModelOutput
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import coerce_to_runnable

from tryage.labeling import LabelSummary, Scorer, alabel_answers, label_answers, wrapped
from tryage.labeling.calling import stated_end, stated_tokens
from tryage.prompts import Prompts
from tryage.runtime import Answer


def label(
    experts: Mapping[str, Any],
    prompts: Prompts,
    metric_or_judge: Scorer,
    out: str | Path,
    **options: Any,
) -> LabelSummary:
    """Let every expert answer every prompt, score the answers, and store the results.

    The folder is then a score table: `Router.fit(ScoreTable.read(out), library=...)`.

    Args:
        experts: name → chat model, text model, any runnable that takes a text and returns a
            message or a text, or a function.
        prompts: texts, mappings of ``{"prompt", "id"?, "group"?, "reference"?}``, or a file.
        metric_or_judge: ``(answer, reference) -> score`` in [0, 1], the name of such a metric, or
            a judge over a model of LangChain: `tryage.labeling.PairwiseJudge(chat_model)`.
        out: folder to create or to resume.
        **options: those of `tryage.labeling.label_answers`: `library`, `concurrency`,
            `per_minute`, `retries`, `timeout`, `sample`, `keep_answers`, `progress` and others.

    Raises:
        PromptError, LibraryError, OptionError, OutputFolderError: as in `label_answers`. An error
            that an expert raises becomes the reason of its cell.
    """
    calls, metric = wrapped(experts, metric_or_judge, _Call.of)
    return label_answers(calls, prompts, metric, out, **options)


async def alabel(
    experts: Mapping[str, Any],
    prompts: Prompts,
    metric_or_judge: Scorer,
    out: str | Path,
    **options: Any,
) -> LabelSummary:
    """Do what `label` does, through `ainvoke`; only small files block the event loop."""
    calls, metric = wrapped(experts, metric_or_judge, _AsyncCall.of)
    return await alabel_answers(calls, prompts, metric, out, **options)


@dataclass(frozen=True)
class _Expert:
    """A runnable to call."""

    expert: Runnable[Any, Any]

    @classmethod
    def of(cls, expert: Any) -> Self:
        return cls(coerce_to_runnable(expert))


class _Call(_Expert):
    """A runnable as a function of a prompt."""

    def __call__(self, prompt: str) -> Answer:
        usage = _Usage()
        return usage.answer(self.expert.invoke(prompt, usage.config))


class _AsyncCall(_Expert):
    """A runnable as a coroutine function of a prompt."""

    async def __call__(self, prompt: str) -> Answer:
        usage = _Usage()
        return usage.answer(await self.expert.ainvoke(prompt, usage.config))


class _Usage(BaseCallbackHandler):
    """Sums the tokens of the models inside a runnable, and notes how the last answer ended."""

    run_inline = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: list[tuple[int, int] | None] = []
        self._last_metadata: Mapping[str, Any] = {}

    @property
    def config(self) -> RunnableConfig:
        """The config of a call that it observes."""
        return {"callbacks": [self], "tags": ["tryage:label"]}

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Add the tokens of one model's answer."""
        reports = [(response.llm_output or {}).get("token_usage")]
        metadata: dict[str, Any] = {}
        for generation in (one for row in response.generations[:1] for one in row[:1]):
            metadata |= generation.generation_info or {}
            if isinstance(generation, ChatGeneration):
                reports.insert(0, getattr(generation.message, "usage_metadata", None))
                metadata |= generation.message.response_metadata
        with self._lock:
            self._tokens.append(stated_tokens(*reports))
            self._last_metadata = metadata

    def answer(self, output: LanguageModelOutput) -> Answer:
        """Return the output as an answer.

        Raises:
            TypeError: it is neither a message nor a text.
        """
        text = output.text if isinstance(output, BaseMessage) else output
        if not isinstance(text, str):
            raise TypeError(
                f"it returned {type(output).__name__}, not text or a message; put a parser behind "
                "it, such as StrOutputParser()"
            )
        counted = [tokens for tokens in self._tokens if tokens is not None]
        return Answer(
            str(text),
            sum(read for read, _ in counted),
            sum(written for _, written in counted),
            0.0,
            truncated=bool(self._last_metadata.get("truncated")),
            finish_reason=stated_end(self._last_metadata),
            # Counted only if every model stated its tokens; else the sum is too small.
            counted=0 < len(self._tokens) == len(counted),
        )
