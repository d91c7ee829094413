"""Budgets that plans with a check meet: `Router.calibrate` with ``check=``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tryage.assessment import task_of_prompts
from tryage.budgets import Calibration
from tryage.budgets.parser import Budget, parse_budget
from tryage.checks import Check
from tryage.deciding import Array, Decider, Request
from tryage.errors import GoalError
from tryage.goals import Goals
from tryage.goals.base import MOST_WEIGHT
from tryage.plans import Plan

_RESAMPLES = 1000
_STEPS = 30
_AWAY = 1e-4


def calibrate_plans(
    decider: Decider,
    prompts: Sequence[str],
    budgets: Sequence[str],
    check: Check,
    max_attempts: int,
    *,
    goals: Goals | None,
    task: str | None,
    seed: int,
) -> Calibration:
    """Find the weight with which plans meet one budget; see `Router.calibrate`.

    The expected cost of a plan falls as its weight rises, and its expected loss rises, so the
    weight is found by bisection.

    Raises:
        GoalError: there are several budgets, or the budget is malformed, or it is neither on a
            goal that adds up nor on the score or loss.
        PromptError: there is no prompt, or prompts ask for several tasks.
    """
    task = task_of_prompts(prompts, task)
    if len(budgets) != 1:
        raise GoalError(f"{len(budgets)} budgets; with a check give one")
    (text,) = budgets
    resolved = decider.policy.combine(goals, None)
    budget = parse_budget(text, resolved.goals)
    goal = "cost" if budget.measure == "loss" else budget.measure
    if budget.measure != "loss" and not resolved.goal(goal).adds_up:
        raise GoalError(
            f"the budget {text!r} is on {goal}, which does not add up over attempts; with a check "
            "give one on cost, latency, score or loss"
        )
    predicted = decider.forecast(prompts, task)
    inputs = decider.goal_inputs(prompts, predicted)
    request = Request(goals=goals, check=check, max_attempts=max_attempts)
    other_weights = {name: weight for name, weight in resolved.weights.items() if name != goal}

    def at(weight: float) -> list[Plan]:
        weighed = replace(resolved, weights=other_weights | ({goal: weight} if weight else {}))
        return decider.plans(predicted, inputs, task, weighed, request)

    def figures(plans: Sequence[Plan]) -> Array:
        if budget.measure == "loss":
            return np.array([plan.loss for plan in plans])
        values = decider.objective.goal_values(resolved.goal(goal), inputs)
        table = np.broadcast_to(values, predicted.losses.shape)
        return np.array(
            [
                sum(a.reached * row[decider.library.index(a.expert)] for a in plan.attempts)
                for plan, row in zip(plans, table, strict=True)
            ]
        )

    bound = _bound(budget, predicted.losses)
    weight, plans = _bisected(at, lambda plans: figures(plans).mean() <= bound + 1e-12, budget)
    row = _budget_row(figures(plans), bound, budget, seed)
    names = [plan.attempts[0].expert for plan in plans]
    shares = {name: names.count(name) / len(names) for name in dict.fromkeys(names)}
    return Calibration(goals or Goals(), {goal: weight}, {text: row}, shares)


def _bound(budget: Budget, losses: Array) -> float:
    """Return the greatest mean that a budget allows, in the unit of its measure."""
    if not budget.of_best:
        return budget.bound
    best = float(np.nanmin(losses.mean(axis=0)))
    return 1.0 - budget.bound * (1.0 - best) if budget.scored else budget.bound * best


def _bisected(
    at: Callable[[float], list[Plan]], holds: Callable[[list[Plan]], bool], budget: Budget
) -> tuple[float, list[Plan]]:
    """Return the weight at which a budget is just met, with the plans there.

    A budget on a goal is met from some weight on; one on the loss up to some weight.
    """
    rises = budget.measure == "loss"
    low, high = 0.0, MOST_WEIGHT
    first, last = (high, low) if rises else (low, high)
    plans = at(first)
    if holds(plans):
        return first, plans
    best, best_plans = last, at(last)
    low, high = math.log(1e-6), math.log(MOST_WEIGHT)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        plans = at(math.exp(middle))
        if holds(plans):
            best, best_plans = math.exp(middle), plans
        if holds(plans) == rises:
            low = middle
        else:
            high = middle
    # A step past the crossing: predictions alone and in a batch differ by rounding.
    away = best * (1.0 - _AWAY if rises else 1.0 + _AWAY)
    plans = at(min(away, MOST_WEIGHT))
    return (away, plans) if holds(plans) else (best, best_plans)


def _budget_row(figures: Array, bound: float, budget: Budget, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    means = figures[rng.integers(0, len(figures), size=(_RESAMPLES, len(figures)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5]).tolist()
    mean = float(figures.mean())
    row: dict[str, Any] = {
        "value": mean,
        "ci95": [low, high],
        "limit": bound,
        "met": bool(mean <= bound + 1e-12),
    }
    if not row["met"]:
        row["attainable"] = mean
    if budget.scored:
        numbers = {k: 1.0 - v for k, v in row.items() if k in ("value", "limit", "attainable")}
        row |= numbers | {"ci95": [1.0 - high, 1.0 - low]}
    return row
