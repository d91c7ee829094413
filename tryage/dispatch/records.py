"""Records of a dispatch: attempts, the outcome, and both joined with the decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, Protocol, Self, TypeVar

from tryage.checks import Verdict
from tryage.decision import AbsentText, Decision
from tryage.decision_json import decision_fields
from tryage.deferred import NOT_YET
from tryage.errors import DecisionError, ExpertError
from tryage.masking import hide_secrets

T = TypeVar("T")

_LONGEST_ERROR = 400


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one expert.

    Attributes:
        expert: its name.
        error: type and first line of its exception, without secrets; None if it answered. For an
            expert that was skipped because its circuit is open: the reason.
        seconds: until it answered or failed; of a complete stream, until its first chunk.
        accepted: whether the check accepted the answer; None where nothing was checked.
        value: the number that the check gave, or None.
        reason: why the verdict is unclear, or None.
        cost: predicted USD of a planned attempt; None if unknown.
    """

    expert: str
    error: str | None
    seconds: float
    accepted: bool | None = None
    value: float | None = None
    reason: str | None = None
    cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types; the keys of a check only where one ran."""
        row: dict[str, Any] = {
            "expert": self.expert,
            "error": self.error,
            "seconds": self.seconds,
        }
        if self.cost is not None:
            row["cost"] = self.cost
        if self.accepted is not None:
            row |= {"accepted": self.accepted, "value": self.value}
        return row if self.reason is None else row | {"reason": self.reason}


def checked(attempt: Attempt, verdict: Verdict) -> Attempt:
    """Return an attempt with the verdict on its answer."""
    return replace(attempt, accepted=verdict.accepted, value=verdict.value, reason=verdict.reason)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """The outcome of a dispatch.

    Attributes:
        value: what the expert's call returned.
        answered_by: name of the expert that answered.
        tried: every call, in order. The last is the one that answered, unless no answer was
            accepted.
        seconds: of the whole dispatch.
        accepted: whether the check accepted the answer; None where nothing was checked.
    """

    value: T
    answered_by: str
    tried: tuple[Attempt, ...]
    seconds: float
    accepted: bool | None = None


class Dispatch(Protocol):
    """What `Outcome`, `Stream` and `AsyncStream` have in common: the calls that were made."""

    @property
    def answered_by(self) -> str | None:
        """Name of the expert that answered; None if none has yet."""

    @property
    def tried(self) -> tuple[Attempt, ...]:
        """Every call, in order."""

    @property
    def accepted(self) -> bool | None:
        """Whether the check accepted the answer; None where nothing was checked."""


@dataclass(frozen=True, slots=True, eq=False)
class DispatchedDecision(Decision):
    """A decision with the record of its dispatch.

    Attributes:
        tried: every call, in order.
        answered_by: the expert that answered; `expert` stays the decision's own choice.
        accepted: whether the check accepted the answer; None where nothing was checked.
    """

    tried: tuple[Attempt, ...]
    answered_by: str | None
    accepted: bool | None = None

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Return JSON types: the decision's keys, `tried` and `answered_by`."""
        # dataclass(slots=True) creates a new class, so that a bare super() would fail.
        row = Decision.to_dict(self, top) | {
            "tried": [attempt.to_dict() for attempt in self.tried],
            "answered_by": self.answered_by,
        }
        return row if self.accepted is None else row | {"accepted": self.accepted}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Do what `Decision.from_dict` does, with the record of the calls."""
        try:
            tried = tuple(Attempt(**attempt) for attempt in data["tried"])
        except (KeyError, TypeError) as error:
            raise DecisionError(
                "this is no decision in JSON with the record of its calls: "
                f"{type(error).__name__}: {error}"
            ) from error
        return cls(
            text=AbsentText(),
            **decision_fields(data),
            tried=tried,
            answered_by=data.get("answered_by"),
            accepted=data.get("accepted"),
        )

    def explain(self, top: int | None = None) -> str:
        """Return the decision as printable text, with the calls that failed."""
        lines = [line for attempt in self.tried if (line := _explained(attempt))]
        if lines and self.answered_by:
            unaccepted = " (no answer was accepted)" if self.accepted is False else ""
            lines.append(f"Answered by {self.answered_by}{unaccepted}")
        return "\n".join([Decision.explain(self, top), *lines])


def record(decision: Decision, dispatched: Dispatch) -> DispatchedDecision:
    """Join a decision and the record of its dispatch."""
    deferred = decision.deferred
    later = () if deferred is None else deferred.make
    parts: dict[str, Any] = dict.fromkeys(later, NOT_YET)
    for field in fields(Decision):
        if field.name not in later:
            parts[field.name] = getattr(decision, field.name)
    joined = DispatchedDecision(
        **parts,
        tried=dispatched.tried,
        answered_by=dispatched.answered_by,
        accepted=dispatched.accepted,
    )
    return joined if deferred is None else joined.defer(deferred)


def _explained(attempt: Attempt) -> str | None:
    """Return the line of an attempt that did not answer, None for one that did."""
    if attempt.error:
        return f"Tried: {attempt.expert} failed with {attempt.error}"
    if attempt.accepted is False:
        value = "" if attempt.value is None else f", value {attempt.value:.3g}"
        return f"Tried: {attempt.expert}'s answer was rejected{value}"
    return None


def nothing(name: str) -> ExpertError:
    """Return the error of an expert that returned None."""
    return ExpertError(f"{name} returned nothing")


def present(name: str, answer: T | None) -> T:
    """Return an expert's answer; None is a failure of the expert.

    Raises:
        ExpertError: it returned None.
    """
    if answer is None:
        raise nothing(name)
    return answer


def describe_error(error: BaseException) -> str:
    """Return type and first line of an error, at most 400 characters, secrets masked.

    Decisions carry this text into logs and traces, where a key that a client's message repeats
    must not follow. Half characters, which neither files nor consoles take, are replaced.
    """
    line = hide_secrets(str(error).strip().partition("\n")[0])
    line = line.encode("utf-8", "replace").decode("utf-8")
    name = type(error).__name__
    text = f"{name}: {line}" if line else name
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"
