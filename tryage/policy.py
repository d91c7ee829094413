"""Policy: what the operator allows. A user's text may tighten a decision, never loosen it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tryage.errors import GoalError, TryageWarning, did_you_mean
from tryage.flags import Flags
from tryage.goals import GOALS, Goals, check_weights
from tryage.limits import ATTRIBUTES, Limit, parse_limits

UnknownFlags = Literal["error", "warn"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Weights and limits of one decision, all sources taken together.

    Attributes:
        weights: goal → λ, zeros left out.
        limits: the limits of all sources.
        flags: each directive as it was understood, and whether the policy let it act.
    """

    weights: Mapping[str, float]
    limits: tuple[Limit, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True, init=False)
class Policy:
    """What the operator allows.

    Args:
        limits: hold in every decision.
        weights: default weight of a goal where neither call nor flag asks for more.
        max_weights: the most that a flag may ask for on a goal.
        flags: goals and limits that flags may touch; None lets all act, an empty list none.
        unknown_flags: ``"error"`` or ``"warn"``; None leaves it to the caller: an error in
            `Router.route` and the command line, a warning in the adapters.

    Raises:
        GoalError: an unknown goal or attribute, or a weight that is negative.
    """

    limits: tuple[Limit, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    max_weights: Mapping[str, float] = field(default_factory=dict)
    flags: frozenset[str] | None = None
    unknown_flags: UnknownFlags | None = None

    def __init__(
        self,
        *,
        limits: Mapping[str, Any] | Iterable[Limit | str] = (),
        weights: Mapping[str, float] | None = None,
        max_weights: Mapping[str, float] | None = None,
        flags: Iterable[str] | None = None,
        unknown_flags: UnknownFlags | None = None,
    ) -> None:
        if unknown_flags not in (None, "error", "warn"):
            raise GoalError(f"unknown_flags is {unknown_flags!r}; expected 'error' or 'warn'")
        put = object.__setattr__
        put(self, "limits", parse_limits(limits))
        put(self, "weights", check_weights(weights or {}))
        put(self, "max_weights", check_weights(max_weights or {}))
        put(self, "flags", None if flags is None else _check_names(flags))
        put(self, "unknown_flags", unknown_flags)

    def combine(
        self, goals: Goals | None, flags: Flags | None, *, unknown: UnknownFlags = "error"
    ) -> Wanted:
        """Join the policy, the call's goals and the prompt's flags.

        A goal's weight is the call's where the call names the goal, else the larger of the
        policy's default and the flag's, capped by the policy's maximum. Limits of all sources
        hold together.

        Raises:
            FlagError: a flag holds unknown words and they are to be an error.
        """
        if flags is None and goals is None:
            return self._default()
        limits = [*self.limits, *(goals.limits if goals else ())]
        asked: dict[str, float] = dict(self.weights)
        echo: tuple[str, ...] = ()
        if flags is not None:
            self._tell(flags, self.unknown_flags or unknown)
            echo = flags.echo
            named = {*flags.weights, *(limit.attribute for limit in flags.limits)}
            refused = sorted(name for name in named if not self._allows(name))
            echo += tuple(f"{name}: not allowed by the policy" for name in refused)
            for goal, weight in flags.weights.items():
                if self._allows(goal):
                    asked[goal] = max(asked.get(goal, 0.0), weight)
            limits += [limit for limit in flags.limits if self._allows(limit.attribute)]
        weights = {g: min(w, self.max_weights.get(g, w)) for g, w in asked.items()}
        if goals is not None:
            weights.update(goals.weights)
        kept = {goal: weight for goal, weight in weights.items() if weight > 0}
        return Wanted(kept, tuple(dict.fromkeys(limits)), echo)

    def _default(self) -> Wanted:
        return Wanted({g: w for g, w in self.weights.items() if w > 0}, self.limits, ())

    def _allows(self, name: str) -> bool:
        return self.flags is None or name in self.flags

    def _tell(self, flags: Flags, unknown: UnknownFlags) -> None:
        error = flags.error()
        if error is None:
            return
        if unknown == "error":
            raise error
        warnings.warn(str(error), TryageWarning, stacklevel=4)


def _check_names(names: Iterable[str]) -> frozenset[str]:
    known = (*GOALS, *ATTRIBUTES)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f" Known: {', '.join(known)}."
            raise GoalError(f"unknown goal or limit {name!r} in a policy's flags.{hint}")
    return frozenset(names)
