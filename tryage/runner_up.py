"""What would have to change for the runner-up to win: the least loss, and the least weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tryage.decision import Decision
from tryage.goals import find_goal
from tryage.goals.base import MOST_WEIGHT
from tryage.objective import Objective

_TIED = 1e-12


@dataclass(frozen=True, slots=True)
class WeightChange:
    """A weight from which the runner-up wins, all else as it is.

    Attributes:
        goal: whose weight it is.
        now: the weight that acted.
        needed: the nearest weight with which no eligible expert has a lower total than it.
    """

    goal: str
    now: float
    needed: float


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """The eligible expert with the lowest total after the chosen one.

    Attributes:
        expert: its name.
        chosen: the expert that was chosen.
        margin: how much higher its total is.
        loss: its predicted loss; None where nothing is measured.
        weights: changes of a single weight with which it wins, the smallest change first; empty
            where no weight brings that about.
    """

    expert: str
    chosen: str
    margin: float
    loss: float | None
    weights: tuple[WeightChange, ...]

    @property
    def needed_loss(self) -> float | None:
        """The predicted loss below which it wins; None where nothing is measured."""
        return None if self.loss is None else self.loss - self.margin

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "expert": self.expert,
            "margin": self.margin,
            "loss": self.loss,
            "needed_loss": self.needed_loss,
            "weights": [
                {"goal": change.goal, "now": change.now, "needed": change.needed}
                for change in self.weights
            ],
        }

    def explain(self) -> str:
        """Return it as one printable sentence or two."""
        ways = []
        if self.loss is not None and self.needed_loss is not None:
            ways.append(f"a predicted loss below {self.needed_loss:.4f} ({self.loss:.4f} now)")
        if self.weights:
            change = self.weights[0]
            side = "above" if change.needed > change.now else "below"
            ways.append(f"{change.goal} weighed {side} {change.needed:.4g} ({change.now:.4g} now)")
        text = f"Runner-up: {self.expert}, whose total is {self.margin:.4f} higher."
        if ways:
            text += f" It would win with {', or with '.join(ways)}."
        return text if self.weights else f"{text} No weight of a single goal makes it win."


def runner_up(decision: Decision, objective: Objective) -> RunnerUp | None:
    """Return the runner-up of a decision; None for a plan, or where no other expert is eligible.

    Args:
        decision: of a router with this objective.
        objective: scales of its goals.
    """
    eligible = [name for name in decision.order if name != decision.expert]
    if decision.plan is not None or not eligible:
        return None
    place = {name: column for column, name in enumerate(decision.names)}
    chosen, second = place[decision.expert], place[eligible[0]]
    columns = np.array([place[name] for name in decision.order])
    totals = decision.totals
    changes = []
    for name, values in decision.values.items():
        goal = decision.goals.get(name) or find_goal(name)
        if goal is None or (goal.missing == "error" and np.isnan(values[columns]).any()):
            continue
        now = float(decision.weights.get(name, 0.0))
        added = objective.unit_penalty(goal, decision.task, values)
        needed = _nearest(totals[columns], added[columns], totals[second], added[second], now)
        if needed is not None:
            changes.append(WeightChange(name, now, needed))
    return RunnerUp(
        expert=decision.names[second],
        chosen=decision.expert,
        margin=float(totals[second] - totals[chosen]),
        loss=float(decision.losses[second]) if decision.measured else None,
        weights=tuple(sorted(changes, key=lambda change: abs(change.needed - change.now))),
    )


def _nearest(
    totals: Any, added: Any, own_total: float, own_added: float, now: float
) -> float | None:
    """Return the weight nearest to `now` with which no total is below the expert's own.

    With another weight w, total i is ``totals[i] + (w - now) * added[i]``.
    """
    low, high = -now, MOST_WEIGHT - now
    for total, rate in zip(
        (totals - own_total).tolist(), (own_added - added).tolist(), strict=True
    ):
        # The expert is no worse than this one where step * rate <= total.
        if abs(rate) <= _TIED:
            if total < -_TIED:
                return None
        elif rate > 0:
            high = min(high, total / rate)
        else:
            low = max(low, total / rate)
    if low > high:
        return None
    return now + (low if low > 0 else min(high, 0.0))
