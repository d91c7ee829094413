"""The search for weights that meet budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.budgets.parser import Budget, parse_budget
from tryage.budgets.results import Calibration
from tryage.errors import GoalError
from tryage.files import repeated
from tryage.forecast import Forecast
from tryage.goals import GoalInputs, Goals
from tryage.objective import Objective
from tryage.policy import ResolvedGoals

Array = NDArray[np.float64]

MOST = 3
"""Most budgets on goals in one calibration; their bisections are nested."""

_LEAST_WEIGHT, _GREATEST_WEIGHT = 1e-4, 1e4
_STEPS = 30
_RESAMPLES = 1000


def calibrate(
    objective: Objective,
    predicted: Forecast,
    task: str,
    resolved: ResolvedGoals,
    inputs: GoalInputs,
    budgets: Sequence[str],
    *,
    goals: Goals,
    scored: bool,
    seed: int = 0,
) -> Calibration:
    """Find the weights with which predicted means meet budgets.

    Budgets on goals are met at the least predicted loss. Where only a score or a loss is given,
    the cost (the size, where experts have no cost) is lowered as far as that allows.

    Args:
        objective: the router's.
        predicted: of n prompts.
        task: what the prompts ask for.
        resolved: the other weights and limits.
        inputs: what is known of the prompts.
        budgets: one or more, see `parse_budget`.
        goals: the call's goals; the result is these with the weights found.
        scored: whether losses are 1 - score.
        seed: of the bootstrap.

    Raises:
        GoalError: a budget is malformed, or is on something that is not known.
    """
    parsed = [parse_budget(text, resolved.goals) for text in budgets]
    if not parsed:
        raise GoalError("give at least one budget, such as 'score >= 95% of best'")
    on_goals = [budget for budget in parsed if budget.measure != "loss"]
    if len(on_goals) > MOST:
        raise GoalError(f"{len(on_goals)} budgets on goals; at most {MOST} can be met together")
    twice = repeated([budget.measure for budget in on_goals])
    if twice is not None:
        _, first, second = twice
        both = f"{on_goals[first].text!r} and {on_goals[second].text!r}"
        raise GoalError(f"two budgets on {on_goals[first].measure}, {both}; keep one")
    if any(budget.scored for budget in parsed) and not scored:
        raise GoalError("the router was fitted on losses, not scores; write 'loss <= 110% of best'")
    if len(on_goals) < len(parsed) and not predicted.measured:
        raise GoalError(
            "nothing is measured yet, so no score or loss is known; give a budget on a goal such "
            "as cost, or fit a router on measured results"
        )
    primary = "" if on_goals else _primary(objective, predicted, task, resolved, inputs)
    # The search replaces the weights that the call or the policy sets on these goals.
    replaced = {primary, *(budget.measure for budget in on_goals)}
    other_weights = {
        name: weight for name, weight in resolved.weights.items() if name not in replaced
    }
    search = _Search(
        objective, predicted, task, replace(resolved, weights=other_weights), inputs, parsed
    )
    weights = search.within(on_goals) if on_goals else search.cheapest(primary)
    return search.calibration(goals, weights, seed=seed)


def _primary(
    objective: Objective,
    predicted: Forecast,
    task: str,
    resolved: ResolvedGoals,
    inputs: GoalInputs,
) -> str:
    """Return the goal to lower where all budgets are on score or loss: cost, or else size."""
    eligible = np.isfinite(objective.totals(predicted.losses, task, resolved, inputs))
    for name in ("cost", "size"):
        values = objective.goal_values(resolved.goal(name), inputs)
        if not (np.isnan(values) & eligible).any():
            return name
    raise GoalError(
        "a score or loss budget alone lowers the cost, or else the size, but some expert "
        "states neither price nor parameters; state them, or add a budget on another goal"
    )


class _Search:
    """The search for weights, and its arrays: n prompts, m experts."""

    def __init__(
        self,
        objective: Objective,
        predicted: Forecast,
        task: str,
        resolved: ResolvedGoals,
        inputs: GoalInputs,
        budgets: Sequence[Budget],
    ) -> None:
        for budget in budgets:
            if budget.measure.startswith("share("):
                objective.library.index(budget.measure[len("share(") : -1])
        self.objective, self.task, self.inputs, self.resolved = objective, task, inputs, resolved
        self.losses = predicted.losses
        self.base = objective.totals(predicted.losses, task, resolved, inputs)  # (n, m)
        if not np.isfinite(self.base).any(axis=1).all():
            row = int(np.flatnonzero(~np.isfinite(self.base).any(axis=1))[0])
            raise GoalError(f"no expert may answer prompt {row + 1}; leave it out, or lift a limit")
        self.eligible = np.isfinite(self.base)
        self.best = self._best_single()
        self.budgets = [self._absolute(budget) for budget in budgets]
        self._penalties: dict[str, Array] = {}

    def within(self, budgets: Sequence[Budget]) -> dict[str, float]:
        """Return the weights that meet budgets on goals at the least predicted loss."""

        def solve(remaining: Sequence[Budget], totals: Array) -> tuple[dict[str, float], Array]:
            if not remaining:
                return {}, totals
            first, others = remaining[0], remaining[1:]
            values, penalty = self.values(first.measure), self.penalty(first.measure)

            def at(weight: float) -> tuple[bool, tuple[dict[str, float], Array]]:
                inner, reached = solve(others, totals + weight * penalty)
                return self._mean(values, reached) <= first.bound, (inner, reached)

            weight, (inner, reached) = _least(at)
            return {first.measure: weight} | inner, reached

        return solve(budgets, self.base)[0]

    def cheapest(self, primary: str) -> dict[str, float]:
        """Return the greatest weight on a goal with which the losses stay in bounds."""
        bound = min(budget.bound for budget in self.budgets)
        penalty = self.penalty(primary)

        def at(weight: float) -> tuple[bool, None]:
            return self._mean(self.losses, self.base + weight * penalty) > bound, None

        if not at(_GREATEST_WEIGHT)[0]:
            return {primary: _GREATEST_WEIGHT}
        too_much, _ = _least(at)
        below = _before(too_much, lambda weight: not at(weight)[0])
        return {primary: below}

    def penalty(self, name: str) -> Array:
        """Return what weight 1 on a goal adds to every loss, (m,) or (n, m)."""
        if name not in self._penalties:
            alone = replace(self.resolved, weights={name: 1.0})
            self._penalties[name] = self.objective.penalties(alone, self.task, self.inputs)
        return self._penalties[name]

    def values(self, name: str) -> Array:
        """Return a goal's values, (n, m), or the losses.

        Raises:
            GoalError: an eligible expert has none.
        """
        if name == "loss":
            return self.losses
        goal_values = self.objective.goal_values(self.resolved.goal(name), self.inputs)
        values = np.broadcast_to(goal_values, self.losses.shape)
        missing = (np.isnan(values) & self.eligible).any(axis=0)
        if missing.any():
            expert = self.objective.library.names[int(np.flatnonzero(missing)[0])]
            raise GoalError(
                f"a budget on {name} needs a value of every expert, and {expert!r} has none; state "
                "or measure it, or exclude the expert by a limit"
            )
        return values

    def calibration(self, goals: Goals, weights: Mapping[str, float], *, seed: int) -> Calibration:
        """Return the calibration: the weights, and what they attain with intervals."""
        totals = self.base
        for name, weight in weights.items():
            totals = totals + weight * self.penalty(name)
        chosen = self.objective.choose(totals)
        attained = {
            budget.text: self._attained(budget, chosen, seed=seed) for budget in self.budgets
        }
        counts = np.bincount(chosen, minlength=len(self.objective.library))
        shares = {
            name: float(count / len(chosen))
            for name, count in zip(self.objective.library.names, counts, strict=True)
            if count
        }
        return Calibration(goals, weights, attained, shares)

    def _attained(self, budget: Budget, chosen: NDArray[np.intp], *, seed: int) -> dict[str, Any]:
        values = self.values(budget.measure)
        figures = values[np.arange(len(chosen)), chosen]
        mean = float(figures.mean())
        met = mean <= budget.bound + 1e-12
        row: dict[str, Any] = {
            "value": mean,
            "ci95": _interval(figures, seed),
            "limit": budget.bound,
            "met": bool(met),
        }
        if not met:
            alone = float(np.where(self.eligible, values, np.inf).min(axis=1).mean())
            row["attainable"] = alone
            if alone <= budget.bound:
                row |= {"attainable": mean, "alone": alone}
        if budget.scored:
            row = {key: _as_score(value) for key, value in row.items()}
            row["ci95"] = row["ci95"][::-1]
        return row

    def _absolute(self, budget: Budget) -> Budget:
        if not budget.of_best:
            return budget
        if math.isnan(self.best):
            raise GoalError(
                f"the budget {budget.text!r}: no expert may answer every prompt, so there is no "
                "best single one; give a number, or lift a limit"
            )
        if budget.scored:
            return replace(budget, bound=1.0 - budget.bound * (1.0 - self.best), of_best=False)
        return replace(budget, bound=budget.bound * self.best, of_best=False)

    def _best_single(self) -> float:
        """Return the least mean predicted loss of a single expert that may answer every prompt."""
        means = self.losses.mean(axis=0)[self.eligible.all(axis=0)]
        return float(means.min()) if means.size else math.nan

    def _mean(self, values: Array, totals: Array) -> float:
        chosen = self.objective.choose(totals)
        return float(values[np.arange(len(chosen)), chosen].mean())


def _least(at: Callable[[float], tuple[bool, Any]]) -> tuple[float, Any]:
    """Return the least weight at which a condition holds, and the result there.

    The condition holds from some weight on; where it never does, the greatest weight is returned.
    """
    holds, result = at(0.0)
    if holds:
        return 0.0, result
    holds, result = at(_GREATEST_WEIGHT)
    low, high = math.log(_LEAST_WEIGHT), math.log(_GREATEST_WEIGHT)
    if not holds:
        return _GREATEST_WEIGHT, result
    for _ in range(_STEPS):
        middle = (low + high) / 2
        holds, middle_result = at(math.exp(middle))
        if holds:
            high, result = middle, middle_result
        else:
            low = middle
    return math.exp(high), result


def _before(weight: float, holds: Callable[[float], bool]) -> float:
    """Return the greatest weight below a given one at which a condition holds; else 0."""
    for step in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        if holds(weight * (1.0 - step)):
            return weight * (1.0 - step)
    return 0.0


def _interval(figures: Array, seed: int) -> list[float]:
    """Return the 95 % bootstrap interval of a mean over prompts, drawn with replacement."""
    rng = np.random.default_rng(seed)
    n = len(figures)
    batch = max(1, 2_000_000 // n)
    means = [
        figures[rng.integers(0, n, size=(min(batch, _RESAMPLES - start), n))].mean(axis=1)
        for start in range(0, _RESAMPLES, batch)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return [float(low), float(high)]


def _as_score(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    return [1.0 - v for v in value] if isinstance(value, list) else 1.0 - value
