"""Failover along a decision's order until an expert answers."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Awaitable, Callable, Iterator
from numbers import Integral, Real
from time import perf_counter
from typing import Any, TypedDict, TypeVar

from tryage.decision import Decision
from tryage.dispatch.health import Health
from tryage.dispatch.records import Attempt, Outcome, describe_error
from tryage.dispatch.scopes import call_within, within
from tryage.errors import DispatchError, ExpertTimeoutError, MissingExtraError, PromptError

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


class Options(TypedDict, total=False):
    """The options that every kind of dispatch takes."""

    max_attempts: int | None
    errors: Failures
    timeout: float | None
    total_timeout: float | None
    health: Health | None


def dispatch(
    decision: Decision,
    call: Callable[[str], T],
    *,
    max_attempts: int | None = None,
    errors: Failures = (Exception,),
    timeout: float | None = None,
    total_timeout: float | None = None,
    health: Health | None = None,
) -> Outcome[T]:
    """Call the eligible experts, best first, until one answers.

    With a time-out each call runs in a thread of its own, because Python cannot interrupt a
    blocking call: an expert that hangs is left behind in its thread, which is gone as soon as the
    callable returns and never later. Local pipelines and endpoints of `tryage.runtime` return at
    once when nobody waits for them any more. Without a time-out no thread is used.

    Args:
        decision: whose `order` is walked.
        call: expert name → answer.
        max_attempts: how many experts to call at most; None tries every eligible one.
        errors: exceptions that count as a failure of the expert, or a function that tells whether
            one does; others are raised at once. A time-out always counts.
        timeout: seconds that one call may take; then the next expert is tried.
        total_timeout: seconds that all calls together may take.
        health: told how every call went; experts whose circuit is open in it are passed over.

    Raises:
        DispatchError: every expert tried failed; raised from the last one's error.
    """
    walk = Failover(decision, max_attempts, errors, timeout, total_timeout, health)
    for name in walk:
        started = perf_counter()
        seconds = walk.remaining_timeout()
        try:
            if seconds is None:
                value = call(name)
            else:
                value = call_within(name, seconds, functools.partial(call, name))
        except BaseException as error:
            if not walk.goes_on(name, started, error):
                raise
        else:
            return walk.outcome(name, started, value)
    raise walk.error() from walk.last


async def adispatch(
    decision: Decision,
    call: Callable[[str], Awaitable[T]],
    *,
    max_attempts: int | None = None,
    errors: Failures = (Exception,),
    timeout: float | None = None,
    total_timeout: float | None = None,
    health: Health | None = None,
) -> Outcome[T]:
    """Do what `dispatch` does, with a call that is awaited.

    A call that takes too long is cancelled; no thread is used.
    """
    walk = Failover(decision, max_attempts, errors, timeout, total_timeout, health)
    for name in walk:
        started = perf_counter()
        try:
            value = await within(name, walk.remaining_timeout(), call(name))
        except BaseException as error:
            if not walk.goes_on(name, started, error):
                raise
        else:
            return walk.outcome(name, started, value)
    raise walk.error() from walk.last


def check_options(
    max_attempts: int | None, timeout: float | None, total_timeout: float | None
) -> None:
    """Refuse options out of range.

    Raises:
        ValueError: names the option.
    """
    if max_attempts is not None and not (_is(max_attempts, Integral) and max_attempts >= 1):
        raise ValueError(
            f"max_attempts is {max_attempts!r}; it is a whole number, at least 1, or None for all"
        )
    for key, seconds in (("timeout", timeout), ("total_timeout", total_timeout)):
        if seconds is not None and not (_is(seconds, Real) and seconds > 0):
            raise ValueError(f"{key} is {seconds!r}; it is above 0 seconds, or None for no limit")


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


class Failover:
    """The way along a decision's order, and the record of it. Iterating yields whom to call.

    Attributes:
        tried: every call so far, and every expert that was passed over, in order.
        last: what the last call raised.
        answered_by: the expert that answered.
    """

    def __init__(
        self,
        decision: Decision,
        max_attempts: int | None = None,
        errors: Failures = (Exception,),
        timeout: float | None = None,
        total_timeout: float | None = None,
        health: Health | None = None,
    ) -> None:
        check_options(max_attempts, timeout, total_timeout)
        self.tried: list[Attempt] = []
        self.last: BaseException | None = None
        self.answered_by: str | None = None
        self._order = iter(decision.order)
        self._left = math.inf if max_attempts is None else max_attempts
        self._errors = errors
        self._timeout = timeout
        self._total = total_timeout
        self._health = health
        self._began = perf_counter()

    def __iter__(self) -> Iterator[str]:
        while (name := self.next()) is not None:
            yield name

    def next(self) -> str | None:
        """Return whom to call next; None where nobody, no attempt or no time is left."""
        if self._left < 1 or self.out_of_time:
            return None
        for name in self._order:
            refusal = None if self._health is None else self._health.admit(name, self)
            if refusal is None:
                self._left -= 1
                return name
            self.tried.append(Attempt(name, refusal, 0.0))
        return None

    @property
    def out_of_time(self) -> bool:
        """Whether the calls together have taken all the time there was."""
        return self._total is not None and perf_counter() - self._began >= self._total

    def remaining_timeout(self) -> float | None:
        """Seconds that the next wait may take; None for ever."""
        if self._total is None:
            return self._timeout
        left = max(0.0, self._total - (perf_counter() - self._began))
        return left if self._timeout is None else min(left, self._timeout)

    def skip_time(self, seconds: float) -> None:
        """Leave out time that the reader of a stream took."""
        self._began += seconds

    def goes_on(self, name: str, started: float, error: BaseException) -> bool:
        """Note how a call ended that raised; False where the error is to be raised at once."""
        if not self.is_failure(error):
            self.abandoned(name)
            return False
        self.failed(name, started, error)
        return True

    def is_failure(self, error: BaseException) -> bool:
        """Tell whether an error counts as a failure of the expert."""
        return isinstance(error, ExpertTimeoutError) or is_failure(error, self._errors)

    def failed(self, name: str, started: float, error: BaseException) -> None:
        """Note that an expert failed."""
        self.last = error
        told = describe_error(error)
        self.tried.append(Attempt(name, told, perf_counter() - started))
        if self._health is None:
            return
        if isinstance(error, PromptError):
            # The prompt is at fault; another one may do well.
            self._health.abandoned(name, self)
        else:
            self._health.failed(name, told)

    def abandoned(self, name: str) -> None:
        """Note that a call ended in a way that tells nothing about its expert."""
        if self._health is not None:
            self._health.abandoned(name, self)

    def answered(self, name: str, started: float) -> None:
        """Note that an expert answered, or that its first chunk came."""
        self.answered_by = name
        self.tried.append(Attempt(name, None, perf_counter() - started))

    def done(self, name: str, seconds: float | None) -> None:
        """Tell the health that an answer is whole, and what it took if that is known."""
        if self._health is not None:
            self._health.answered(name, seconds)

    def died(self, started: float, error: BaseException) -> None:
        """Turn the last attempt, whose chunks had begun to arrive, into a failed one."""
        name = self.tried.pop().expert
        self.failed(name, started, error)

    def cut(self, started: float, error: BaseException) -> None:
        """Note why a stream ended early where that tells nothing about its expert."""
        name = self.tried.pop().expert
        self.tried.append(Attempt(name, describe_error(error), perf_counter() - started))
        self.abandoned(name)

    def outcome(self, name: str, started: float, value: T, *, alone: bool = True) -> Outcome[T]:
        """Note the answer and return the outcome; `alone` if it did not come in a batch."""
        self.answered(name, started)
        self.done(name, self.tried[-1].seconds if alone else None)
        return Outcome(value, name, tuple(self.tried), perf_counter() - self._began)

    def error(self) -> DispatchError:
        """Return the error that lists what was tried."""
        lines = [_line(attempt) for attempt in self.tried]
        count = "the one expert" if len(lines) == 1 else f"each of the {len(lines)} experts"
        message = f"{count} tried failed:{''.join(lines)}"
        if self.out_of_time:
            message += f"\n  the {self._total:.3g} s for the whole dispatch are over"
        return DispatchError(message, self.tried)


def _line(attempt: Attempt) -> str:
    after = f" (after {attempt.seconds:.2f} s)" if attempt.seconds else ""
    return f"\n  {attempt.expert}: {attempt.error}{after}"
