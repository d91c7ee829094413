"""Failover along a decision's order until an expert answers."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import TypeVar

from tryage.decision import Decision
from tryage.dispatch.health import Health
from tryage.dispatch.options import DEFAULT_OPTIONS, DispatchOptions
from tryage.dispatch.records import Attempt, Outcome, describe_error
from tryage.dispatch.scopes import call_within, within
from tryage.errors import DispatchError, ExpertTimeoutError, PromptError

T = TypeVar("T")


def dispatch(
    decision: Decision,
    call: Callable[[str], T],
    options: DispatchOptions = DEFAULT_OPTIONS,
    *,
    health: Health | None = None,
) -> Outcome[T]:
    """Call the eligible experts, best first, until one answers.

    With a time-out each call runs in a thread of its own, because Python cannot interrupt a
    blocking call: an expert that hangs is left behind in its thread, which ends as soon as the
    callable returns. Local pipelines and endpoints of `tryage.runtime` return at once when nobody
    waits for them any more. Without a time-out no thread is used.

    Args:
        decision: its `order` says whom to call.
        call: expert name → answer.
        options: attempts, errors and time-outs.
        health: told how every call went; experts whose circuit is open in it are passed over.

    Raises:
        DispatchError: every expert tried failed; raised from the last one's error.
    """
    failover = Failover(decision, options, health)
    for name in failover:
        started = perf_counter()
        seconds = failover.remaining_timeout()
        try:
            if seconds is None:
                value = call(name)
            else:
                value = call_within(name, seconds, functools.partial(call, name))
        except BaseException as error:
            if not failover.goes_on(name, started, error):
                raise
        else:
            return failover.outcome(name, started, value)
    raise failover.error() from failover.last_error


async def adispatch(
    decision: Decision,
    call: Callable[[str], Awaitable[T]],
    options: DispatchOptions = DEFAULT_OPTIONS,
    *,
    health: Health | None = None,
) -> Outcome[T]:
    """Do what `dispatch` does, with a call that is awaited.

    A call that takes too long is cancelled; no thread is used.
    """
    failover = Failover(decision, options, health)
    for name in failover:
        started = perf_counter()
        try:
            value = await within(name, failover.remaining_timeout(), call(name))
        except BaseException as error:
            if not failover.goes_on(name, started, error):
                raise
        else:
            return failover.outcome(name, started, value)
    raise failover.error() from failover.last_error


class Failover:
    """Iterates over the ranked experts, skips open circuits, records attempts.

    Attributes:
        tried: every call so far, and every expert that was passed over, in order.
        last_error: what the last call raised.
        answered_by: the expert that answered.
    """

    def __init__(
        self,
        decision: Decision,
        options: DispatchOptions = DEFAULT_OPTIONS,
        health: Health | None = None,
    ) -> None:
        self.tried: list[Attempt] = []
        self.last_error: BaseException | None = None
        self.answered_by: str | None = None
        self._options = options
        self._order = iter(decision.order)
        self._attempts_left = options.max_attempts or math.inf
        self._health = health
        self._began = perf_counter()

    def __iter__(self) -> Iterator[str]:
        while (name := self.next()) is not None:
            yield name

    def next(self) -> str | None:
        """Return the next expert to call; None where no expert, attempt or time is left."""
        if self._attempts_left < 1 or self.out_of_time:
            return None
        for name in self._order:
            refusal = None if self._health is None else self._health.admit(name, self)
            if refusal is None:
                self._attempts_left -= 1
                return name
            self.tried.append(Attempt(name, refusal, 0.0))
        return None

    @property
    def out_of_time(self) -> bool:
        """Whether the calls together have taken all the time there was."""
        total = self._options.total_timeout
        return total is not None and perf_counter() - self._began >= total

    def remaining_timeout(self) -> float | None:
        """Seconds that the next wait may take; None for ever."""
        timeout, total = self._options.timeout, self._options.total_timeout
        if total is None:
            return timeout
        left = max(0.0, total - (perf_counter() - self._began))
        return left if timeout is None else min(left, timeout)

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
        return isinstance(error, ExpertTimeoutError) or self._options.is_failure(error)

    def failed(self, name: str, started: float, error: BaseException) -> None:
        """Note that an expert failed."""
        self.last_error = error
        description = describe_error(error)
        self.tried.append(Attempt(name, description, perf_counter() - started))
        if self._health is None:
            return
        if isinstance(error, PromptError):
            # The prompt is at fault; another one may do well.
            self._health.abandoned(name, self)
        else:
            self._health.failed(name, description)

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
            seconds = self._options.total_timeout
            message += f"\n  the {seconds:.3g} s for the whole dispatch are over"
        return DispatchError(message, self.tried)


def _line(attempt: Attempt) -> str:
    after = f" (after {attempt.seconds:.2f} s)" if attempt.seconds else ""
    return f"\n  {attempt.expert}: {attempt.error}{after}"
