"""Batches: dispatches many decisions, grouped by expert."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from tryage.checks import Verdict
from tryage.decision import Decision
from tryage.dispatch.checking import Checker
from tryage.dispatch.failover import Failover
from tryage.dispatch.health import Health
from tryage.dispatch.options import DEFAULT_OPTIONS, DispatchOptions
from tryage.dispatch.records import Outcome
from tryage.dispatch.scopes import call_within, within
from tryage.errors import DispatchError, RejectedError
from tryage.tracing import AnySpan, attempt_span

T = TypeVar("T")


class _Group(NamedTuple):
    expert: str
    rows: list[int]


class _Answers(NamedTuple):
    group: _Group
    started: float
    values: Sequence[Any]
    verdicts: Sequence[Verdict | None]


def dispatch_batch(
    decisions: Sequence[Decision],
    call: Callable[[str, list[int]], Sequence[T | BaseException]],
    options: DispatchOptions = DEFAULT_OPTIONS,
    *,
    health: Health | None = None,
    checkers: Sequence[Checker[T]] | None = None,
    run: Callable[..., Iterable[_Answers]] = map,
) -> list[Outcome[T] | BaseException]:
    """Dispatch many decisions, grouped by expert; rows that fail go to their next expert.

    Args:
        decisions: n decisions.
        call: expert name and rows (indices of `decisions`) → an answer or an error for each row.
        options: attempts, errors and time-outs; `timeout` holds for the call of one group.
        health: told how every row went; experts whose circuit is open in it are passed over.
        checkers: check the answers, one for each decision; by default `options.check`.
        run: applies a function to every group, as `map` does; an executor's `map` runs the groups
            side by side.

    Returns:
        n outcomes, in order; for a row that failed its error, `DispatchError` where every expert
        tried failed.
    """
    batch = _Batch(decisions, options, health, checkers)

    def ask(group: _Group) -> _Answers:
        started = perf_counter()
        seconds = batch.remaining_timeout(group)
        values: Sequence[Any]
        try:
            with batch.span(group) as span:
                if seconds is None:
                    values = call(*group)
                else:
                    total = batch.remaining_total(group)
                    values = call_within(group.expert, seconds, lambda: call(*group), at_most=total)
                span.failures(values)
        except BaseException as error:
            if not batch.is_failure(group, error):
                raise
            values = [error] * len(group.rows)
        return _Answers(group, started, values, batch.verdicts(group, values))

    with batch:
        while groups := batch.groups():
            for answers in run(ask, groups):
                batch.take(answers)
    return batch.results


async def adispatch_batch(
    decisions: Sequence[Decision],
    call: Callable[[str, list[int]], Awaitable[Sequence[T | BaseException]]],
    options: DispatchOptions = DEFAULT_OPTIONS,
    *,
    health: Health | None = None,
    checkers: Sequence[Checker[T]] | None = None,
    at_once: bool = True,
) -> list[Outcome[T] | BaseException]:
    """Do what `dispatch_batch` does, with a call that is awaited.

    Args:
        decisions: n decisions.
        call: expert name and rows → awaitable of an answer or an error for each row.
        options: attempts, errors and time-outs; `timeout` holds for the call of one group.
        health: told how every row went; experts whose circuit is open in it are passed over.
        checkers: check the answers, one for each decision; by default `options.check`.
        at_once: whether the groups of a round run side by side.
    """
    batch = _Batch(decisions, options, health, checkers)

    async def ask(group: _Group) -> _Answers:
        started = perf_counter()
        seconds = batch.remaining_timeout(group)
        values: Sequence[Any]
        try:
            total = batch.remaining_total(group)
            with batch.span(group) as span:
                values = await within(group.expert, seconds, call(*group), at_most=total)
                span.failures(values)
        except BaseException as error:
            if not batch.is_failure(group, error):
                raise
            values = [error] * len(group.rows)
        return _Answers(group, started, values, await batch.averdicts(group, values))

    with batch:
        while groups := batch.groups():
            if not at_once:
                for group in groups:
                    batch.take(await ask(group))
                continue
            # All groups end before an error is raised, so that none is left running.
            for answers in await asyncio.gather(*map(ask, groups), return_exceptions=True):
                if isinstance(answers, BaseException):
                    raise answers
                batch.take(answers)
    return batch.results


class _Batch:
    """The failover of many decisions, in rounds: each calls every expert at most once."""

    def __init__(
        self,
        decisions: Sequence[Decision],
        options: DispatchOptions,
        health: Health | None,
        checkers: Sequence[Checker[Any]] | None,
    ) -> None:
        self._failovers: dict[int, Failover[Any]] = {
            row: Failover(decision, options, health, checkers[row] if checkers else None)
            for row, decision in enumerate(decisions)
        }
        self._waiting: dict[int, str] = {}
        self.results: list[Any] = [None] * len(decisions)

    def __enter__(self) -> _Batch:
        return self

    def __exit__(self, *_: Any) -> None:
        # Calls that an error or the caller cut short say nothing about their experts.
        for row, name in self._waiting.items():
            self._failovers[row].abandoned(name)

    def groups(self) -> list[_Group]:
        """Return the next call of every expert that rows are waiting for."""
        groups: dict[str, list[int]] = {}
        for row, failover in list(self._failovers.items()):
            name = failover.next()
            if name is None:
                self.results[row] = _ended(failover)
                del self._failovers[row]
            else:
                self._waiting[row] = name
                groups.setdefault(name, []).append(row)
        return [_Group(name, rows) for name, rows in groups.items()]

    def span(self, group: _Group) -> AnySpan:
        """Return the span of a group's call."""
        return attempt_span(group.expert, self._failovers[group.rows[0]].task, len(group.rows))

    def remaining_timeout(self, group: _Group) -> float | None:
        """Seconds that the call of a group may take; None for ever."""
        return self._failovers[group.rows[0]].remaining_timeout()

    def remaining_total(self, group: _Group) -> float | None:
        """Seconds that all calls for the rows of a group may still take; None for ever."""
        return self._failovers[group.rows[0]].remaining_total()

    def is_failure(self, group: _Group, error: BaseException) -> bool:
        """Tell whether an error of a group's call counts as a failure of its expert."""
        return self._failovers[group.rows[0]].is_failure(error)

    def verdicts(self, group: _Group, values: Sequence[Any]) -> list[Verdict | None]:
        """Check the answers of a group; None for an error, and without a check."""
        return [
            None
            if isinstance(value, BaseException)
            else self._failovers[row].verdict(group.expert, value)
            for row, value in zip(group.rows, values, strict=True)
        ]

    async def averdicts(self, group: _Group, values: Sequence[Any]) -> list[Verdict | None]:
        """Do what `verdicts` does, side by side."""

        async def verdict(row: int, value: Any) -> Verdict | None:
            if isinstance(value, BaseException):
                return None
            return await self._failovers[row].averdict(group.expert, value)

        return list(await asyncio.gather(*map(verdict, group.rows, values)))

    def take(self, answers: _Answers) -> None:
        """Note the answers; rows that are done leave, the others wait for the next round."""
        group, started, values, verdicts = answers
        alone = len(group.rows) == 1
        for row, value, verdict in zip(group.rows, values, verdicts, strict=True):
            failover = self._failovers[row]
            del self._waiting[row]
            if not isinstance(value, BaseException):
                outcome = failover.judged(group.expert, started, value, verdict, alone=alone)
                if outcome is None:
                    continue
                self.results[row] = outcome
            elif not failover.is_failure(value):
                failover.abandoned(group.expert)
                self.results[row] = value
            else:
                failover.failed(group.expert, started, value)
                continue
            del self._failovers[row]


def _ended(failover: Failover[Any]) -> Any:
    """Return the outcome where no expert is left to call, or its error."""
    try:
        return failover.unaccepted()
    except (DispatchError, RejectedError) as error:
        return error
