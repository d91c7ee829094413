"""A plan: the experts to try until a check accepts an answer, and its expected outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.drawing.notebook import html_table
from tryage.plans.nodes import Nodes

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlannedAttempt:
    """One attempt of a plan.

    Attributes:
        expert: its name.
        reached: chance that it is made: that every attempt before it is rejected.
        loss: predicted loss of the expert, lower is better.
        cost: USD of the attempt, including the experts that the check asks; None if unknown.
    """

    expert: str
    reached: float
    loss: float
    cost: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "expert": self.expert,
            "reached": self.reached,
            "loss": self.loss,
            "cost": self.cost,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """The experts to try, in order, until a check accepts an answer.

    Attributes:
        attempts: one or more; a plan of one is a plain decision.
        loss: expected loss of the answer that goes out.
        cost: expected USD of all attempts; None where a price is not known.
        accepted: chance that some answer is accepted.
        total: expected loss plus weighted goals.
        check: name of the check.
        accepts_right: chance that the check accepts a right answer of the first expert.
        accepts_wrong: chance that it accepts a wrong one.
        assumed: whether these rates are neither stated nor measured.
    """

    attempts: tuple[PlannedAttempt, ...]
    loss: float
    cost: float | None
    accepted: float
    total: float
    check: str
    accepts_right: float
    accepts_wrong: float
    assumed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "attempts", tuple(self.attempts))  # restored ones come as a list

    @property
    def experts(self) -> tuple[str, ...]:
        """Names of the experts, in the order in which they are tried."""
        return tuple(attempt.expert for attempt in self.attempts)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "attempts": [attempt.to_dict() for attempt in self.attempts],
            "loss": self.loss,
            "cost": self.cost,
            "accepted": self.accepted,
            "total": self.total,
            "check": {
                "name": self.check,
                "accepts_right": self.accepts_right,
                "accepts_wrong": self.accepts_wrong,
                "assumed": self.assumed,
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_dict` returned.

        Raises:
            KeyError, TypeError: something is missing, or unknown.
        """
        check = {**data["check"]}
        fields = {name: data[name] for name in ("loss", "cost", "accepted", "total")}
        attempts = tuple(PlannedAttempt(**attempt) for attempt in data["attempts"])
        return cls(attempts, check=check.pop("name"), **fields, **check)

    def _repr_html_(self) -> str:
        rows = [
            (
                attempt.expert,
                f"{attempt.reached:.0%}",
                f"{attempt.loss:.4f}",
                "–" if attempt.cost is None else _usd(attempt.cost),
            )
            for attempt in self.attempts
        ]
        head = ["attempt", "reached", "predicted loss", "cost"]
        return html_table(self.explain()[0], head, rows)

    def explain(self) -> list[str]:
        """Return the plan as printable lines: one for the whole, and one for each attempt."""
        rates = f"accepts {self.accepts_right:.0%} of right and {self.accepts_wrong:.0%} of wrong"
        source = ", assumed" if self.assumed else ""
        cost = "" if self.cost is None else f", {_usd(self.cost)}"
        lines = [
            f"Plan: expected loss {self.loss:.4f}{cost}; check {self.check} ({rates}{source}) "
            f"accepts an answer in {self.accepted:.0%} of cases"
        ]
        for number, attempt in enumerate(self.attempts, 1):
            price = "" if attempt.cost is None else f", {_usd(attempt.cost)}"
            lines.append(
                f"  {number}. {attempt.expert}  reached {attempt.reached:.0%}, "
                f"loss {attempt.loss:.4f}{price}"
            )
        return lines


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected outcome of a plan.

    Attributes:
        reached: chance of every attempt being made, in the plan's order.
        goes_out: chance of every expert's answer going out, in the plan's order.
        loss: expected loss of the answer that goes out.
        accepted: chance that some answer is accepted.
    """

    reached: tuple[float, ...]
    goes_out: tuple[float, ...]
    loss: float
    accepted: float


def expect(columns: Sequence[int], losses: Array, nodes: Nodes) -> Expected:
    """Return the expected outcome of a plan.

    Args:
        columns: of its experts, in the order in which they are tried.
        losses: (m,) predicted losses in [0, 1].
        nodes: cases in which the m experts are independent.
    """
    chosen = list(columns)
    wrong = 1.0 - nodes.right[chosen]  # (k, cases)
    if len(chosen) == 1:  # the only answer goes out, whatever the check says
        accepted = float(nodes.accepted[chosen[0]] @ nodes.weights)
        return Expected((1.0,), (1.0,), float(wrong[0] @ nodes.weights), accepted)
    yes_wrong, accepted_by = nodes.accepts_wrong[chosen], nodes.accepted[chosen]
    rejected = 1.0 - accepted_by
    before = np.vstack([np.ones(rejected.shape[1]), np.cumprod(rejected, axis=0)])
    fallback = int(np.argmin(losses[chosen]))
    others = np.prod(np.delete(rejected, fallback, axis=0), axis=0)
    goes_out = before[:-1] * accepted_by
    goes_out[fallback] += before[-1]
    lost = before[:-1] * yes_wrong * wrong
    lost[fallback] += others * (1.0 - yes_wrong[fallback]) * wrong[fallback]
    return Expected(
        tuple((before[:-1] @ nodes.weights).tolist()),
        tuple((goes_out @ nodes.weights).tolist()),
        float(lost.sum(axis=0) @ nodes.weights),
        1.0 - float(before[-1] @ nodes.weights),
    )


def _usd(cost: float) -> str:
    return f"{1000 * cost:.4g} USD per 1000"
