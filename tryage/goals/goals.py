"""The goals of one call: weights and limits."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tryage.characters import short
from tryage.errors import GoalError, did_you_mean
from tryage.goals.base import Goal, check_weight
from tryage.goals.builtin import GOALS, find_goal
from tryage.limits import Limit, parse_limits
from tryage.pydantic_forms import object_schema


@dataclass(frozen=True, init=False)
class Goals:
    """The goals of one call: weights and limits.

    Args:
        limits: attribute → condition, e.g. ``{"parameters": "<=3B", "license": ["mit"]}``.
        custom: goals of your own, each with its weight; one that bears the name of a built-in
            goal replaces it in this call.
        **weights: goal → λ ≥ 0, in units of the training table's loss spread.

    Attributes:
        weights: goal → λ, those of `custom` included.
        custom: name → goal of your own.

    Raises:
        GoalError: unknown goal or limit, negative or non-finite weight, unit that does not fit.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    custom: Mapping[str, Goal] = field(default_factory=dict)

    def __init__(
        self,
        *,
        limits: Mapping[str, Any] | Iterable[Limit | str] = (),
        custom: Sequence[Goal] = (),
        **weights: float,
    ) -> None:
        own = goals_by_name(custom)
        for name in own:
            if name in weights:
                raise GoalError(f"goal {name!r} has a weight twice: in custom, and by name")
        own_weights = {name: goal.weight for name, goal in own.items()}
        object.__setattr__(self, "weights", check_weights(weights | own_weights, own))
        object.__setattr__(self, "limits", parse_limits(limits))
        object.__setattr__(self, "custom", own)

    def __hash__(self) -> int:
        return hash((frozenset(self.weights.items()), self.limits))

    def with_weights(self, weights: Mapping[str, float]) -> Goals:
        """Return these goals and limits with other weights on some goals, `custom` ones included.

        Raises:
            GoalError: a goal is unknown, or a weight is negative or not a finite number.
        """
        changed = copy.copy(self)
        merged = check_weights({**self.weights, **weights}, self.custom)
        object.__setattr__(changed, "weights", merged)
        return changed

    def to_dict(self) -> dict[str, Any]:
        """Return weights and limits as JSON types."""
        limits = [str(limit) for limit in self.limits]
        return {"weights": dict(self.weights), "limits": limits}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let pydantic's models hold goals; in JSON they are the constructor's arguments."""
        properties = {"limits": {"type": "array", "items": {"type": "string"}}}
        return object_schema(cls, lambda data: cls(**data), _arguments, properties)


def _arguments(goals: Goals) -> dict[str, Any]:
    if goals.custom:
        names = ", ".join(goals.custom)
        raise GoalError(f"goals of your own are code, which JSON cannot hold: {names}")
    return {**goals.weights, "limits": [limit.exact for limit in goals.limits]}


def check_weights(weights: Mapping[str, float], own: Iterable[str] = ()) -> dict[str, float]:
    """Return the weights as floats.

    Args:
        weights: goal → weight.
        own: names of goals that are known besides the built-in ones.

    Raises:
        GoalError: a goal is unknown, or a weight is negative or not a finite number.
    """
    checked = {}
    names = {*GOALS, *own}
    if not isinstance(weights, Mapping):
        raise GoalError(f"weights are {short(weights)}; give a mapping such as {{'size': 0.2}}")
    for name, weight in weights.items():
        if not isinstance(name, str):
            raise GoalError(f"unknown goal {short(name)}. Known: {', '.join(sorted(names))}.")
        if name not in names and find_goal(name) is None:
            hint = did_you_mean(name, names) or f" Known: {', '.join(sorted(names))}."
            raise GoalError(f"unknown goal {name!r}.{hint}")
        checked[name] = check_weight(name, weight)
    return checked


def goals_by_name(goals: Iterable[Goal]) -> dict[str, Goal]:
    """Return goals by their names.

    Raises:
        GoalError: something is not a goal, or two share a name.
    """
    by_name: dict[str, Goal] = {}
    for goal in goals:
        if not isinstance(goal, Goal):
            raise GoalError(
                f"{goal!r} is not a goal; give objects of a subclass of tryage.goals.Goal"
            )
        if goal.name in by_name:
            raise GoalError(f"two goals are named {goal.name!r}")
        by_name[goal.name] = goal
    return by_name
