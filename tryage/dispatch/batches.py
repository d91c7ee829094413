"""Batches: many decisions, dispatched grouped by expert."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias, TypeVar

from tryage.decision import Decision
from tryage.dispatch.failover import Failover
from tryage.dispatch.health import Health
from tryage.dispatch.options import DEFAULT_OPTIONS, DispatchOptions
from tryage.dispatch.records import Outcome
from tryage.dispatch.scopes import call_within, within

T = TypeVar("T")


class _Group(NamedTuple):
    expert: str
    rows: list[int]


_Answers: TypeAlias = tuple[_Group, float, Sequence[T | BaseException]]


def dispatch_batch(
    decisions: Sequence[Decision],
    call: Callable[[str, list[int]], Sequence[T | BaseException]],
    options: DispatchOptions = DEFAULT_OPTIONS,
    *,
    health: Health | None = None,
    run: Callable[..., Iterable[_Answers[T]]] = map,
) -> list[Outcome[T] | BaseException]:
    """Dispatch many decisions, grouped by expert; what failed goes on to its next expert.

    Args:
        decisions: n decisions.
        call: expert name and rows (indices of `decisions`) → an answer or an error for each row.
        options: attempts, errors and time-outs; `timeout` holds for the call of one group.
        health: told how every row went; experts whose circuit is open in it are passed over.
        run: applies a function to every group, as `map` does; an executor's `map` runs the groups
            side by side.

    Returns:
        n outcomes, in order; for a row that failed its error, `DispatchError` where every expert
        tried failed.
    """
    batch = _Batch(decisions, options, health)

    def ask(group: _Group) -> _Answers[T]:
        started = perf_counter()
        seconds = batch.remaining_timeout(group)
        try:
            if seconds is None:
                return group, started, call(*group)
            return group, started, call_within(group.expert, seconds, lambda: call(*group))
        except BaseException as error:
            if not batch.is_failure(group, error):
                raise
            return group, started, [error] * len(group.rows)

    with batch:
        while groups := batch.groups():
            for answers in run(ask, groups):
                batch.take(*answers)
    return batch.results


async def adispatch_batch(
    decisions: Sequence[Decision],
    call: Callable[[str, list[int]], Awaitable[Sequence[T | BaseException]]],
    options: DispatchOptions = DEFAULT_OPTIONS,
    *,
    health: Health | None = None,
    at_once: bool = True,
) -> list[Outcome[T] | BaseException]:
    """Do what `dispatch_batch` does, with a call that is awaited.

    Args:
        decisions: n decisions.
        call: expert name and rows → awaitable of an answer or an error for each row.
        options: attempts, errors and time-outs; `timeout` holds for the call of one group.
        health: told how every row went; experts whose circuit is open in it are passed over.
        at_once: whether the groups of a round run side by side.
    """
    batch = _Batch(decisions, options, health)

    async def ask(group: _Group) -> _Answers[T]:
        started = perf_counter()
        seconds = batch.remaining_timeout(group)
        try:
            return group, started, await within(group.expert, seconds, call(*group))
        except BaseException as error:
            if not batch.is_failure(group, error):
                raise
            return group, started, [error] * len(group.rows)

    with batch:
        while groups := batch.groups():
            if not at_once:
                for group in groups:
                    batch.take(*await ask(group))
                continue
            # All groups end before an error is raised, so that none is left running.
            for answers in await asyncio.gather(*map(ask, groups), return_exceptions=True):
                if isinstance(answers, BaseException):
                    raise answers
                batch.take(*answers)
    return batch.results


class _Batch:
    """The failover of many decisions, in rounds: each calls every expert at most once."""

    def __init__(
        self,
        decisions: Sequence[Decision],
        options: DispatchOptions,
        health: Health | None,
    ) -> None:
        self._failovers = {
            row: Failover(decision, options, health) for row, decision in enumerate(decisions)
        }
        self._waiting: dict[int, str] = {}
        self.results: list[Any] = [None] * len(decisions)

    def __enter__(self) -> _Batch:
        return self

    def __exit__(self, *_: Any) -> None:
        # What an error or the caller cut short tells nothing about the experts that were asked.
        for row, name in self._waiting.items():
            self._failovers[row].abandoned(name)

    def groups(self) -> list[_Group]:
        """Return the next call of every expert that rows are waiting for."""
        groups: dict[str, list[int]] = {}
        for row, failover in list(self._failovers.items()):
            name = failover.next()
            if name is None:
                self.results[row] = failover.error()
                self.results[row].__cause__ = failover.last_error
                del self._failovers[row]
            else:
                self._waiting[row] = name
                groups.setdefault(name, []).append(row)
        return [_Group(name, rows) for name, rows in groups.items()]

    def remaining_timeout(self, group: _Group) -> float | None:
        """Seconds that the call of a group may take; None for ever."""
        return self._failovers[group.rows[0]].remaining_timeout()

    def is_failure(self, group: _Group, error: BaseException) -> bool:
        """Tell whether an error of a group's call counts as a failure of its expert."""
        return self._failovers[group.rows[0]].is_failure(error)

    def take(self, group: _Group, started: float, answers: Sequence[Any]) -> None:
        """Note the answers; rows that are done leave, the others wait for the next round."""
        for row, answer in zip(group.rows, answers, strict=True):
            failover = self._failovers[row]
            del self._waiting[row]
            if not isinstance(answer, BaseException):
                alone = len(group.rows) == 1
                self.results[row] = failover.outcome(group.expert, started, answer, alone=alone)
            elif not failover.is_failure(answer):
                failover.abandoned(group.expert)
                self.results[row] = answer
            else:
                failover.failed(group.expert, started, answer)
                continue
            del self._failovers[row]
