"""A check: a function that accepts or rejects an answer, and how reliable it is."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, Protocol, runtime_checkable

from tryage.errors import CheckError

Finding = bool | float | None
"""What a check's function returns: accepted or not, a number (higher is better), or None where it
cannot tell."""

ASSUMED_RIGHT = 0.9
"""Chance that a check accepts a right answer, where it is neither stated nor measured."""

ASSUMED_WRONG = 0.1
"""Chance that a check accepts a wrong answer, where it is neither stated nor measured."""


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """An answer that a check looks at.

    Attributes:
        prompt: the text that was routed, without flags.
        answer: the answer's text; the object itself where it is not text.
        expert: name of the expert that answered.
        ask: calls another expert by name with a text, by default the same input, and returns its
            answer's text.
        logprobs: natural logarithms of the probabilities of the answer's tokens, where the expert
            tells them.
    """

    prompt: str = field(repr=False)
    answer: Any = field(repr=False)
    expert: str = ""
    ask: Callable[..., str] | None = None
    logprobs: Sequence[float] | None = None


@runtime_checkable
class Examiner(Protocol):
    """A check's function that needs more than prompt and answer."""

    @property
    def asks(self) -> tuple[str, ...]:
        """Names of the experts that it asks, whose cost is added to the plan's.

        An attribute `asks_again` that is true says that it asks about every answer; else an
        expert's answer to the prompt serves for all of them.
        """

    def examine(self, checked: CheckedAnswer) -> Finding | Awaitable[Finding]:
        """Return what it finds."""


Function = Callable[[str, Any], Finding | Awaitable[Finding]] | Examiner


@dataclass(frozen=True, slots=True)
class Verdict:
    """A check's verdict on one answer.

    Attributes:
        accepted: whether the answer may go out.
        value: the number that the check gave, or None.
        reason: why the answer counts as accepted or rejected although the check was unclear or
            failed; None otherwise.
    """

    accepted: bool
    value: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A function that accepts or rejects answers, and how often it is right.

    Attributes:
        function: ``(prompt, answer) -> bool | float | None``, or a coroutine function. An
            `Examiner` gets a `CheckedAnswer` instead.
        accepts_right: chance that it accepts a right answer, in [0, 1]. None: what the router
            measured (`Router.measure_check`), else `ASSUMED_RIGHT`.
        accepts_wrong: chance that it accepts a wrong answer, in [0, 1]. None: as above.
        name: its name in records and measured rates; by default the function's.
        threshold: a number from this on is accepted.
        unclear: what None means.
        on_error: what an exception or a time-out of the function means.
        timeout: seconds that it may take; None waits for ever.
        checks_tools: whether answers that call a tool are checked; by default they pass.

    Raises:
        CheckError: the function cannot be called, or a value is out of range.
    """

    function: Function = field(kw_only=False)
    accepts_right: float | None = None
    accepts_wrong: float | None = None
    name: str = ""
    threshold: float = 0.5
    unclear: Literal["accept", "reject"] = "accept"
    on_error: Literal["accept", "reject"] = "reject"
    timeout: float | None = None
    checks_tools: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function) and not isinstance(self.function, Examiner):
            kind = type(self.function).__name__
            raise CheckError(f"a check is a function (prompt, answer) -> bool, not {kind}")
        for key in ("accepts_right", "accepts_wrong"):
            rate = getattr(self, key)
            if rate is not None and not (_is_number(rate) and 0 <= rate <= 1):
                raise CheckError(f"{key} is {rate!r}; it is a chance from 0 to 1, or None")
        for key in ("unclear", "on_error"):
            if getattr(self, key) not in ("accept", "reject"):
                raise CheckError(f"{key} is {getattr(self, key)!r}; it is 'accept' or 'reject'")
        if self.timeout is not None and not (_is_number(self.timeout) and self.timeout > 0):
            raise CheckError(f"timeout is {self.timeout!r}; it is above 0 seconds, or None")
        if not self.name:
            source = self.function if hasattr(self.function, "__name__") else type(self.function)
            object.__setattr__(self, "name", source.__name__)

    @classmethod
    def of(cls, check: Check | Function) -> Check:
        """Return the check, or one made of a function."""
        return check if isinstance(check, Check) else cls(check)

    @property
    def asks(self) -> tuple[str, ...]:
        """Names of the experts that it asks."""
        return self.function.asks if isinstance(self.function, Examiner) else ()

    @property
    def asks_again(self) -> bool:
        """Whether it asks them about every answer, not once for the prompt."""
        return bool(getattr(self.function, "asks_again", False))

    @property
    def is_async(self) -> bool:
        """Whether its function is a coroutine function."""
        function = self.function
        inner = function.examine if isinstance(function, Examiner) else function
        call = getattr(inner, "__call__", inner)  # noqa: B004 - an object with such a method
        return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(call)

    @property
    def compares(self) -> bool:
        """Whether it compares answers with those of the experts that it asks."""
        return bool(getattr(self.function, "compares", False))

    def find(self, checked: CheckedAnswer) -> Finding | Awaitable[Finding]:
        """Call the function."""
        if isinstance(self.function, Examiner):
            return self.function.examine(checked)
        return self.function(checked.prompt, checked.answer)

    def verdict(self, finding: Any) -> Verdict:
        """Return the verdict that a finding stands for.

        Raises:
            CheckError: it is neither a truth value nor a number nor None.
        """
        if finding is None:
            accepted = self.unclear == "accept"
            return Verdict(accepted, reason=f"{self.name} could not tell")
        if isinstance(finding, bool) or type(finding).__name__ == "bool_":
            return Verdict(bool(finding), float(finding))
        if _is_number(finding) and finding == finding:
            return Verdict(bool(finding >= self.threshold), float(finding))
        raise CheckError(
            f"check {self.name!r} returned {finding!r}; it returns True, False, a number or None"
        )

    def failed(self, description: str) -> Verdict:
        """Return the verdict where the function raised or took too long."""
        return Verdict(self.on_error == "accept", reason=f"{self.name} failed: {description}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
