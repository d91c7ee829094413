"""Walk along a decision's order until an expert answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TypeVar

from tryage.decision import Decision
from tryage.dispatch.records import Attempt, Outcome, describe_error
from tryage.errors import DispatchError, MissingExtraError

T = TypeVar("T")
Errors = tuple[type[BaseException], ...]
Failures = Errors | Callable[[BaseException], bool]
"""Exceptions that count as a failure of the expert, or a function that tells whether one does."""

PASSING: Errors = (
    asyncio.CancelledError,
    GeneratorExit,
    KeyboardInterrupt,
    SystemExit,
    MissingExtraError,
)
"""What is never a failure of one expert: the caller wants to end, or nothing here can run any."""


def is_failure(error: BaseException, errors: Failures) -> bool:
    """Tell whether an exception is a failure of one expert, so that the next one is tried."""
    if isinstance(error, PASSING):
        return False
    if isinstance(errors, tuple | type):
        return isinstance(error, errors)
    return errors(error)


def dispatch(
    decision: Decision,
    call: Callable[[str], T],
    *,
    max_attempts: int | None = None,
    errors: Failures = (Exception,),
) -> Outcome[T]:
    """Call the eligible experts, best first, until one answers.

    Args:
        decision: whose `order` is walked.
        call: expert name → answer.
        max_attempts: how many experts to try at most; None tries every eligible one.
        errors: exceptions that count as a failure of the expert, or a function that tells whether
            one does; others are raised at once.

    Raises:
        DispatchError: every expert tried failed; raised from the last one's error.
    """
    walk = Walk(decision, max_attempts, errors)
    for name in walk.names:
        started = perf_counter()
        try:
            value = call(name)
        except BaseException as error:
            if not walk.is_failure(error):
                raise
            walk.failed(name, started, error)
        else:
            return walk.outcome(name, started, value)
    raise walk.error() from walk.last


async def adispatch(
    decision: Decision,
    call: Callable[[str], Awaitable[T]],
    *,
    max_attempts: int | None = None,
    errors: Failures = (Exception,),
) -> Outcome[T]:
    """Do what `dispatch` does, with a call that is awaited."""
    walk = Walk(decision, max_attempts, errors)
    for name in walk.names:
        started = perf_counter()
        try:
            value = await call(name)
        except BaseException as error:
            if not walk.is_failure(error):
                raise
            walk.failed(name, started, error)
        else:
            return walk.outcome(name, started, value)
    raise walk.error() from walk.last


class Walk:
    """The way along a decision's order, and the record of it."""

    def __init__(self, decision: Decision, max_attempts: int | None, errors: Failures) -> None:
        if max_attempts is not None and max_attempts < 1:
            raise ValueError(f"max_attempts is {max_attempts}; it is at least 1, or None for all")
        self.names = decision.order[:max_attempts]
        self.tried: list[Attempt] = []
        self.last: BaseException | None = None
        self.answered_by: str | None = None
        self._errors = errors
        self._began = perf_counter()

    def is_failure(self, error: BaseException) -> bool:
        """Tell whether the next expert is tried after an error."""
        return is_failure(error, self._errors)

    def failed(self, name: str, started: float, error: BaseException) -> None:
        """Note that an expert failed."""
        self.last = error
        self.tried.append(Attempt(name, describe_error(error), perf_counter() - started))

    def answered(self, name: str, started: float) -> None:
        """Note that an expert answered, or that its first chunk came."""
        self.answered_by = name
        self.tried.append(Attempt(name, None, perf_counter() - started))

    def died(self, started: float, error: BaseException) -> None:
        """Turn the last attempt, whose chunks had begun to arrive, into a failed one."""
        name = self.tried.pop().expert
        self.failed(name, started, error)

    def outcome(self, name: str, started: float, value: T) -> Outcome[T]:
        """Note the answer and return the outcome."""
        self.answered(name, started)
        return Outcome(value, name, tuple(self.tried), perf_counter() - self._began)

    def error(self) -> DispatchError:
        """Return the error that lists what was tried."""
        lines = [f"\n  {a.expert}: {a.error} (after {a.seconds:.2f} s)" for a in self.tried]
        count = "the one expert" if len(lines) == 1 else f"each of the {len(lines)} experts"
        return DispatchError(f"{count} tried failed:{''.join(lines)}", self.tried)
