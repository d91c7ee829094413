"""Policy: what the operator allows. A user's text may tighten its limits, never loosen them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tryage.characters import short
from tryage.errors import GoalError, TryageWarning, did_you_mean
from tryage.flags import Flags
from tryage.goals import GOALS, Goal, Goals, check_weights, find_goal
from tryage.goals.goals import goals_by_name
from tryage.limits import ATTRIBUTES, Limit, parse_limits
from tryage.pydantic_forms import object_schema

UnknownFlags = Literal["error", "warn"]


@dataclass(frozen=True, slots=True)
class ResolvedGoals:
    """Weights and limits of one decision, all sources taken together.

    Attributes:
        weights: goal → λ, zeros left out.
        limits: the limits of all sources.
        flags: each directive as it was understood, and whether the policy let it act.
        goals: custom goals of the operator and of the call, which override those of `GOALS`.
    """

    weights: Mapping[str, float]
    limits: tuple[Limit, ...]
    flags: tuple[str, ...]
    goals: Mapping[str, Goal] = field(default_factory=dict)

    def goal(self, name: str) -> Goal:
        """Return the goal that a name stands for in this decision."""
        goal = self.goals.get(name) or find_goal(name)
        if goal is None:
            raise GoalError(f"unknown goal {name!r}.{did_you_mean(name, GOALS)}")
        return goal


@dataclass(frozen=True, init=False)
class Policy:
    """What the operator allows.

    Args:
        limits: hold in every decision.
        weights: default weight of a goal where neither call nor flag asks for more.
        max_weights: the most that a default or a flag may weigh on a goal.
        flags: goals and limits that flags may touch; None lets all act, an empty list none.
        unknown_flags: ``"error"`` or ``"warn"``; None leaves it to the caller: an error in
            `Router.route` and the command line, a warning in the adapters.
        goals: goals of your own, which defaults may name; one that bears the name of a built-in
            goal replaces it: ``Security(rules="my-security.json")``. A weight in it is a default.

    Raises:
        GoalError: an unknown goal or attribute, or a weight that is negative.
    """

    limits: tuple[Limit, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    max_weights: Mapping[str, float] = field(default_factory=dict)
    flags: frozenset[str] | None = None
    unknown_flags: UnknownFlags | None = None
    goals: Mapping[str, Goal] = field(default_factory=dict)
    _default: ResolvedGoals = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        *,
        limits: Mapping[str, Any] | Iterable[Limit | str] = (),
        weights: Mapping[str, float] | None = None,
        max_weights: Mapping[str, float] | None = None,
        flags: Iterable[str] | None = None,
        unknown_flags: UnknownFlags | None = None,
        goals: Iterable[Goal] = (),
    ) -> None:
        if unknown_flags not in (None, "error", "warn"):
            raise GoalError(f"unknown_flags is {unknown_flags!r}; expected 'error' or 'warn'")
        set_field = object.__setattr__
        by_name = goals_by_name(goals)
        defaults = {name: goal.weight for name, goal in by_name.items() if goal.weight}
        set_field(self, "limits", parse_limits(limits))
        weights = check_weights({} if weights is None else weights, by_name)
        max_weights = check_weights({} if max_weights is None else max_weights, by_name)
        set_field(self, "weights", check_weights(defaults, by_name) | weights)
        set_field(self, "max_weights", max_weights)
        set_field(self, "flags", None if flags is None else _check_names(flags, by_name))
        set_field(self, "unknown_flags", unknown_flags)
        set_field(self, "goals", by_name)
        set_field(self, "_default", self._policy_alone())

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON types for `from_dict`; empty for a default policy.

        Goals of your own are code and stay out, and so do default weights on them.
        """
        custom = {name for name in self.goals if find_goal(name) is None}
        data = {
            "limits": [limit.exact for limit in self.limits],
            "weights": {n: w for n, w in self.weights.items() if n not in self.goals},
            "max_weights": {n: w for n, w in self.max_weights.items() if n not in custom},
            "unknown_flags": self.unknown_flags,
        }
        flags = {} if self.flags is None else {"flags": sorted(self.flags - custom)}
        return {key: value for key, value in data.items() if value} | flags

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let pydantic's models hold a policy; in JSON it is what `to_dict` returns."""
        return object_schema(cls, cls.from_dict, cls.to_dict, {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """Return the policy that `to_dict` returned.

        Raises:
            GoalError: something in it is unknown or out of range.
        """
        keys = ("limits", "weights", "max_weights", "flags", "unknown_flags")
        if not isinstance(data, Mapping):
            raise GoalError(f"a policy is {short(data)}; give a mapping with {', '.join(keys)}")
        for key in data:
            if key not in keys:
                hint = did_you_mean(str(key), keys) or f" Known: {', '.join(keys)}."
                raise GoalError(f"unknown key {key!r} in a policy.{hint}")
        return cls(**data)

    def combine(
        self, goals: Goals | None, flags: Flags | None, *, unknown: UnknownFlags = "error"
    ) -> ResolvedGoals:
        """Join the policy, the call's goals and the prompt's flags.

        A goal's weight is the call's where the call names the goal, else the larger of the
        policy's default and the flag's, capped by the policy's maximum. Limits of all sources
        hold together.

        Raises:
            FlagError: a flag has unknown words, and they are an error.
            GoalError: `goals` is of another type.
        """
        if goals is not None and not isinstance(goals, Goals):
            kind = type(goals).__name__
            raise GoalError(f"goals is a {kind}; give tryage.Goals, such as Goals(size=0.2)")
        if goals is None and (flags is None or not flags.found):
            return self._default
        limits = [*self.limits, *(goals.limits if goals else ())]
        wanted_weights: dict[str, float] = dict(self.weights)
        echo: tuple[str, ...] = ()
        if flags is not None:
            self._report_unknown(flags, self.unknown_flags or unknown)
            echo = flags.echo + tuple(f"{words}: not understood" for words in flags.unknown)
            if self.flags is not None:
                touched = {*flags.weights, *(limit.attribute for limit in flags.limits)}
                refused = sorted(name for name in touched if not self._allows(name))
                echo += tuple(f"{name}: not allowed by the policy" for name in refused)
            for goal, weight in flags.weights.items():
                if self._allows(goal):
                    wanted_weights[goal] = max(wanted_weights.get(goal, 0.0), weight)
            limits += [limit for limit in flags.limits if self._allows(limit.attribute)]
        weights = self._capped(wanted_weights)
        custom = self.goals
        if goals is not None:
            weights.update(goals.weights)
            custom = {**self.goals, **goals.custom}
        positive = {goal: weight for goal, weight in weights.items() if weight > 0}
        return ResolvedGoals(positive, tuple(dict.fromkeys(limits)), echo, custom)

    def _policy_alone(self) -> ResolvedGoals:
        weights = {goal: w for goal, w in self._capped(self.weights).items() if w > 0}
        return ResolvedGoals(weights, self.limits, (), self.goals)

    def _capped(self, weights: Mapping[str, float]) -> dict[str, float]:
        return {goal: min(w, self.max_weights.get(goal, w)) for goal, w in weights.items()}

    def _allows(self, name: str) -> bool:
        return self.flags is None or name in self.flags

    def _report_unknown(self, flags: Flags, unknown: UnknownFlags) -> None:
        error = flags.error()
        if error is None:
            return
        if unknown == "error":
            raise error
        warnings.warn(str(error), TryageWarning, stacklevel=4)


def _check_names(names: Iterable[str], custom: Iterable[str]) -> frozenset[str]:
    names_allowed = (*GOALS, *ATTRIBUTES, *custom)
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise GoalError(f"a policy's flags are {short(names)}; give a list of goals and limits")
    names = tuple(names)
    for name in names:
        if name not in names_allowed:
            hint = did_you_mean(str(name), names_allowed) or f" Known: {', '.join(names_allowed)}."
            raise GoalError(f"unknown goal or limit {name!r} in a policy's flags.{hint}")
    return frozenset(names)
