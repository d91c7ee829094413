"""Batches: many decisions, dispatched grouped by expert."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias, TypeVar

from tryage.decision import Decision
from tryage.dispatch.records import Outcome
from tryage.dispatch.walking import Failures, Walk, is_failure

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
    run: Callable[..., Iterable[_Answers[T]]] = map,
) -> list[Outcome[T] | BaseException]:
    """Dispatch many decisions, grouped by expert; what failed goes on to its next expert.

    Args:
        decisions: n decisions.
        call: expert name and rows (indices of `decisions`) → an answer or an error for each row.
        max_attempts: how many experts to try at most for a decision; None tries every eligible one.
        errors: exceptions that count as a failure of the expert, or a function that tells whether
            one does; others end their row.
        run: applies a function to every group, as `map` does; an executor's `map` runs the groups
            side by side.

    Returns:
        n outcomes, in order; for a row that failed its error, `DispatchError` where every expert
        tried failed.
    """
    batch = Batch(decisions, max_attempts, errors)

    def ask(group: _Group) -> _Answers[T]:
        started = perf_counter()
        try:
            return group, started, call(*group)
        except BaseException as error:
            if not is_failure(error, errors):
                raise
            return group, started, [error] * len(group.rows)

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
    at_once: bool = True,
) -> list[Outcome[T] | BaseException]:
    """Do what `dispatch_batch` does, with a call that is awaited.

    Args:
        decisions: n decisions.
        call: expert name and rows → awaitable of an answer or an error for each row.
        max_attempts: how many experts to try at most for a decision; None tries every eligible one.
        errors: exceptions that count as a failure of the expert, or a function that tells whether
            one does; others end their row.
        at_once: whether the groups of a round run side by side.
    """
    batch = Batch(decisions, max_attempts, errors)

    async def ask(group: _Group) -> _Answers[T]:
        started = perf_counter()
        try:
            return group, started, await call(*group)
        except BaseException as error:
            if not is_failure(error, errors):
                raise
            return group, started, [error] * len(group.rows)

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
        self, decisions: Sequence[Decision], max_attempts: int | None, errors: Failures
    ) -> None:
        self._walks = {row: Walk(d, max_attempts, errors) for row, d in enumerate(decisions)}
        self.results: list[Any] = [None] * len(decisions)

    def groups(self) -> list[_Group]:
        """Return the next call of every expert that rows are waiting for."""
        groups: dict[str, list[int]] = {}
        for row, walk in self._walks.items():
            groups.setdefault(walk.names[len(walk.tried)], []).append(row)
        return [_Group(name, rows) for name, rows in groups.items()]

    def take(self, group: _Group, started: float, answers: Sequence[Any]) -> None:
        """Note the answers; rows that are done leave, the others wait for the next round."""
        for row, answer in zip(group.rows, answers, strict=True):
            walk = self._walks[row]
            if not isinstance(answer, BaseException):
                self.results[row] = walk.outcome(group.expert, started, answer)
            elif not walk.is_failure(answer):
                self.results[row] = answer
            else:
                walk.failed(group.expert, started, answer)
                if len(walk.tried) < len(walk.names):
                    continue
                self.results[row] = walk.error()
                self.results[row].__cause__ = answer
            del self._walks[row]
