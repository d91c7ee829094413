"""How a binding calls the experts that decisions chose."""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Generic, TypeVar

from tryage.binding.passing import astream_passing_on, passing_flags, stream_passing_on
from tryage.binding.views import Checkers, joined_rows
from tryage.decision import Decision
from tryage.dispatch import (
    AsyncStream,
    DispatchedDecision,
    DispatchOptions,
    Health,
    Outcome,
    Stream,
    aclose,
    adispatch,
    adispatch_batch,
    adispatch_stream,
    dispatch,
    dispatch_batch,
    dispatch_stream,
    present,
    record,
)
from tryage.flags import Flags

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
            if decision.directives is None:
                return call(name, self.experts[name])
            with passing_flags(decision.directives):
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

        async def obeying(name: str) -> R:
            with passing_flags(decision.directives):
                return await call(name, self.experts[name])

        def call_expert(name: str) -> Awaitable[R]:
            if decision.directives is not None:
                return obeying(name)
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

        def obeying(name: str, directives: Flags) -> Iterator[R]:
            with passing_flags(directives):
                chunks = iter(present(name, call(name, self.experts[name])))
            yield from stream_passing_on(directives, chunks, passing_flags)

        def call_expert(name: str) -> Iterable[R]:
            if decision.directives is not None:
                return obeying(name, decision.directives)
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

        async def obeying(name: str, directives: Flags) -> AsyncIterator[R]:
            with passing_flags(directives):
                opened = call(name, self.experts[name])
                chunks = await opened if isinstance(opened, Awaitable) else opened
            chunks = astream_passing_on(directives, present(name, chunks), passing_flags)
            try:
                async for chunk in chunks:
                    yield chunk
            finally:
                await aclose(chunks)

        def call_expert(name: str) -> AsyncIterator[R] | Awaitable[AsyncIterator[R]]:
            if decision.directives is not None:
                return obeying(name, decision.directives)
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
            if all(decisions[row].directives is None for row in rows):
                return call(name, self.experts[name], rows)
            answers: dict[int, R | BaseException] = {}
            for directives, alike in _by_directives(decisions, rows):
                with passing_flags(directives):
                    results = call(name, self.experts[name], alike)
                answers.update(zip(alike, results, strict=True))
            return [answers[row] for row in rows]

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

        async def call_expert(name: str, rows: list[int]) -> Sequence[R | BaseException]:
            if all(decisions[row].directives is None for row in rows):
                return await call(name, self.experts[name], rows)
            answers: dict[int, R | BaseException] = {}
            for directives, alike in _by_directives(decisions, rows):
                with passing_flags(directives):
                    results = await call(name, self.experts[name], alike)
                answers.update(zip(alike, results, strict=True))
            return [answers[row] for row in rows]

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


def _by_directives(
    decisions: Sequence[Decision], rows: list[int]
) -> list[tuple[Flags | None, list[int]]]:
    """Return the rows whose calls pass on the same flags, together; mostly there are none."""
    groups: list[tuple[Flags | None, list[int]]] = []
    for row in rows:
        directives = decisions[row].directives
        alike = next((group for flags, group in groups if flags == directives), None)
        if alike is None:
            groups.append((directives, [row]))
        else:
            alike.append(row)
    return groups


def _joined(
    decision: Decision, outcome: Outcome[R] | BaseException
) -> tuple[R, DispatchedDecision] | BaseException:
    if isinstance(outcome, BaseException):
        return outcome
    return outcome.value, record(decision, outcome)
