"""The objective: predicted losses and goals become one total per expert, lower is better.

``total_i = loss_i + Σ_j λ_j · spread · scaled_j(i)`` over the eligible experts, where `scaled_j`
is goal j on its fixed scale and `spread` the 5th-to-95th-percentile width of the losses the router
was fitted on. (The paper gives λ no unit; this one makes a weight mean the same everywhere.)
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.goals import GOALS, Scale, reference_date
from tryage.library import Library
from tryage.limits import Limit

Array = NDArray[np.float64]

TIE = 1e-9
"""Totals closer than this are equal; the cheaper expert wins, then the first name."""


def loss_spread(losses: Array) -> float:
    """Return the 5th-to-95th-percentile width of measured losses.

    Args:
        losses: (n_prompts, n_experts), NaN where not measured, lower is better.

    Returns:
        The width in the unit of the losses; 1 where they are all equal, so that weights still act.
    """
    low, high = np.nanpercentile(losses, [5, 95])
    return float(high - low) or 1.0


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Who may answer: `mask` (m,) and, for everybody else, the reason."""

    mask: NDArray[np.bool_]
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Objective:
    """Goals and limits of one library, on scales that are fixed when a router is fitted.

    Attributes:
        library: m experts, the columns of every array here.
        reference: the day ages are counted from.
        scales: goal → scale, for the goals that some expert states a value of.
        spreads: task → width of the losses fitted on.
        unavailable: expert → why it may not be chosen, whatever the limits.
        values: goal → (m,) in the goal's unit, NaN where not stated.
        scaled: goal → (m,) on the goal's scale.
        tie_rank: (m,) place of every expert by price, then name.
    """

    library: Library
    reference: datetime.date
    scales: Mapping[str, Scale]
    spreads: Mapping[str, float]
    unavailable: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Array] = field(init=False, repr=False, compare=False)
    scaled: Mapping[str, Array] = field(init=False, repr=False, compare=False)
    tie_rank: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    _known: dict[tuple[str, tuple[Limit, ...]], Eligibility] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        values = {name: GOALS[name].values(self.library, self.reference) for name in self.scales}
        scaled = {name: GOALS[name].scaled(values[name], self.scales[name]) for name in values}
        object.__setattr__(self, "values", MappingProxyType(values))
        object.__setattr__(self, "scaled", MappingProxyType(scaled))
        object.__setattr__(self, "tie_rank", _tie_rank(self.library))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it was made of; the views of its mappings cannot be."""
        return type(self), tuple(getattr(self, f.name) for f in fields(self) if f.init)

    @classmethod
    def fit(cls, library: Library, spreads: Mapping[str, float]) -> Objective:
        """Fix the scales of every goal on a library."""
        reference = reference_date(library)
        scales = {}
        for name, goal in GOALS.items():
            values = goal.values(library, reference)
            if not np.isnan(values).all():
                scales[name] = goal.fit(values)
        return cls(library, reference, scales, dict(spreads))

    def penalties(self, weights: Mapping[str, float], task: str) -> Array:
        """Return what the goals add to every expert's loss: float64 (m,), in units of loss."""
        added = np.zeros(len(self.library))
        for goal, weight in weights.items():
            # A goal of which no expert states a value counts as worst for all, so it decides
            # nothing.
            added += weight * self.spreads.get(task, 1.0) * self.scaled.get(goal, 1.0)
        return added

    def eligibility(self, task: str, limits: tuple[Limit, ...]) -> Eligibility:
        """Return who does the task, is available and keeps every limit.

        Raises:
            GoalError: an expert of the task does not state an attribute that a limit is on.
        """
        key = (task, limits)
        found = self._known.get(key)
        if found is None:
            found = self._eligibility(task, limits)
            # Users can write limits, so the memory of them is bounded.
            if len(self._known) >= 256:
                self._known.clear()
            self._known[key] = found
        return found

    def choose(self, totals: Array) -> NDArray[np.intp]:
        """Return the column of the lowest total of every row, ties by price and then name.

        Args:
            totals: (n, m), inf where an expert is not eligible; each row has a finite one.

        Returns:
            (n,) columns.
        """
        near = totals <= totals.min(axis=1, keepdims=True) + TIE
        chosen: NDArray[np.intp] = np.where(near, self.tie_rank, len(self.library)).argmin(axis=1)
        return chosen

    def _eligibility(self, task: str, limits: tuple[Limit, ...]) -> Eligibility:
        reasons: dict[str, str] = {}
        for expert in self.library:
            if expert.task != task:
                reasons[expert.name] = f"its task is {expert.task}, the prompt asks for {task}"
            elif expert.name in self.unavailable:
                reasons[expert.name] = self.unavailable[expert.name]
            else:
                broken = (limit.reason_against(expert) for limit in limits)
                told = [reason for reason in broken if reason is not None]
                if told:
                    reasons[expert.name] = "; ".join(told)
        mask = np.array([name not in reasons for name in self.library.names])
        return Eligibility(mask, MappingProxyType(reasons))

    def to_dict(self) -> dict[str, Any]:
        """Return scales and spreads as JSON types."""
        scales = {name: {"low": s.low, "high": s.high} for name, s in self.scales.items()}
        return {
            "reference": self.reference.isoformat(),
            "scales": scales,
            "spreads": dict(self.spreads),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], library: Library) -> Objective:
        """Rebuild an objective from `to_dict`."""
        scales = {name: Scale(s["low"], s["high"]) for name, s in data["scales"].items()}
        reference = datetime.date.fromisoformat(data["reference"])
        return cls(library, reference, scales, dict(data["spreads"]))


def _tie_rank(library: Library) -> NDArray[np.int64]:
    def key(column: int) -> tuple[float, str]:
        price = library.experts[column].price
        cost = (price.input + price.output) / price.per if price else float("inf")
        return cost, library.experts[column].name

    rank = np.empty(len(library), dtype=np.int64)
    rank[sorted(range(len(library)), key=key)] = np.arange(len(library))
    return rank
