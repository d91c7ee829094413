"""Goals: what to minimise besides loss, in which unit, and on which scale.

A goal turns a library into one value per expert, lower is better. A `Scale`, fixed when a router
is fitted, maps these values to [0, 1] between the library's best and its worst, so that a weight
means the same on every goal: how much of the loss spread one gives up to go from the library's
worst expert to its best on that goal.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.errors import GoalError, did_you_mean
from tryage.library import Expert, Library
from tryage.limits import Limit, parse_limits
from tryage.units import format_count

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Goal:
    """One thing to minimise.

    Attributes:
        name: the word for it in `Goals`, flags and decisions.
        unit: unit of its values.
        attribute: the attribute of an expert that it is read from.
        read: expert and reference date → value, lower is better; NaN where not stated.
        log: whether the scale is logarithmic.
        format: value → text for people.
    """

    name: str
    unit: str
    attribute: str
    read: Callable[[Expert, datetime.date], float]
    log: bool
    format: Callable[[float], str]

    def values(self, library: Library, reference: datetime.date) -> Array:
        """Return the value of every expert.

        Args:
            library: m experts.
            reference: the day that ages are counted from.

        Returns:
            float64 (m,), in the goal's unit, lower is better, NaN where not stated.
        """
        return np.array([self.read(expert, reference) for expert in library], dtype=np.float64)

    def fit(self, values: Array) -> Scale:
        """Fix the scale: 0 at the lowest value, 1 at the highest."""
        known = self._axis(values[~np.isnan(values)])
        if not known.size:
            return Scale(0.0, 0.0)
        return Scale(float(known.min()), float(known.max()))

    def scaled(self, values: Array, scale: Scale) -> Array:
        """Map values to the scale.

        Args:
            values: (m,) in the goal's unit.
            scale: what `fit` returned, perhaps for a library with other experts.

        Returns:
            float64 (m,): 0 is the fitted library's best and 1 its worst; experts beyond its range
            fall outside [0, 1]. A value that is not stated counts as the worst, 1.
        """
        width = scale.high - scale.low
        if width <= 0:
            return np.where(np.isnan(values), 1.0, 0.0)
        return np.nan_to_num((self._axis(values) - scale.low) / width, nan=1.0)

    def _axis(self, values: Array) -> Array:
        return np.log(values) if self.log else values


@dataclass(frozen=True, slots=True)
class Scale:
    """Ends of a goal's scale, on the goal's axis (the logarithm of the value where it is log)."""

    low: float
    high: float


def _size(expert: Expert, _reference: datetime.date) -> float:
    return float(expert.parameters) if expert.parameters is not None else math.nan


def _age(expert: Expert, reference: datetime.date) -> float:
    return float((reference - expert.released).days) if expert.released is not None else math.nan


GOALS: Mapping[str, Goal] = {
    "size": Goal("size", "parameters", "parameters", _size, log=True, format=format_count),
    "recency": Goal(
        "recency", "days older than the newest", "released", _age, False, lambda v: f"{v:.0f} d"
    ),
}
"""Every goal, by name."""


def reference_date(library: Library) -> datetime.date:
    """Return the day that ages are counted from: the newest expert's release.

    A date taken from the library, not from the clock, keeps decisions reproducible.
    """
    dates = [expert.released for expert in library if expert.released is not None]
    return max(dates, default=datetime.date.min)


@dataclass(frozen=True, init=False)
class Goals:
    """What one call wants: weights on goals, and limits.

    Args:
        limits: attribute → condition, e.g. ``{"parameters": "<=3B", "license": ["mit"]}``.
        **weights: goal → λ ≥ 0, in units of the training table's loss spread.

    Raises:
        GoalError: unknown goal or limit, negative or non-finite weight, unit that does not fit.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()

    def __init__(
        self,
        *,
        limits: Mapping[str, Any] | Iterable[Limit | str] = (),
        **weights: float,
    ) -> None:
        object.__setattr__(self, "weights", check_weights(weights))
        object.__setattr__(self, "limits", parse_limits(limits))

    def __hash__(self) -> int:
        return hash((tuple(self.weights.items()), self.limits))


def check_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights as floats.

    Raises:
        GoalError: a goal is unknown, or a weight is negative or not a finite number.
    """
    checked = {}
    for name, weight in weights.items():
        if name not in GOALS:
            hint = did_you_mean(name, GOALS) or f" Known: {', '.join(GOALS)}."
            raise GoalError(f"unknown goal {name!r}.{hint}")
        try:
            value = float(weight)
        except (TypeError, ValueError):
            raise GoalError(f"the weight of {name} is {weight!r}, not a number") from None
        if not math.isfinite(value) or value < 0:
            raise GoalError(f"the weight of {name} is {value:g}; a weight is a number >= 0")
        checked[name] = value
    return checked
