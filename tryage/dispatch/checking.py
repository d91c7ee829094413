"""Runs a check on an answer, with its time-out and error handling, blocking or async."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tryage.checks import Check, CheckedAnswer, Verdict
from tryage.dispatch.records import describe_error
from tryage.dispatch.scopes import acall_within, call_within, within
from tryage.errors import MissingExtraError
from tryage.tracing import check_span

T = TypeVar("T")

PASSED = Verdict(True)
"""The verdict on an answer that is not checked."""


@dataclass(frozen=True, slots=True)
class AnswerView:
    """An expert's answer as a check sees it.

    Attributes:
        answer: its text; the object itself where it is not text.
        logprobs: log-probabilities of its tokens; None where the expert gives none.
        calls_tools: whether it calls a tool instead of answering.
    """

    answer: Any
    logprobs: Sequence[float] | None = None
    calls_tools: bool = False


Ask = Callable[[str, str | None], str]
"""Name of an expert, and a text (None for the call's own input) → its answer's text."""


@dataclass(frozen=True, slots=True)
class Checker(Generic[T]):
    """Checks the answers to one prompt.

    Attributes:
        check: accepts or rejects.
        prompt: the text that was routed.
        view: an expert's answer → its `AnswerView`.
        ask: asks another expert, for checks that do.
        report: called with the expert's name and every clear verdict.
    """

    check: Check
    prompt: str = field(repr=False)
    view: Callable[[T], AnswerView] = AnswerView
    ask: Ask | None = None
    report: Callable[[str, Verdict], None] | None = None
    _replies: dict[tuple[str, str | None], str] = field(default_factory=dict, repr=False)

    def verdict(self, name: str, value: T) -> Verdict:
        """Check an answer; an exception or a time-out of the check is a verdict too."""
        checked = self._checked(name, value)
        if checked is None:
            return PASSED
        with check_span(self.check.name, name) as span:
            verdict = self._examined(name, checked)
            span.set(_traced(verdict))
        return verdict

    def _examined(self, name: str, checked: CheckedAnswer) -> Verdict:
        check, call = self.check, functools.partial(_finding, self.check, checked)
        try:
            finding = (
                call() if check.timeout is None else call_within(check.name, check.timeout, call)
            )
            verdict = check.verdict(finding)
        except MissingExtraError:
            raise
        except Exception as error:  # noqa: BLE001 - a check is the user's own and may raise anything
            return check.failed(describe_error(error))
        self._report_verdict(name, verdict)
        return verdict

    async def averdict(self, name: str, value: T) -> Verdict:
        """Do what `verdict` does, without blocking: a plain function runs in a thread."""
        checked = self._checked(name, value)
        if checked is None:
            return PASSED
        with check_span(self.check.name, name) as span:
            verdict = await self._aexamined(name, checked)
            span.set(_traced(verdict))
        return verdict

    async def _aexamined(self, name: str, checked: CheckedAnswer) -> Verdict:
        check = self.check
        try:
            if check.is_async:
                awaitable: Any = check.find(checked)
                finding = await within(check.name, check.timeout, awaitable)
            else:
                call = functools.partial(_finding, check, checked)
                finding = await acall_within(check.name, check.timeout, call)
            verdict = check.verdict(finding)
        except MissingExtraError:
            raise
        except Exception as error:  # noqa: BLE001 - a check is the user's own and may raise anything
            return check.failed(describe_error(error))
        self._report_verdict(name, verdict)
        return verdict

    def _report_verdict(self, name: str, verdict: Verdict) -> None:
        """Report a clear verdict; an unclear one is not feedback."""
        if self.report is not None and verdict.value is not None:
            self.report(name, verdict)

    def _ask_once(self, name: str, text: str | None = None) -> str:
        """Ask another expert; equal questions are asked once per prompt."""
        key = (name, text)
        if key not in self._replies and self.ask is not None:
            self._replies[key] = self.ask(name, text)
        return self._replies[key]

    def _checked(self, name: str, value: T) -> CheckedAnswer | None:
        view = self.view(value)
        if view.calls_tools and not self.check.checks_tools:
            return None
        ask = None if self.ask is None else self._ask_once
        return CheckedAnswer(self.prompt, view.answer, name, ask, view.logprobs)


def _traced(verdict: Verdict) -> dict[str, Any]:
    """Return the attributes of a verdict's span."""
    return {
        "gen_ai.evaluation.score.value": verdict.value,
        "gen_ai.evaluation.score.label": "accepted" if verdict.accepted else "rejected",
        "tryage.check.unclear": None if verdict.reason is None else True,
    }


def _finding(check: Check, checked: CheckedAnswer) -> Any:
    """Return the finding of a check; a coroutine runs in its own event loop."""
    finding = check.find(checked)
    if not isinstance(finding, Awaitable):
        return finding

    async def awaited() -> Any:
        return await finding

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(awaited())
    # This blocking code was called on a running loop, which cannot run another one.
    return call_within("check", 1e9, lambda: asyncio.run(awaited()))
