"""How a binding calls the experts that decisions chose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from tryage.binding.views import Checkers, joined_rows
from tryage.decision import Decision
from tryage.dispatch import (
    AsyncStream,
    DispatchedDecision,
    DispatchOptions,
    Health,
    Outcome,
    Stream,
    adispatch,
    adispatch_batch,
    adispatch_stream,
    dispatch,
    dispatch_batch,
    dispatch_stream,
    record,
)

T = TypeVar("T")
R = TypeVar("R")


class ExpertCalls(Generic[T]):
    """Base of `Binding`: every kind of dispatch over its experts.

    Attributes:
        options: attempts, errors, time-outs, breaker and check.
        health: latencies and failures of every expert.
    """

    options: DispatchOptions
    health: Health
    _dispatch_options: DispatchOptions
    _checkers: Checkers

    @property
    def experts(self) -> Mapping[str, T]:
        """Library name → callable."""
        raise NotImplementedError

    def dispatch(
        self, decision: Decision, call: Callable[[str, T], R]
    ) -> tuple[R, DispatchedDecision]:
        """Call the chosen expert, and the next one if it fails.

        Args:
            decision: what `decide` returned.
            call: name and callable of an expert → answer.

        Returns:
            The answer, and the decision with the record of the calls.

        Raises:
            DispatchError: every expert tried failed.
        """

        def call_expert(name: str) -> R:
            return call(name, self.experts[name])

        checker = self._checkers.of_answers(decision, call_expert)
        outcome = dispatch(
            decision, call_expert, self._dispatch_options, health=self.health, checker=checker
        )
        return outcome.value, record(decision, outcome)

    async def adispatch(
        self, decision: Decision, call: Callable[[str, T], Awaitable[R]]
    ) -> tuple[R, DispatchedDecision]:
        """Do what `dispatch` does, with a call that is awaited."""

        def call_expert(name: str) -> Awaitable[R]:
            return call(name, self.experts[name])

        checker = self._checkers.of_awaited(decision, call_expert)
        outcome = await adispatch(
            decision, call_expert, self._dispatch_options, health=self.health, checker=checker
        )
        return outcome.value, record(decision, outcome)

    def stream(
        self,
        decision: Decision,
        call: Callable[[str, T], Iterable[R]],
        *,
        may_be_empty: bool = False,
    ) -> Stream[R]:
        """Stream from the chosen expert; another takes over only before the first chunk.

        Args:
            decision: what `decide` returned.
            call: name and callable of an expert → its chunks.
            may_be_empty: whether a stream without a chunk is an answer.
        """

        def call_expert(name: str) -> Iterable[R]:
            return call(name, self.experts[name])

        checker = self._checkers.of_chunks(decision, lambda name: list(call_expert(name)))
        return dispatch_stream(
            decision,
            call_expert,
            self._dispatch_options,
            health=self.health,
            checker=checker,
            may_be_empty=may_be_empty,
        )

    def astream(
        self,
        decision: Decision,
        call: Callable[[str, T], AsyncIterator[R] | Awaitable[AsyncIterator[R]]],
        *,
        may_be_empty: bool = False,
    ) -> AsyncStream[R]:
        """Do what `stream` does, with asynchronous iterators or coroutines that return one."""

        def call_expert(name: str) -> AsyncIterator[R] | Awaitable[AsyncIterator[R]]:
            return call(name, self.experts[name])

        async def gathered(name: str) -> list[R]:
            opened = call_expert(name)
            chunks = await opened if isinstance(opened, Awaitable) else opened
            return [chunk async for chunk in chunks]

        checker = None
        if self.options.check is not None:
            checker = self._checkers.of_awaited_chunks(decision, gathered)
        return adispatch_stream(
            decision,
            call_expert,
            self._dispatch_options,
            health=self.health,
            checker=checker,
            may_be_empty=may_be_empty,
        )

    def dispatch_batch(
        self,
        decisions: Sequence[Decision],
        call: Callable[[str, T, list[int]], Sequence[R | BaseException]],
        *,
        run: Callable[..., Iterable[Any]] = map,
    ) -> list[tuple[R, DispatchedDecision] | BaseException]:
        """Dispatch many decisions, grouped by expert.

        Args:
            decisions: n decisions.
            call: name and callable of an expert, and its rows → an answer or an error for each.
            run: as `map`; an executor's `map` runs the experts side by side.

        Returns:
            n answers with their decisions, in order; for a row that failed its error.
        """

        def call_expert(name: str, rows: list[int]) -> Sequence[R | BaseException]:
            return call(name, self.experts[name], rows)

        def alone(row: int) -> Callable[[str], R]:
            return lambda name: joined_rows(call_expert(name, [row]))

        checkers = None
        if self.options.check is not None:
            pairs = [self._checkers.of_answers(d, alone(r)) for r, d in enumerate(decisions)]
            checkers = [checker for checker in pairs if checker is not None]
        outcomes = dispatch_batch(
            decisions,
            call_expert,
            self._dispatch_options,
            health=self.health,
            checkers=checkers,
            run=run,
        )
        return [_joined(*pair) for pair in zip(decisions, outcomes, strict=True)]

    async def adispatch_batch(
        self,
        decisions: Sequence[Decision],
        call: Callable[[str, T, list[int]], Awaitable[Sequence[R | BaseException]]],
        *,
        at_once: bool = True,
    ) -> list[tuple[R, DispatchedDecision] | BaseException]:
        """Do what `dispatch_batch` does, with a call that is awaited.

        Args:
            decisions: n decisions.
            call: name and callable of an expert, and its rows → awaitable of answers or errors.
            at_once: whether the experts run side by side.
        """

        def call_expert(name: str, rows: list[int]) -> Awaitable[Sequence[R | BaseException]]:
            return call(name, self.experts[name], rows)

        def alone(row: int) -> Callable[[str], Awaitable[R]]:
            async def ask(name: str) -> R:
                answer: R = joined_rows(await call_expert(name, [row]))
                return answer

            return ask

        checkers = None
        if self.options.check is not None:
            pairs = [self._checkers.of_awaited(d, alone(r)) for r, d in enumerate(decisions)]
            checkers = [checker for checker in pairs if checker is not None]
        outcomes = await adispatch_batch(
            decisions,
            call_expert,
            self._dispatch_options,
            health=self.health,
            checkers=checkers,
            at_once=at_once,
        )
        return [_joined(*pair) for pair in zip(decisions, outcomes, strict=True)]


def _joined(
    decision: Decision, outcome: Outcome[R] | BaseException
) -> tuple[R, DispatchedDecision] | BaseException:
    if isinstance(outcome, BaseException):
        return outcome
    return outcome.value, record(decision, outcome)
