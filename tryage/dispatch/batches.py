"""Batches: many decisions, dispatched grouped by expert."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias, TypeVar

from tryage.decision import Decision
from tryage.dispatch.failover import Failover, Failures, check_options
from tryage.dispatch.health import Health
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
    *,
    max_attempts: int | None = None,
    errors: Failures = (Exception,),
    timeout: float | None = None,
    total_timeout: float | None = None,
    health: Health | None = None,
    run: Callable[..., Iterable[_Answers[T]]] = map,
) -> list[Outcome[T] | BaseException]:
    """Dispatch many decisions, grouped by expert; what failed goes on to its next expert.

    Args:
        decisions: n decisions.
        call: expert name and rows (indices of `decisions`) → an answer or an error for each row.
        max_attempts: how many experts to try at most for a decision; None tries every eligible one.
        errors: exceptions that count as a failure of the expert, or a function that tells whether
            one does; others end their row.
        timeout: seconds that the call of one group may take, as for `dispatch`.
        total_timeout: seconds that all calls together may take.
        health: told how every row went; experts whose circuit is open in it are passed over.
        run: applies a function to every group, as `map` does; an executor's `map` runs the groups
            side by side.

    Returns:
        n outcomes, in order; for a row that failed its error, `DispatchError` where every expert
        tried failed.
    """
    batch = Batch(decisions, max_attempts, errors, timeout, total_timeout, health)

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
    *,
    max_attempts: int | None = None,
    errors: Failures = (Exception,),
    timeout: float | None = None,
    total_timeout: float | None = None,
    health: Health | None = None,
    at_once: bool = True,
) -> list[Outcome[T] | BaseException]:
    """Do what `dispatch_batch` does, with a call that is awaited.

    Args:
        decisions: n decisions.
        call: expert name and rows → awaitable of an answer or an error for each row.
        max_attempts: how many experts to try at most for a decision; None tries every eligible one.
        errors: exceptions that count as a failure of the expert, or a function that tells whether
            one does; others end their row.
        timeout: seconds that the call of one group may take; then it is cancelled.
        total_timeout: seconds that all calls together may take.
        health: told how every row went; experts whose circuit is open in it are passed over.
        at_once: whether the groups of a round run side by side.
    """
    batch = Batch(decisions, max_attempts, errors, timeout, total_timeout, health)

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


class Batch:
    """The walks of many decisions, in rounds: each round calls every expert at most once."""

    def __init__(
        self,
        decisions: Sequence[Decision],
        max_attempts: int | None,
        errors: Failures,
        timeout: float | None,
        total_timeout: float | None,
        health: Health | None,
    ) -> None:
        check_options(max_attempts, timeout, total_timeout)
        self._walks = {
            row: Failover(decision, max_attempts, errors, timeout, total_timeout, health)
            for row, decision in enumerate(decisions)
        }
        self._waiting: dict[int, str] = {}
        self.results: list[Any] = [None] * len(decisions)

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: Any) -> None:
        # What an error or the caller cut short tells nothing about the experts that were asked.
        for row, name in self._waiting.items():
            self._walks[row].abandoned(name)

    def groups(self) -> list[_Group]:
        """Return the next call of every expert that rows are waiting for."""
        groups: dict[str, list[int]] = {}
        for row, walk in list(self._walks.items()):
            name = walk.next()
            if name is None:
                self.results[row] = walk.error()
                self.results[row].__cause__ = walk.last
                del self._walks[row]
            else:
                self._waiting[row] = name
                groups.setdefault(name, []).append(row)
        return [_Group(name, rows) for name, rows in groups.items()]

    def remaining_timeout(self, group: _Group) -> float | None:
        """Seconds that the call of a group may take; None for ever."""
        return self._walks[group.rows[0]].remaining_timeout()

    def is_failure(self, group: _Group, error: BaseException) -> bool:
        """Tell whether an error of a group's call counts as a failure of its expert."""
        return self._walks[group.rows[0]].is_failure(error)

    def take(self, group: _Group, started: float, answers: Sequence[Any]) -> None:
        """Note the answers; rows that are done leave, the others wait for the next round."""
        for row, answer in zip(group.rows, answers, strict=True):
            walk = self._walks[row]
            del self._waiting[row]
            if not isinstance(answer, BaseException):
                alone = len(group.rows) == 1
                self.results[row] = walk.outcome(group.expert, started, answer, alone=alone)
            elif not walk.is_failure(answer):
                walk.abandoned(group.expert)
                self.results[row] = answer
            else:
                walk.failed(group.expert, started, answer)
                continue
            del self._walks[row]
