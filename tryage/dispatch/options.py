"""Options of a dispatch: how many experts it tries, on which errors, and for how long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

from tryage.checks import Check, Function
from tryage.dispatch.health import Breaker
from tryage.errors import MissingExtraError

Errors = tuple[type[BaseException], ...]
Failures = Errors | Callable[[BaseException], bool]
"""Exceptions that count as a failure of the expert, or a function that decides it."""

NEVER_FAILURES: Errors = (
    asyncio.CancelledError,
    GeneratorExit,
    KeyboardInterrupt,
    SystemExit,
    MissingExtraError,
)
"""Never a failure of one expert: the caller ends the call, or an extra is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchOptions:
    """How many experts a dispatch tries, on which errors, and for how long.

    Attributes:
        max_attempts: experts to try at most for one prompt; None tries every eligible one.
        errors: exceptions on which the next expert is tried, or a function that tells whether an
            exception is one; others are raised at once. A time-out always counts.
        timeout: seconds that one call, or the wait for one chunk of a stream, may take before the
            next expert is tried; None waits indefinitely. A blocking call then runs in its own
            thread, see `dispatch`. A stream that has begun ends with `ExpertTimeoutError` instead.
        total_timeout: seconds that all calls for one prompt may take together. The time that a
            reader of a stream takes between chunks does not count.
        breaker: skips an expert that keeps failing for a while; True for a default `Breaker`, False
            or None for none. Its state is kept in a `Health`.
        check: accepts or rejects answers: a function ``(prompt, answer) -> bool | float | None`` or
            a `tryage.checks.Check`. A rejected answer goes to the next expert of the decision's
            plan. None accepts every answer.
        on_rejected: what happens if no answer is accepted: ``"return"`` returns the one with the
            highest value of the check, else that of the expert with the least predicted loss;
            ``"raise"`` raises `RejectedError` with all of them.
        stream_unchecked: whether a stream sends chunks before the check has accepted the answer.
            Then the first attempt is sent, and the verdict is recorded at its end.
        keep_verdicts: whether verdicts are stored as feedback, see `Router.with_feedback`, so that
            the router learns from them at the next fit.

    Raises:
        TypeError: `errors` or `breaker` is of a wrong type.
        ValueError: a number is out of range.
    """

    max_attempts: int | None = None
    errors: Failures = (Exception,)
    timeout: float | None = None
    total_timeout: float | None = None
    breaker: bool | Breaker | None = None
    check: Check | Function | None = None
    on_rejected: Literal["return", "raise"] = "return"
    stream_unchecked: bool = False
    keep_verdicts: bool = False

    def __post_init__(self) -> None:
        attempts = self.max_attempts
        if attempts is not None and not (_is(attempts, Integral) and attempts >= 1):
            raise ValueError(
                f"max_attempts is {attempts!r}; it is a whole number, at least 1, or None for all"
            )
        for name in ("timeout", "total_timeout"):
            seconds = getattr(self, name)
            is_time = _is(seconds, Real) and 0 < seconds <= threading.TIMEOUT_MAX
            if seconds is not None and not is_time:
                raise ValueError(
                    f"{name} is {seconds!r}; it is above 0 seconds, or None for no limit"
                )
        for name in ("stream_unchecked", "keep_verdicts"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}; it is True or False")
        if not isinstance(self.breaker, bool | Breaker | None):
            kind = type(self.breaker).__name__
            raise TypeError(f"breaker is of type {kind}; it is True, False, a Breaker, or None")
        if self.on_rejected not in ("return", "raise"):
            raise ValueError(f"on_rejected is {self.on_rejected!r}; it is 'return' or 'raise'")
        object.__setattr__(self, "errors", _checked_errors(self.errors))
        if self.check is not None:
            object.__setattr__(self, "check", Check.of(self.check))

    @property
    def answer_check(self) -> Check | None:
        """The check that `check` stands for; None for none."""
        return None if self.check is None else Check.of(self.check)

    @property
    def circuit_breaker(self) -> Breaker | None:
        """The breaker that `breaker` stands for; None for none."""
        if isinstance(self.breaker, Breaker):
            return self.breaker
        return Breaker() if self.breaker else None

    def is_failure(self, error: BaseException) -> bool:
        """Return whether an exception is a failure of one expert, so that the next one is tried."""
        if isinstance(error, NEVER_FAILURES):
            return False
        if isinstance(self.errors, tuple):
            return isinstance(error, self.errors)
        return self.errors(error)


def _checked_errors(errors: Any) -> Failures:
    """Return exceptions as a tuple, or the function.

    Raises:
        TypeError: it is something else.
    """
    if callable(errors) and not isinstance(errors, type):
        function: Failures = errors
        return function
    kinds = tuple(errors) if isinstance(errors, list | tuple | set | frozenset) else (errors,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return kinds
    raise TypeError(f"errors is {errors!r}; it is a tuple of exception classes")


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


DEFAULT_OPTIONS = DispatchOptions()
"""Every eligible expert, on any exception, for as long as it takes."""
