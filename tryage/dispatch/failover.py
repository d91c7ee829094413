"""Failover along a decision's order until an expert answers."""

from __future__ import annotations

import functools
import math
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import Generic, TypeVar

from tryage.checks import Check, Verdict
from tryage.decision import Decision
from tryage.dispatch.checking import Checker
from tryage.dispatch.faults import is_request_fault
from tryage.dispatch.health import Health
from tryage.dispatch.options import DEFAULT_OPTIONS, DispatchOptions
from tryage.dispatch.records import Attempt, Outcome, checked, describe_error
from tryage.dispatch.scopes import call_within, within
from tryage.errors import DispatchError, ExpertTimeoutError, RejectedError
from tryage.masking import mask_error
from tryage.tracing import attempt_span

T = TypeVar("T")


def dispatch(
    decision: Decision,
    call: Callable[[str], T],
    options: DispatchOptions = DEFAULT_OPTIONS,
    *,
    health: Health | None = None,
    checker: Checker[T] | None = None,
) -> Outcome[T]:
    """Call the eligible experts, best first, until one answers.

    With a time-out each call runs in a thread of its own, because Python cannot interrupt a
    blocking call: a hanging expert stays in its thread, which ends as soon as the callable returns.
    Local pipelines and endpoints of `tryage.runtime` return at once when nothing waits for them
    any more. Without a time-out no thread is used.

    Args:
        decision: its `order` is the order of calls.
        call: expert name → answer.
        options: attempts, errors and time-outs.
        health: records every call; experts whose circuit is open are skipped.
        checker: checks the answers; by default `options.check` on the decision's prompt.

    Raises:
        DispatchError: every expert tried failed; raised from the last one's error.
        RejectedError: no answer was accepted, and `on_rejected` is "raise".
    """
    failover: Failover[T] = Failover(decision, options, health, checker)
    for name in failover:
        started = perf_counter()
        seconds = failover.remaining_timeout()
        try:
            with attempt_span(name, decision.task):
                if seconds is None:
                    value = call(name)
                else:
                    total = failover.remaining_total()
                    value = call_within(name, seconds, functools.partial(call, name), at_most=total)
        except BaseException as error:
            if not failover.goes_on(name, started, error):
                raise
        else:
            outcome = failover.judged(name, started, value, failover.verdict(name, value))
            if outcome is not None:
                return outcome
    return failover.unaccepted()


async def adispatch(
    decision: Decision,
    call: Callable[[str], Awaitable[T]],
    options: DispatchOptions = DEFAULT_OPTIONS,
    *,
    health: Health | None = None,
    checker: Checker[T] | None = None,
) -> Outcome[T]:
    """Do what `dispatch` does, with a call that is awaited.

    A call that takes too long is cancelled; no thread is used.
    """
    failover: Failover[T] = Failover(decision, options, health, checker)
    for name in failover:
        started = perf_counter()
        try:
            seconds, total = failover.remaining_timeout(), failover.remaining_total()
            with attempt_span(name, decision.task):
                value = await within(name, seconds, call(name), at_most=total)
        except BaseException as error:
            if not failover.goes_on(name, started, error):
                raise
        else:
            outcome = failover.judged(name, started, value, await failover.averdict(name, value))
            if outcome is not None:
                return outcome
    return failover.unaccepted()


class Failover(Generic[T]):
    """Iterates over the experts to call, skips open circuits, records attempts.

    An expert that fails is followed by the next one of the decision's order. An answer that is
    rejected is followed only by experts of the plan: beyond it, another attempt is not worth its
    price.

    Attributes:
        tried: every call so far, and every expert that was skipped, in order.
        last_error: exception of the last call.
        task: the decision's task.
        answered_by: the expert that answered.
        accepted: whether the check accepted its answer; None where nothing was checked.
    """

    def __init__(
        self,
        decision: Decision,
        options: DispatchOptions = DEFAULT_OPTIONS,
        health: Health | None = None,
        checker: Checker[T] | None = None,
    ) -> None:
        check = options.answer_check
        if checker is None and check is not None:
            checker = Checker(check, decision.prompt)
        if checker is not None and _is_moot(checker.check, decision, options):
            checker = None
        self.checker = checker
        self.tried: list[Attempt] = []
        self.last_error: BaseException | None = None
        self.answered_by: str | None = None
        self.task = decision.task
        self.accepted: bool | None = None
        self._options = options
        self._order = decision.calls()
        self._attempts_left = options.max_attempts or math.inf
        self._health = health
        self._began = perf_counter()
        plan = decision.plan
        self._planned = (decision.expert,) if plan is None else plan.experts
        self._costs = {} if plan is None else {a.expert: a.cost for a in plan.attempts}
        self._decision = decision
        self._rejected: list[tuple[str, T, Verdict]] = []

    def __iter__(self) -> Iterator[str]:
        while (name := self.next()) is not None:
            yield name

    def next(self) -> str | None:
        """Return the next expert to call; None where no expert, attempt or time is left."""
        if self._attempts_left < 1 or self.out_of_time:
            return None
        for name in self._order:
            if self._rejected and name not in self._planned:
                return None
            refusal = None if self._health is None else self._health.admit(name, self)
            if refusal is None:
                self._attempts_left -= 1
                return name
            self.tried.append(Attempt(name, refusal, 0.0))
        return None

    @property
    def out_of_time(self) -> bool:
        """Whether `total_timeout` is used up."""
        total = self._options.total_timeout
        return total is not None and perf_counter() - self._began >= total

    def remaining_timeout(self) -> float | None:
        """Seconds that the next wait may take; None for ever."""
        timeout, left = self._options.timeout, self.remaining_total()
        if left is None:
            return timeout
        return left if timeout is None else min(left, timeout)

    def remaining_total(self) -> float | None:
        """Seconds that the calls together may still take; None for ever."""
        total = self._options.total_timeout
        return None if total is None else max(0.0, total - (perf_counter() - self._began))

    def skip_time(self, seconds: float) -> None:
        """Do not count time that the reader of a stream took."""
        self._began += seconds

    def goes_on(self, name: str, started: float, error: BaseException) -> bool:
        """Record a call that raised; return False if the error must be raised at once."""
        if not self.is_failure(error):
            self.abandoned(name)
            if isinstance(error, Exception):
                mask_error(error)
            return False
        self.failed(name, started, error)
        return True

    def is_failure(self, error: BaseException) -> bool:
        """Tell whether an error counts as a failure of the expert."""
        return isinstance(error, ExpertTimeoutError) or self._options.is_failure(error)

    def failed(self, name: str, started: float, error: BaseException) -> None:
        """Record that an expert failed."""
        faulty_request = is_request_fault(error)
        # From here on the error goes into records, logs and tracebacks.
        self.last_error = mask_error(error)
        description = describe_error(error)
        self.tried.append(Attempt(name, description, perf_counter() - started))
        if self._health is None:
            return
        if faulty_request:
            # Another request may succeed.
            self._health.abandoned(name, self)
        else:
            self._health.failed(name, description)

    def abandoned(self, name: str) -> None:
        """Record that a call ended without saying anything about its expert."""
        if self._health is not None:
            self._health.abandoned(name, self)

    def answered(self, name: str, started: float, verdict: Verdict | None = None) -> None:
        """Record that an expert answered, or that its first chunk arrived."""
        self.answered_by = name
        attempt = Attempt(name, None, perf_counter() - started, cost=self._costs.get(name))
        self.tried.append(attempt if verdict is None else checked(attempt, verdict))

    def done(self, name: str, seconds: float | None) -> None:
        """Record in the health that an answer is complete, with its seconds if known."""
        if self._health is not None:
            self._health.answered(name, seconds)

    def died(self, started: float, error: BaseException) -> None:
        """Replace the last attempt, whose first chunks had arrived, by a failed one."""
        name = self.tried.pop().expert
        self.failed(name, started, error)

    def cut(self, started: float, error: BaseException) -> None:
        """Record why a stream ended early through no fault of its expert."""
        name = self.tried.pop().expert
        self.tried.append(Attempt(name, describe_error(error), perf_counter() - started))
        self.abandoned(name)

    def verdict(self, name: str, value: T) -> Verdict | None:
        """Check an answer; None without a check."""
        return None if self.checker is None else self.checker.verdict(name, value)

    async def averdict(self, name: str, value: T) -> Verdict | None:
        """Check an answer without blocking; None without a check."""
        return None if self.checker is None else await self.checker.averdict(name, value)

    def judged(
        self,
        name: str,
        started: float,
        value: T,
        verdict: Verdict | None,
        *,
        alone: bool = True,
    ) -> Outcome[T] | None:
        """Record an answer and its verdict; return the outcome unless it was rejected.

        Args:
            name: the expert.
            started: when its call began.
            value: its answer.
            verdict: of the check; None where nothing was checked.
            alone: whether the call was not part of a batch, so that its seconds are of one answer.
        """
        self.answered(name, started, verdict)
        self.done(name, self.tried[-1].seconds if alone else None)
        if verdict is not None and not verdict.accepted:
            self._rejected.append((name, value, verdict))
            return None
        self.accepted = None if verdict is None else True
        return Outcome(value, name, tuple(self.tried), perf_counter() - self._began, self.accepted)

    @property
    def holds_streams(self) -> bool:
        """Whether a stream waits for the check before it sends a chunk."""
        return self.checker is not None and not self._options.stream_unchecked

    def judged_late(self, verdict: Verdict | None) -> None:
        """Record the verdict on a stream that was sent already."""
        if verdict is not None:
            self.tried[-1] = checked(self.tried[-1], verdict)
            self.accepted = verdict.accepted

    def unaccepted(self) -> Outcome[T]:
        """Return the outcome where no answer was accepted.

        Raises:
            DispatchError: there is no answer.
            RejectedError: there are only rejected ones, and the options want an error then.
        """
        if not self._rejected:
            raise self.error() from self.last_error
        if self._options.on_rejected == "raise":
            raise self.rejection()
        name, value = self.best_rejected()
        self.answered_by, self.accepted = name, False
        return Outcome(value, name, tuple(self.tried), perf_counter() - self._began, False)

    def best_rejected(self) -> tuple[str, T]:
        """Return the rejected answer that the check valued most, else the best predicted one's."""
        decision = self._decision
        losses = dict(zip(decision.names, decision.losses.tolist(), strict=True))

        def rank(entry: tuple[str, T, Verdict]) -> tuple[float, float]:
            name, _, verdict = entry
            value = -math.inf if verdict.value is None else verdict.value
            return -value, losses.get(name, math.inf)

        name, value, _ = min(self._rejected, key=rank)
        return name, value

    def rejection(self) -> RejectedError:
        """Return the error that holds every rejected answer."""
        answers = {name: value for name, value, _ in self._rejected}
        names = ", ".join(answers)
        return RejectedError(f"the check rejected every answer: {names}", answers, self.tried)

    def error(self) -> DispatchError:
        """Return the error that lists every attempt."""
        lines = [_line(attempt) for attempt in self.tried]
        count = "the one expert" if len(lines) == 1 else f"each of the {len(lines)} experts"
        message = f"{count} tried failed:{''.join(lines)}"
        if self.out_of_time:
            seconds = self._options.total_timeout
            message += f"\n  the {seconds:.3g} s for the whole dispatch are over"
        return DispatchError(message, self.tried)


def _is_moot(check: Check, decision: Decision, options: DispatchOptions) -> bool:
    """Return whether the verdict of a check that asks other experts cannot change anything."""
    attempts = 1 if decision.plan is None else len(decision.plan.attempts)
    return bool(check.asks) and attempts == 1 and options.on_rejected == "return"


def _line(attempt: Attempt) -> str:
    after = f" (after {attempt.seconds:.2f} s)" if attempt.seconds else ""
    return f"\n  {attempt.expert}: {attempt.error}{after}"
