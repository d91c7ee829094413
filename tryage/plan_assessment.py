"""Plans against measured results: `evaluate_plans` and `plan_front` start here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tryage.assessment import Assessment, single_task
from tryage.checks import Check
from tryage.deciding import Array, Decider, Request
from tryage.errors import CheckError
from tryage.evaluation.doubts import warn_of_few, warn_of_plans
from tryage.evaluation.fronts import Points, non_dominated
from tryage.evaluation.goal_cells import GoalCells
from tryage.evaluation.intervals import bootstrap_intervals
from tryage.evaluation.measured_plans import FixedPlan, MeasuredPlans, best_fixed_plans
from tryage.evaluation.metrics import macro_shares, measured_cells
from tryage.evaluation.plans import WEIGHTS, PlanFront
from tryage.goals import check_weights
from tryage.plans import Plan, Reliability, reliability
from tryage.policy import ResolvedGoals
from tryage.scores import ScoreTable

_RESAMPLES = 1000


class PlanAssessment:
    """A router's plans for the prompts of a table, and what they attain.

    Args:
        decider: of the router.
        table: measured scores of one task.
        goal: whose values count, "cost" or "latency".
        check: accepts or rejects answers; only its rates matter here.
        max_attempts: experts in a plan at most.

    Raises:
        CheckError: the goal does not add up over attempts, or the table holds losses.
        ScoreTableError: an expert was measured on no prompt, or there are several tasks.
    """

    def __init__(
        self, decider: Decider, table: ScoreTable, goal: str, check: Check, max_attempts: int
    ) -> None:
        task, part = single_task(decider, table)
        if part.kind != "scores":
            raise CheckError("the table holds losses, where no answer is right or wrong")
        self.decider, self.task, self.goal = decider, task, goal
        self.request = Request(check=check, max_attempts=max_attempts)
        resolved = decider.policy.combine(None, None)
        if not resolved.goal(goal).adds_up:
            raise CheckError(
                f"the goal {goal!r} does not add up over attempts; plans are drawn over cost or "
                "latency"
            )
        self.resolved = resolved
        self.assessed, self.cells = _judged(Assessment.of(decider, task, part), goal)
        rates = reliability(check, decider.library.names, decider.check_rates.get(check.name))
        self.rates = Reliability(
            rates.accepts_right[self.assessed.columns], rates.accepts_wrong[self.assessed.columns]
        )
        self.measured = _measured(self.cells, self.rates)
        self._losses = self.assessed.predicted.losses[:, self.assessed.columns]

    def weighed(self, weight: float | None) -> ResolvedGoals:
        """Return the policy's goals with this weight on the goal; None changes nothing."""
        if weight is None:
            return self.resolved
        other_weights = {name: w for name, w in self.resolved.weights.items() if name != self.goal}
        weight_of_goal = check_weights({self.goal: weight} if weight else {}, self.resolved.goals)
        return replace(self.resolved, weights=other_weights | weight_of_goal)

    def plans(self, weight: float | None) -> list[Plan]:
        """Return the router's plan of every prompt."""
        return self.decider.plans(
            self.assessed.predicted,
            self.assessed.expected,
            self.task,
            self.weighed(weight),
            self.request,
        )

    def columns(self, plans: Sequence[Plan]) -> list[list[int]]:
        """Return the columns of the experts of each plan."""
        place = {name: number for number, name in enumerate(self.assessed.table.experts)}
        return [[place[name] for name in plan.experts] for plan in plans]

    def attained(self, plans: Sequence[Sequence[int]]) -> tuple[Array, Array, int]:
        """Return what one plan a prompt attains.

        Args:
            plans: columns of the n plans' experts.

        Returns:
            Expected score and value, (n,) each; on how many prompts the whole plan was measured.
        """
        return *self.measured.of(plans, self._losses), self.measured.count(plans)

    def fixed(self, train: ScoreTable) -> list[tuple[FixedPlan, Array, Array]]:
        """Return the plans that are best on a training table, with score and value here, (n,)."""
        _, part = single_task(self.decider, train)
        part = part.reorder(self.assessed.table.experts)
        _, cells = _judged(Assessment.of(self.decider, self.task, part), self.goal)
        measured = _measured(cells, self.rates)
        losses = np.broadcast_to(measured.singles.losses, self.measured.scores.shape)
        return [
            (plan, *self.measured.of([plan.columns] * len(losses), losses))
            for plan in best_fixed_plans(measured, self.request.max_attempts)
        ]


def _judged(assessed: Assessment, goal: str) -> tuple[Assessment, GoalCells]:
    """Return the assessment of the prompts that have a measured expert, and their cells."""
    cells = GoalCells.of(assessed.table, [goal], [_values(assessed, goal)])
    if len(cells.rows) == len(assessed.table):
        return assessed, cells
    part = Assessment.of(assessed.decider, assessed.task, assessed.table.select(cells.rows))
    return part, GoalCells.of(part.table, [goal], [_values(part, goal)])


def _values(assessed: Assessment, goal: str) -> Array:
    """Return measured values of a goal, (n, k), NaN where not measured."""
    name = "cost" if goal == "cost" else "latency"
    targets = assessed.table.targets.get(name)
    if targets is not None:
        return np.asarray(targets, dtype=np.float64)
    stated = assessed.decider.objective.goal_values(assessed.resolved.goal(goal), assessed.realised)
    return np.broadcast_to(stated[..., assessed.columns], assessed.table.losses.shape)


def _measured(cells: GoalCells, rates: Reliability) -> MeasuredPlans:
    return MeasuredPlans(
        1.0 - cells.measured_losses,
        cells.measured_values[..., 0],
        cells.shares,
        rates.accepts_right,
        rates.accepts_wrong,
        cells.groups,
    )


def plan_front(
    decider: Decider,
    table: ScoreTable,
    goal: str,
    check: Check,
    max_attempts: int,
    train: ScoreTable | None,
) -> PlanFront:
    """Sweep the weight of a goal over plans; see `Router.plan_front`."""
    assessed = PlanAssessment(decider, table, goal, check, max_attempts)
    measured = assessed.measured
    warn_of_few(assessed.cells.few)
    rows, attempts_at = [], {}
    for weight in WEIGHTS:
        plans = assessed.plans(weight)
        score, value, whole = assessed.attained(assessed.columns(plans))
        attempts_at[weight] = _attempts(plans)
        rows.append((weight, 1.0 - measured.mean(score), measured.mean(value), whole))
    front = non_dominated(_points(rows))
    warn_of_plans(int(front.cells.min()), assessed.cells.counts)
    experts = assessed.assessed.table.experts
    fixed = None
    if train is not None:
        fixed = tuple(
            (
                tuple(experts[column] for column in plan.columns),
                measured.mean(score),
                measured.mean(value),
            )
            for plan, score, value in assessed.fixed(train)
        )
    return PlanFront(
        goal=goal,
        check=_check_row(check, assessed.rates),
        max_attempts=max_attempts,
        prompts=len(measured.scores),
        cells=assessed.cells.counts,
        experts=experts,
        points=front,
        attempts=tuple(attempts_at[weight] for weight in front.weights[:, 0].tolist()),
        singles=measured.singles,
        fixed=fixed,
        oracle=_oracle(measured),
    )


def _attempts(plans: Sequence[Plan]) -> float:
    """Return the mean expected attempts of plans."""
    return float(np.mean([sum(a.reached for a in plan.attempts) for plan in plans]))


def _points(rows: Sequence[tuple[float, float, float, int]]) -> Points:
    """Return points of rows of weight, loss, value and wholly measured prompts."""
    return Points(
        np.array([[weight] for weight, *_ in rows]),
        np.array([loss for _, loss, _, _ in rows]),
        np.array([[value] for _, _, value, _ in rows]),
        np.array([whole for *_, whole in rows], dtype=np.intp),
    )


def _oracle(measured: MeasuredPlans) -> Points:
    """Return what the best measured expert of each prompt attains, over all weights."""
    scores, values = measured.among_measured
    scale = float(values.max() - values.min()) or 1.0
    points = []
    rows = np.arange(len(scores))
    for weight in WEIGHTS:
        total = 1.0 - scores + weight * values / scale
        best = total.argmin(axis=1)
        score = measured.mean(scores[rows, best])
        points.append((weight, 1.0 - score, measured.mean(values[rows, best]), len(rows)))
    return _points(points)


def _check_row(check: Check, rates: Reliability) -> dict[str, Any]:
    return {
        "name": check.name,
        "accepts_right": float(rates.accepts_right.mean()),
        "accepts_wrong": float(rates.accepts_wrong.mean()),
    }


def evaluate_plans(
    decider: Decider,
    table: ScoreTable,
    check: Check,
    max_attempts: int,
    train: ScoreTable | None,
    seed: int,
) -> dict[str, Any]:
    """Judge the router's plans at the policy's weights; see `Router.evaluate_plans`."""
    assessed = PlanAssessment(decider, table, "cost", check, max_attempts)
    warn_of_few(assessed.cells.few)
    measured, part = assessed.measured, assessed.assessed.table
    plans = assessed.plans(None)
    figures = {"router": assessed.attained(assessed.columns(plans))}
    warn_of_plans(figures["router"][2], assessed.cells.counts)
    scores, costs = measured.estimates
    best = int(np.argmin(measured.singles.losses))
    count = int(measured.measured[:, best].sum())
    figures["best_single"] = (scores[:, best], costs[:, best], count)
    alone = assessed.assessed.place(assessed.decider.objective.choose(assessed.assessed.totals()))
    figures["without_check"] = assessed.attained([[int(column)] for column in alone])
    scores, costs = measured.among_measured
    rows = np.arange(len(scores))
    oracle = (1.0 - scores).argmin(axis=1)
    figures["oracle"] = (scores[rows, oracle], costs[rows, oracle], len(rows))
    names: dict[str, Any] = {"best_single": part.experts[best]}
    if train is not None:
        plan, score, cost = min(assessed.fixed(train), key=lambda entry: entry[0].loss)
        names["best_fixed_plan"] = [part.experts[column] for column in plan.columns]
        whole = measured.count([plan.columns] * len(rows))
        figures["best_fixed_plan"] = (score, cost, whole)
    return {
        "prompts": len(rows),
        "cells": assessed.cells.counts.to_dict(),
        "check": _check_row(check, assessed.rates),
        "max_attempts": max_attempts,
        "attempts": _attempts(plans),
        **_rows(part, figures, names, seed),
    }


def _rows(
    table: ScoreTable,
    figures: dict[str, tuple[Array, Array, int]],
    names: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Return the router's row, the reference rows and their paired differences to the router."""
    cells, _ = measured_cells(table, None)
    shares = macro_shares(table.groups)
    flat = [figure for score, cost, _ in figures.values() for figure in (score, cost)]
    references = [name for name in figures if name != "router"]
    gains = [figures["router"][0] - figures[name][0] for name in references]
    intervals = iter(bootstrap_intervals([*flat, *gains], cells, resamples=_RESAMPLES, seed=seed))
    rows: dict[str, Any] = {}
    for name, (score, cost, whole) in figures.items():
        score_ci95, cost_ci95 = next(intervals), next(intervals)
        rows[name] = {
            "score": float(shares @ score),
            "score_ci95": score_ci95 and list(score_ci95),
            "mean_cost": float(shares @ cost),
            "mean_cost_ci95": cost_ci95 and list(cost_ci95),
            "measured_prompts": whole,
        }
        if name in names:
            rows[name]["experts"] = names[name]
    paired = {}
    for name, gain in zip(references, gains, strict=True):
        ci95 = next(intervals)
        paired[name] = {"difference": float(shares @ gain), "ci95": ci95 and list(ci95)}
    return {"router": rows.pop("router"), "references": rows, "paired": paired}
