"""What a goal is: one value per expert, lower is better, and the scale that makes it comparable.

A `Scale`, fixed when a router is fitted, maps values to [0, 1] between the library's best and its
worst, so that a weight means the same on every goal: how much of the loss spread one gives up to
go from the library's worst expert to its best on that goal.
"""

from __future__ import annotations

import abc
import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from tryage.characters import short
from tryage.errors import GoalError
from tryage.experts import Expert
from tryage.library import Library

Array = NDArray[np.float64]

PROMPT_TOKENS = 250.0
"""Characters of a prompt that nothing is known of."""

MOST_WEIGHT = 1e6
"""A weight above which nothing but its goal counts anyway; more could only overflow."""

_TINIEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class GoalInputs:
    """What goals may look at besides the library, for n prompts and m experts.

    Attributes:
        reference: the day that ages are counted from.
        prompt_tokens: (n,) estimated tokens of everything that is sent with every prompt.
        targets: target → (n, m) predicted (or measured) values in the target's unit: "cost"
            (USD), "response_chars", "readability" (grade), "latency" (s). NaN where an expert was
            never measured; a target that nothing was measured of is missing.
        observed: expert → seconds that its calls took of late.
    """

    reference: datetime.date
    prompt_tokens: Array = field(default_factory=lambda: np.array([PROMPT_TOKENS]))
    targets: Mapping[str, Array] = field(default_factory=dict)
    observed: Mapping[str, float] = field(default_factory=dict)

    @property
    def longest(self) -> float:
        """Tokens of the longest prompt; 0 without prompts."""
        tokens = self.prompt_tokens
        return float(tokens[0] if len(tokens) == 1 else tokens.max(initial=0.0))

    def row(self, number: int) -> GoalInputs:
        """Return the inputs for one prompt."""
        if len(self.prompt_tokens) == 1:
            return self
        part = slice(number, number + 1)
        targets = {name: values[part] for name, values in self.targets.items()}
        return GoalInputs(self.reference, self.prompt_tokens[part], targets, self.observed)


@dataclass(frozen=True, slots=True)
class Scale:
    """Ends of a goal's scale, on the goal's axis (the logarithm of the value where it is log)."""

    low: float
    high: float


class Goal(abc.ABC):
    """One thing to minimise. A subclass names it and gives every expert a value.

    Override `value` where the value depends on the expert alone, or `values` where it depends on
    inputs such as predictions for the prompt.

    Attributes:
        name: its name in weights, flags and decisions.
        unit: unit of its values.
        log: whether the scale is logarithmic.
        adds_up: whether attempts on the same prompt add up, as costs do; else the value is that of
            the expert whose answer goes out. Such a goal is 0 or more and has no log scale.
        missing: what a value that is not stated (NaN) means to a weight: the ``"worst"`` of the
            scale, or an ``"error"``.
        weight: λ ≥ 0, where the goal is handed to `Goals(custom=...)`.

    Args:
        weight: λ ≥ 0, in units of the training table's loss spread.
    """

    name: str
    unit: str
    log: ClassVar[bool] = False
    adds_up: ClassVar[bool] = False
    missing: ClassVar[Literal["worst", "error"]] = "worst"

    def __init__(self, weight: float = 0.0) -> None:
        self.weight = weight

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.weight:g})"

    def value(self, expert: Expert) -> float:
        """Return an expert's value in the goal's unit, lower is better; NaN where not stated."""
        raise NotImplementedError(f"goal {self.name!r} defines neither value nor values")

    def values(self, library: Library, inputs: GoalInputs) -> Array:
        """Return the value of every expert.

        Args:
            library: m experts.
            inputs: of n prompts.

        Returns:
            float64 in the goal's unit, lower is better, NaN where not stated: (m,) where prompts
            make no difference, else (n, m).
        """
        return np.array([self.value(expert) for expert in library], dtype=np.float64)

    def format(self, value: float) -> str:
        """Return a value as readable text."""
        return f"{value:.4g}"

    @property
    def fixed(self) -> bool:
        """Whether values depend on the library alone, so that they are computed once."""
        return type(self).values is Goal.values

    def fit(self, values: Array) -> Scale:
        """Fix the scale: 0 at the lowest value, 1 at the highest; any shape, NaN left out."""
        stated = self._axis(values[~np.isnan(values)])
        if not stated.size:
            return Scale(0.0, 0.0)
        return Scale(float(stated.min()), float(stated.max()))

    def scaled(self, values: Array, scale: Scale) -> Array:
        """Map values to the scale.

        Args:
            values: any shape, in the goal's unit.
            scale: what `fit` returned, perhaps for a library with other experts.

        Returns:
            float64 of the same shape: 0 is the fitted library's best and 1 its worst; experts
            beyond its range fall outside [0, 1]. A value that is not stated counts as the worst,
            1, or as the highest there is where that is more.
        """
        width = scale.high - scale.low
        unknown = np.isnan(values)
        if width <= 0:
            return np.where(unknown, 1.0, 0.0)
        scaled: Array = (self._axis(values) - scale.low) / width
        if unknown.any():
            worst = max(1.0, float(np.max(scaled, initial=1.0, where=~unknown)))
            scaled = np.where(unknown, worst, scaled)
        return scaled

    def _axis(self, values: Array) -> Array:
        return np.log(np.maximum(values, _TINIEST)) if self.log else values


def checked_values(goal: Goal, library: Library, inputs: GoalInputs) -> Array:
    """Return a goal's values with their shape checked: custom goals may get it wrong.

    Raises:
        GoalError: the shape fits neither the library nor the prompts, or a value is infinite.
    """
    values = np.asarray(goal.values(library, inputs), dtype=np.float64)
    m, n = len(library), len(inputs.prompt_tokens)
    if values.shape not in ((m,), (n, m)):
        raise GoalError(
            f"goal {goal.name!r} gave values of shape {values.shape} for {m} experts and {n} "
            f"prompts; give ({m},) or ({n}, {m})"
        )
    if np.isinf(values).any():
        raise GoalError(
            f"goal {goal.name!r} gave an infinite value; give NaN where it is not stated"
        )
    return values


def reference_date(library: Library) -> datetime.date:
    """Return the day that ages are counted from: the newest expert's release.

    A date taken from the library, not from the clock, keeps decisions reproducible.
    """
    dates = [expert.released for expert in library if expert.released is not None]
    return max(dates, default=datetime.date.min)


def check_weight(name: str, weight: float) -> float:
    """Return a weight as a float.

    Raises:
        GoalError: it is negative or not a finite number.
    """
    try:
        # Bytes are no number, though `float` reads them.
        value = math.nan if isinstance(weight, bytes | bytearray) else float(weight)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if math.isnan(value):
        raise GoalError(f"the weight of {name} is {short(weight)}, not a number")
    if not 0 <= value <= MOST_WEIGHT:
        raise GoalError(
            f"the weight of {name} is {value:g}; a weight is a number from 0 to {MOST_WEIGHT:g}"
        )
    return value
