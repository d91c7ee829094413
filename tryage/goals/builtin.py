"""The goals that Tryage knows: size, recency, cost, latency, security, verbosity, readability."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from tryage.errors import GoalError
from tryage.experts import Expert
from tryage.goals.base import Array, Goal, GoalInputs
from tryage.json_lines import without_repeats
from tryage.library import Library
from tryage.paths import user_path
from tryage.tokens import CHARS_PER_TOKEN
from tryage.units import format_count, format_money, format_seconds

RESPONSE_CHARS = 1000.0
"""Characters of an answer where none was measured, to price it."""

COLD_SECONDS, COLD_SECONDS_PER_PARAMETER = 0.5, 0.1e-9
"""What a call takes before any was observed: half a second, and 0.1 s for every billion parameters.

A rule of thumb that only puts the experts in order; the first observed call replaces it."""


class Size(Goal):
    """Number of parameters, on a logarithmic scale."""

    name, unit, log = "size", "parameters", True

    def value(self, expert: Expert) -> float:
        """Return the number of parameters."""
        return math.nan if expert.parameters is None else float(expert.parameters)

    def format(self, value: float) -> str:
        """Return a count such as 7.24B."""
        return format_count(value)


class Recency(Goal):
    """Age: days before the library's newest expert."""

    name, unit = "recency", "days older than the newest"

    def values(self, library: Library, inputs: GoalInputs) -> Array:
        """Return the age of every expert, (m,)."""
        ages = [
            math.nan
            if expert.released is None
            else float((inputs.reference - expert.released).days)
            for expert in library
        ]
        return np.array(ages)

    @property
    def fixed(self) -> bool:
        """True: the reference date is fixed with the scales."""
        return True

    def format(self, value: float) -> str:
        """Return days."""
        return f"{value:.0f} d"


class Cost(Goal):
    """US dollars for the prompt: predicted where costs were measured, else price times lengths.

    Lengths are the estimated tokens of all that is sent, and those of the answer (predicted where
    answers were measured, else of 1000 characters).
    """

    name, unit = "cost", "USD per prompt"
    missing: ClassVar[Literal["worst", "error"]] = "error"
    adds_up = True

    def values(self, library: Library, inputs: GoalInputs) -> Array:
        """Return the cost of every prompt under every expert, (n, m); NaN without a price."""
        predicted = inputs.targets.get("cost")
        if predicted is not None and not np.isnan(predicted).any():
            floored: Array = np.maximum(predicted, 0.0)
            return floored
        input_prices, output_prices = library.token_prices
        priced: Array = (
            inputs.prompt_tokens[:, None] * input_prices + answer_tokens(inputs) * output_prices
        )
        priced = priced * library.token_factors
        if predicted is None:
            return priced
        return np.where(np.isnan(predicted), priced, np.maximum(predicted, 0.0))

    def format(self, value: float) -> str:
        """Return US dollars."""
        return format_money(value)


def answer_tokens(inputs: GoalInputs) -> Array:
    """Return the estimated tokens of answers in English, (1, 1) or (n, m)."""
    chars = inputs.targets.get("response_chars")
    if chars is None:
        return np.array([[RESPONSE_CHARS / CHARS_PER_TOKEN]])
    answer_chars: Array = np.nan_to_num(chars, nan=RESPONSE_CHARS)
    return np.maximum(answer_chars, 0.0) / CHARS_PER_TOKEN


class Latency(Goal):
    """Seconds of a call: observed recently, else predicted, else guessed from the size."""

    name, unit = "latency", "s"
    adds_up = True

    def values(self, library: Library, inputs: GoalInputs) -> Array:
        """Return seconds, (m,) or (n, m); NaN where nothing is known."""
        cold = COLD_SECONDS + COLD_SECONDS_PER_PARAMETER * library.sizes
        predicted = inputs.targets.get("latency")
        if predicted is not None:
            cold = np.where(np.isnan(predicted), cold, np.maximum(predicted, 0.0))
        for name, seconds in inputs.observed.items():
            if name in library:
                cold[..., library.index(name)] = seconds
        return cold

    def format(self, value: float) -> str:
        """Return seconds."""
        return format_seconds(value)


class Security(Goal):
    """A security level: points of stated facts, summed by a table of rules; 0 is safest.

    Args:
        weight: λ ≥ 0.
        rules: a JSON file like the package's `security.json`, or its contents; None takes that.

    Raises:
        GoalError: the rules cannot be read.
    """

    name, unit = "security", "level, 0 is safest"

    def __init__(
        self, weight: float = 0.0, *, rules: str | Path | Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(weight)
        self._points = _read_rules(rules) if rules is not None else _own_rules()

    def value(self, expert: Expert) -> float:
        """Return the sum of the points of an expert's facts; NaN where it states none."""
        values = {fact: _FACT_VALUES[fact](expert) for fact in self._points}
        # Whether a revision is pinned is known of every expert; alone it means nothing.
        if all(value is None for fact, value in values.items() if fact != "pinned"):
            return math.nan
        return sum(_points(self._points[fact], value) for fact, value in values.items())

    def format(self, value: float) -> str:
        """Return a level."""
        return f"level {value:g}"


class Verbosity(Goal):
    """Characters of the answer, predicted where response lengths were measured."""

    name, unit = "verbosity", "characters"

    def values(self, library: Library, inputs: GoalInputs) -> Array:
        """Return predicted characters, (n, m); NaN where none were measured."""
        return _target(inputs, "response_chars", library)

    def format(self, value: float) -> str:
        """Return characters."""
        return f"{value:.0f} chars"


class Readability(Goal):
    """School grade needed to read the answer, predicted where it was measured.

    `tryage.scores.readability` computes the Automated Readability Index of an answer.
    """

    name, unit = "readability", "grade, lower is easier"

    def values(self, library: Library, inputs: GoalInputs) -> Array:
        """Return predicted grades, (n, m); NaN where none were measured."""
        return _target(inputs, "readability", library)

    def format(self, value: float) -> str:
        """Return a grade."""
        return f"grade {value:.1f}"


class Share(Goal):
    """Share of the prompts that go to one expert; its name is ``share(EXPERT)``.

    Args:
        expert: name of the expert.
        weight: λ ≥ 0.
    """

    unit = "share of prompts"

    def __init__(self, expert: str, weight: float = 0.0) -> None:
        super().__init__(weight)
        self.expert = expert
        self.name = f"share({expert})"

    def value(self, expert: Expert) -> float:
        """Return 1 for the expert itself and 0 for any other."""
        return float(expert.name == self.expert)

    def format(self, value: float) -> str:
        """Return a percentage."""
        return f"{value:.0%}"


def find_goal(name: str) -> Goal | None:
    """Return the goal that a name stands for: one of `GOALS`, or ``share(EXPERT)``."""
    goal = GOALS.get(name)
    return _share(name) if goal is None and name.startswith("share(") else goal


@functools.lru_cache(maxsize=256)
def _share(name: str) -> Goal | None:
    return Share(name[len("share(") : -1]) if name.endswith(")") else None


def _target(inputs: GoalInputs, name: str, library: Library) -> Array:
    values = inputs.targets.get(name)
    return np.full(len(library), np.nan) if values is None else values


_FACT_VALUES: Mapping[str, Any] = {
    "safetensors": lambda e: e.security.safetensors,
    "remote_code": lambda e: e.security.remote_code,
    "pinned": lambda e: e.revision is not None,
    "license": lambda e: e.license,
    "location": lambda e: e.security.location,
    "vendor": lambda e: e.security.vendor,
    "pickle": lambda e: e.security.pickle,
    "scan": lambda e: e.security.scan,
}


def _points(points: Mapping[str, float], value: bool | str | None) -> float:
    if value is None:
        return points["unknown"]
    word = str(value).lower()
    return points[word] if word in points else points.get("*", points["unknown"])


@functools.cache
def _own_rules() -> Mapping[str, Mapping[str, float]]:
    text = resources.files("tryage.goals").joinpath("security.json").read_text(encoding="utf-8")
    return _read_rules(json.loads(text))


_ODD_RULES = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Exceptions that a file which holds no rules raises."""


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"), object_pairs_hook=without_repeats)


def _read_rules(rules: str | Path | Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    """Return fact → {value: points}, always with the points of "unknown"."""
    source = "security rules" if isinstance(rules, Mapping) else str(rules)
    try:
        data = rules if isinstance(rules, Mapping) else _read_json(user_path(rules))
        points_of = {
            str(rule["fact"]): {str(k).lower(): float(v) for k, v in rule["points"].items()}
            for rule in data["rules"]
        }
    except _ODD_RULES as error:
        raise GoalError(f"{source}: not a table of security rules: {error!r}") from error
    for fact, points in points_of.items():
        if fact not in _FACT_VALUES:
            raise GoalError(f"{source}: unknown fact {fact!r}; known: {', '.join(_FACT_VALUES)}")
        if not points or not all(0 <= value < math.inf for value in points.values()):
            raise GoalError(f"{source}: the points of {fact} must be numbers >= 0")
        points.setdefault("unknown", max(points.values()))
    return points_of


GOALS: Mapping[str, Goal] = {
    goal.name: goal
    for goal in (Size(), Recency(), Cost(), Latency(), Security(), Verbosity(), Readability())
}
"""The built-in goals by name."""
