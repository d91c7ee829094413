"""The objective: predicted losses and goals become one total per expert, lower is better.

``total_i = loss_i + Σ_j λ_j · spread · scaled_j(i)`` over the eligible experts, where `scaled_j`
is goal j on its fixed scale and `spread` the 5th-to-95th-percentile width of the losses the router
was fitted on. (The paper gives λ no unit; this one makes a weight mean the same everywhere.)
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tryage.eligibility import (
    MANY,
    Eligibility,
    Reasons,
    excluded_by_prompt,
    of_library,
    reasons_for_row,
)
from tryage.errors import GoalError
from tryage.goals import GOALS, Goal, GoalInputs, Scale, reference_date
from tryage.goals.base import checked_values
from tryage.library import Library
from tryage.limits import ON_GOALS, Limit
from tryage.policy import ResolvedGoals
from tryage.ties import lowest, price_ranks

Array = NDArray[np.float64]
K = TypeVar("K")
V = TypeVar("V")

_LARGEST = float(np.finfo(np.float64).max)

_MOST_KEPT = 256
"""Bounds the caches of limits and goals, which users may write at will."""

_SHOWN_WITH = (
    ("cost", "cost"),
    ("latency", "latency"),
    ("verbosity", "response_chars"),
    ("readability", "readability"),
)
"""Goals that every decision shows if their target is predicted: (goal, target)."""


def loss_spread(losses: Array) -> float:
    """Return the 5th-to-95th-percentile width of measured losses.

    Args:
        losses: (n_prompts, n_experts), NaN where not measured, lower is better.

    Returns:
        The width in the unit of the losses; 1 where they are all equal, so that weights still act.
    """
    low, high = np.nanpercentile(losses, [5, 95])
    return float(high - low) or 1.0


@dataclass(frozen=True)
class Objective:
    """Goals and limits of one library, on scales that are fixed when a router is fitted.

    Attributes:
        library: m experts, the columns of every array here.
        reference: the day ages are counted from.
        scales: goal → scale, for the goals that some expert had a value of. The scale of any
            other goal is fixed by the library alone.
        spreads: task → width of the losses fitted on.
        unavailable: expert → why it may not be chosen, whatever the limits.
        values: goal → (m,) in the goal's unit, NaN where not stated; the goals of which prompts
            make no difference and some expert states a value.
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
    _eligible: dict[tuple[str, tuple[Limit, ...]], Eligibility] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _scales: dict[Goal, Scale] = field(init=False, repr=False, compare=False, default_factory=dict)
    _fixed: dict[Goal, tuple[Array, Array]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        fixed_goals = {name: self._of_library(goal) for name, goal in GOALS.items() if goal.fixed}
        stated = {name: pair for name, pair in fixed_goals.items() if not np.isnan(pair[0]).all()}
        object.__setattr__(self, "values", {name: pair[0] for name, pair in stated.items()})
        object.__setattr__(self, "scaled", {name: pair[1] for name, pair in stated.items()})
        object.__setattr__(self, "tie_rank", price_ranks(self.library))

    def __reduce__(self) -> tuple[type[Objective], tuple[Any, ...]]:
        """Copy and pickle without the caches, which may hold goals of a single call."""
        arguments = (self.library, self.reference, self.scales, self.spreads, self.unavailable)
        return Objective, arguments

    @classmethod
    def fit(
        cls,
        library: Library,
        spreads: Mapping[str, float],
        *,
        averages: Mapping[str, Array] | None = None,
        prompt_tokens: float | None = None,
    ) -> Objective:
        """Fix the scale of every goal on a library and its measurements.

        Args:
            library: m experts.
            spreads: task → width of its measured losses.
            averages: target → (m,) mean measured value of every expert, NaN where none was.
            prompt_tokens: mean tokens of the prompts measured on.
        """
        reference = reference_date(library)
        targets = {name: values[None, :] for name, values in (averages or {}).items()}
        inputs = GoalInputs(reference, targets=targets)
        if prompt_tokens is not None:
            inputs = GoalInputs(reference, np.array([prompt_tokens]), targets)
        scales = {}
        for name, goal in GOALS.items():
            values = goal.values(library, inputs)
            if not np.isnan(values).all():
                scales[name] = goal.fit(values)
        return cls(library, reference, scales, dict(spreads))

    def goal_inputs(
        self,
        prompt_tokens: Array | None = None,
        targets: Mapping[str, Array] | None = None,
        observed: Mapping[str, float] | None = None,
    ) -> GoalInputs:
        """Return goal inputs of prompts; arguments left out count as unknown."""
        if prompt_tokens is None:
            return GoalInputs(self.reference, targets=targets or {}, observed=observed or {})
        return GoalInputs(self.reference, prompt_tokens, targets or {}, observed or {})

    def goal_values(self, goal: Goal, inputs: GoalInputs) -> Array:
        """Return a goal's values in its unit, (m,) or (n, m), NaN where not stated."""
        return self._pair(goal)[0] if goal.fixed else checked_values(goal, self.library, inputs)

    def shown(self, resolved: ResolvedGoals, inputs: GoalInputs) -> Mapping[str, Array]:
        """Return the values that decisions show: goal → (m,) or (n, m).

        These are the goals with stated, predicted or observed values, and those that are weighed
        or limited.
        """
        names = dict.fromkeys(resolved.weights)
        for name, target in _SHOWN_WITH:
            if target in inputs.targets:
                names[name] = None
        if inputs.observed:
            names["latency"] = None
        if self.library.priced:
            names["cost"] = None
        for limit in resolved.limits:
            if limit.attribute in ON_GOALS:
                names[limit.attribute] = None
        if not names and not resolved.goals:
            return self.values
        shown = dict(self.values)
        for name in (*names, *(shown.keys() & resolved.goals.keys())):
            goal = resolved.goal(name)
            if not goal.fixed or name not in shown or name in resolved.goals:
                shown[name] = self.goal_values(goal, inputs)
        return shown

    def penalties(
        self,
        resolved: ResolvedGoals,
        task: str,
        inputs: GoalInputs,
        values: Mapping[str, Array] | None = None,
    ) -> Array:
        """Return the weighted goals, in units of the loss: float64, (m,) or (n, m).

        Args:
            resolved: the weights.
            task: what the prompts ask for.
            inputs: what is known of n prompts.
            values: what `shown` returned for them, if it is there already.

        Raises:
            GoalError: an expert that the limits allow lacks a value that a goal cannot do without.
        """
        values = self.shown(resolved, inputs) if values is None else values
        added: Array | None = None
        spread = self.spreads.get(task, 1.0)
        for name, weight in resolved.weights.items():
            goal = resolved.goal(name)
            if goal.fixed:
                scaled = self._pair(goal)[1]
            else:
                scaled = goal.scaled(values[name], self._scale(goal))
            if goal.missing == "error":
                self._check_stated(goal, values[name], task, resolved.limits)
            penalty = (weight * spread) * scaled
            added = penalty if added is None else added + penalty
        return np.zeros(len(self.library)) if added is None else added

    def unit_penalty(self, goal: Goal, task: str, values: Array) -> Array:
        """Return what a weight of 1 on a goal adds to every loss, in units of the loss, (m,).

        Args:
            goal: built in, or one of the call's own.
            task: what the prompt asks for.
            values: the goal's values, as `shown` returned them for one prompt, (m,).
        """
        scaled = goal.scaled(values, self._scale(goal))
        return np.asarray(self.spreads.get(task, 1.0) * scaled, dtype=np.float64)

    def attempt_prices(
        self, resolved: ResolvedGoals, task: str, values: Mapping[str, Array]
    ) -> Array:
        """Return the part of every expert's penalty that adds up over attempts, (m,).

        It is 0 for a value of 0, and differs from the penalty by the same amount for all experts.

        Args:
            resolved: the weights.
            task: what the prompt asks for.
            values: what `shown` returned for one prompt, (m,) each.
        """
        added = np.zeros(len(self.library))
        spread = self.spreads.get(task, 1.0)
        for name, weight in resolved.weights.items():
            goal = resolved.goal(name)
            if not goal.adds_up:
                continue
            scale = self._scale(goal)
            width = scale.high - scale.low
            if width > 0:
                scaled = goal.scaled(values[name], scale)
                added += weight * spread * np.maximum(scaled + scale.low / width, 0.0)
        return added

    def totals(
        self,
        losses: Array,
        task: str,
        resolved: ResolvedGoals,
        inputs: GoalInputs,
        values: Mapping[str, Array] | None = None,
    ) -> Array:
        """Return loss plus weighted goals, inf where an expert is not eligible.

        Args:
            losses: (n, m) predicted losses.
            task: what the prompts ask for.
            resolved: weights and limits.
            inputs: what is known of the n prompts.
            values: what `shown` returned for them, if it is there already.

        Raises:
            GoalError: a limit or a goal cannot be computed.
        """
        values = self.shown(resolved, inputs) if values is None else values
        eligible = self.eligibility(task, resolved.limits)
        totals = losses
        if resolved.weights:
            # Sums that overflow stay finite: only the mask below says who is not eligible.
            with np.errstate(over="ignore", invalid="ignore"):
                totals = np.fmin(losses + self.penalties(resolved, task, inputs, values), _LARGEST)
        out = excluded_by_prompt(self.library, eligible.mask, resolved, inputs, values)
        if out is None and eligible.mask.all():
            return totals
        mask = eligible.mask if out is None else eligible.mask & ~out
        return np.where(mask, totals, np.inf)

    def eligibility(self, task: str, limits: tuple[Limit, ...]) -> Eligibility:
        """Return the available experts of a task that keep all limits on stated attributes.

        Limits on goals and context lengths depend on the prompt; see `reasons`.

        Raises:
            GoalError: an expert of the task does not state an attribute that a limit is on.
        """
        key = (task, limits)
        eligible = self._eligible.get(key)
        if eligible is None:
            eligible = of_library(self.library, self.unavailable, task, limits)
            _keep(self._eligible, key, eligible)
        return eligible

    def reasons(
        self,
        task: str,
        resolved: ResolvedGoals,
        inputs: GoalInputs,
        values: Mapping[str, Array] | None = None,
    ) -> Mapping[str, str]:
        """Return the reason why each ineligible expert may not answer one prompt: name → reason.

        Arguments as `totals`, of one prompt.
        """
        values = self.shown(resolved, inputs) if values is None else values
        fixed = self.eligibility(task, resolved.limits)
        if len(self.library) < MANY:
            out = excluded_by_prompt(self.library, fixed.mask, resolved, inputs, values)
            if out is None or not out.any():
                return dict(fixed.reasons)
        prompt_reasons = functools.partial(
            reasons_for_row, self.library, fixed.mask, resolved, inputs, values
        )

        def one(name: str) -> str | None:
            return fixed.reasons.get(name) or prompt_reasons(name).get(name)

        # Written for each decision, which may keep or change them.
        return Reasons(lambda: {**fixed.reasons, **prompt_reasons()}, one)

    def choose(self, totals: Array) -> NDArray[np.intp]:
        """Return the column of the lowest total of every row, ties by price and then name.

        Args:
            totals: (n, m), inf where an expert is not eligible, finite elsewhere.

        Returns:
            (n,) columns; -1 where nobody is eligible.
        """
        return lowest(totals, self.tie_rank)

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

    def _pair(self, goal: Goal) -> tuple[Array, Array]:
        """Return values and scaled values, each (m,), of a goal that does not depend on prompts."""
        pair = self._fixed.get(goal)
        if pair is None:
            pair = self._of_library(goal)
            _keep(self._fixed, goal, pair)
        return pair

    def _of_library(self, goal: Goal) -> tuple[Array, Array]:
        values = checked_values(goal, self.library, self.goal_inputs())
        scaled = goal.scaled(values, self._scale(goal))
        for shared in (values, scaled):  # decisions give them to callers
            shared.setflags(write=False)
        return values, scaled

    def _scale(self, goal: Goal) -> Scale:
        """Return the stored scale of a built-in goal, else one that the library fixes."""
        if GOALS.get(goal.name) is goal and goal.name in self.scales:
            return self.scales[goal.name]
        scale = self._scales.get(goal)
        if scale is None:
            scale = goal.fit(checked_values(goal, self.library, self.goal_inputs()))
            _keep(self._scales, goal, scale)
        return scale

    def _check_stated(
        self, goal: Goal, values: Array, task: str, limits: tuple[Limit, ...]
    ) -> None:
        missing = np.isnan(values)
        if not missing.any():
            return
        eligible = self.eligibility(task, limits).mask
        unknown = np.flatnonzero(missing.reshape(-1, len(eligible)).any(axis=0) & eligible).tolist()
        if unknown:
            names = ", ".join(repr(self.library.names[column]) for column in unknown[:10])
            more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            way_out = ": state the price in the library, or measure costs in the score table"
            way_out = way_out if goal.name == "cost" else ""
            raise GoalError(
                f"the goal {goal.name!r} needs a value of every expert, and {names}{more} "
                f"{'has' if len(unknown) == 1 else 'have'} none{way_out}"
            )


def _keep(memory: dict[K, V], key: K, value: V) -> None:
    if len(memory) >= _MOST_KEPT:
        memory.clear()
    memory[key] = value
