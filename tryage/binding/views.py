"""How checks see the answers of a framework."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from tryage.checks import Verdict
from tryage.decision import Decision
from tryage.dispatch import AnswerView, Checker, DispatchOptions

R = TypeVar("R")


class Views(NamedTuple):
    """How an adapter shows its experts' answers to a check.

    Attributes:
        answer: an expert's answer → its view.
        chunks: the chunks of a streamed answer → its view.
        ask: an expert's callable and a text → its answer's text; None where experts take no text.
    """

    answer: Callable[[Any], AnswerView] = AnswerView
    chunks: Callable[[list[Any]], AnswerView] = AnswerView
    ask: Callable[[Any, str], str] | None = None


DEFAULT_VIEWS = Views()
"""Answers as they are."""


class Checkers(NamedTuple):
    """Makes the checkers of one binding's dispatches.

    Attributes:
        options: hold the check.
        views: of the adapter.
        experts: name → callable, as the binding has them.
        feedback: keeps a score of an answer: decision, expert, score.
    """

    options: DispatchOptions
    views: Views
    experts: Callable[[], Any]
    feedback: Callable[[Decision, str, float], None]

    def of_answers(self, decision: Decision, call: Callable[[str], R]) -> Checker[R] | None:
        """Return the checker of one prompt's answers; `call` asks another expert for one."""
        return self._checker(decision, self.views.answer, call)

    def of_awaited(
        self, decision: Decision, call: Callable[[str], Awaitable[R]]
    ) -> Checker[R] | None:
        """Do what `of_answers` does; the other expert is awaited on the loop of this call."""
        return self._checker(decision, self.views.answer, _on_this_loop(call))

    def of_chunks(
        self, decision: Decision, call: Callable[[str], list[R]]
    ) -> Checker[list[R]] | None:
        """Return the checker of one prompt's streamed answers."""
        return self._checker(decision, self.views.chunks, call)

    def of_awaited_chunks(
        self, decision: Decision, call: Callable[[str], Awaitable[list[R]]]
    ) -> Checker[list[R]] | None:
        """Do what `of_chunks` does; the other expert is awaited on the loop of this call."""
        return self._checker(decision, self.views.chunks, _on_this_loop(call))

    def _checker(
        self, decision: Decision, view: Callable[[Any], AnswerView], call: Callable[[str], Any]
    ) -> Checker[Any] | None:
        check = self.options.answer_check
        if check is None:
            return None

        def ask(name: str, text: str | None) -> str:
            if text is None or self.views.ask is None:
                return str(view(call(name)).answer)
            return self.views.ask(self.experts()[name], text)

        def report(name: str, verdict: Verdict) -> None:
            value = verdict.value if verdict.value is not None else float(verdict.accepted)
            self.feedback(decision, name, value if 0 <= value <= 1 else float(verdict.accepted))

        keeps = report if self.options.keep_verdicts else None
        return Checker(check, decision.prompt, view, ask, keeps)


def _on_this_loop(call: Callable[[str], Awaitable[R]]) -> Callable[[str], R]:
    """Return a blocking form of an awaited call; checks run in threads beside the loop."""
    loop = asyncio.get_running_loop()

    async def awaited(name: str) -> R:
        return await call(name)

    return lambda name: asyncio.run_coroutine_threadsafe(awaited(name), loop).result()


def joined_rows(answers: Sequence[Any]) -> Any:
    """Return the one answer of a batch of one row; raise it where it is an error."""
    (answer,) = answers
    if isinstance(answer, BaseException):
        raise answer
    return answer
