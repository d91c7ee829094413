"""What plans with a check attain: coding34 with stated reliability, routerbench11 with agreement.

Everything is chosen on training prompts and judged on others: random halves of the prompts of
coding34, cells that were not measured estimated, and five folds of routerbench11. Expected values
are exact. Needs the benchmark data.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from data import data_folder, provenance, read_jsonl
from plans_table import MARKS, PAGE, table
from publishing import publish

from tryage import Expert, Library, Router, ScoreTable
from tryage.checks import Check
from tryage.evaluation.fronts import Points, hull_area, non_dominated, zero_router
from tryage.evaluation.goal_cells import GoalCells
from tryage.evaluation.plans import WEIGHTS, PlanFront
from tryage.forecast import Forecast
from tryage.plans import JointSuccess, PlanInputs, Reference, best_plan, realised

RESULTS = Path(__file__).parent / "results" / "plans.json"
SPLITS = 10
SHARES = (0.25, 0.4, 0.5)
CHECKS = {"perfect": (1.0, 0.0), "90/10": (0.9, 0.1), "80/20": (0.8, 0.2)}
OTHER = "zero-one-ai/Yi-34B-Chat"
"""The model that the check asks."""


def never(prompt: str, answer: str) -> bool:
    """Stand for a check of which only the rates matter."""
    raise RuntimeError("not called")


def router_of(train: ScoreTable) -> Router:
    """Fit a router on a table, with a library of its names."""
    library = Library([Expert(name=name, model=name) for name in train.experts])
    return Router.fit(train, library=library, predictor="clusters")


def at(points: Points, value: float) -> float:
    """Return the score that points attain at a mean value, mixing the two points beside it."""
    front = non_dominated(points)
    order = np.argsort(front.values[:, 0])
    x, y = front.values[order, 0], 1.0 - front.losses[order]
    return float(np.interp(value, x, y, left=np.nan))


def coding(folder: Path) -> dict[str, Any]:
    """Judge plans on random halves of the prompts of coding34."""
    whole = ScoreTable.read(folder / "routing" / "coding34_train.jsonl.gz")
    rows = [half(whole, seed) for seed in range(SPLITS)]
    cells = goal_cells(whole)
    return {
        "prompts": len(cells.rows),
        "cells": cells.counts.to_dict(),
        "splits": SPLITS,
        "experts": len(whole.experts),
        "checks": {name: _summary([row[name] for row in rows]) for name in CHECKS},
    }


def half(whole: ScoreTable, seed: int) -> dict[str, dict[str, Any]]:
    """Judge plans on a random half of a table, with every check."""
    held_out = np.random.default_rng(seed).permutation(len(whole))[len(whole) // 2 :]
    test = whole.select(held_out)
    train = whole.select(np.setdiff1d(np.arange(len(whole)), held_out))
    router = router_of(train)
    on_train = goal_cells(train)
    mean_losses = on_train.shares @ on_train.losses
    rows = {}
    for name, (right, wrong) in CHECKS.items():
        check = Check(never, accepts_right=right, accepts_wrong=wrong)
        front = router.plan_front(test, check, train=train)
        rows[name] = _split(front, mean_losses)
        print(f"split {seed + 1} of {SPLITS}, {name}", file=sys.stderr, flush=True)
    return rows


def goal_cells(table: ScoreTable) -> GoalCells:
    """Return losses and costs of a table, estimated where not measured."""
    return GoalCells.of(table, ["cost"], [table.targets["cost"]])


def _split(front: PlanFront, mean_losses: np.ndarray) -> dict[str, Any]:
    """Return what one half attains at each share of the best single model's cost.

    Args:
        front: of plans, on the judged half.
        mean_losses: mean loss of each expert on the training prompts, shape (experts,).
    """
    singles = front.singles
    best = int(singles.losses.argmin())
    score, cost = 1.0 - float(singles.losses[best]), float(singles.values[best, 0])
    row: dict[str, Any] = {"best_single": score, "aiq": front.aiq(front.points)}
    row["aiq_singles"] = front.aiq(zero_router(singles))
    row["aiq_fixed"] = front.aiq(front._fixed_points)
    for share in SHARES:
        affordable = singles.values[:, 0] <= share * cost
        row[f"single_{share}"] = float((1.0 - singles.losses[affordable]).max())
        chosen = np.flatnonzero(affordable)[mean_losses[affordable].argmin()]
        row[f"chosen_{share}"] = float(1.0 - singles.losses[chosen])
        row[f"router_{share}"] = at(front.points, share * cost)
        row[f"fixed_{share}"] = at(front._fixed_points, share * cost)
    return row


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means over splits, and 95 % intervals of the router's leads."""
    summary: dict[str, Any] = {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}
    pairs = {"best_single": lambda row, share: row["best_single"]}
    pairs["single"] = lambda row, share: row[f"single_{share}"]
    pairs["chosen"] = lambda row, share: row[f"chosen_{share}"]
    pairs["fixed"] = lambda row, share: row[f"fixed_{share}"]
    for share in SHARES:
        for name, of in pairs.items():
            leads = [row[f"router_{share}"] - of(row, share) for row in rows]
            summary[f"lead_{name}_{share}"] = _interval(leads)
    return summary


def _interval(values: list[float]) -> dict[str, float]:
    """Return a mean, and mean ± 2.26 standard errors over ten splits (Student's t)."""
    mean = statistics.fmean(values)
    half = 2.26 * statistics.stdev(values) / len(values) ** 0.5
    return {"mean": mean, "low": mean - half, "high": mean + half}


def agreement(folder: Path) -> dict[str, Any]:
    """Judge plans whose check is that a second cheap model gives the same letter."""
    whole = ScoreTable.read(folder / "routing" / "routerbench11_train.jsonl.gz")
    answers = list(read_jsonl(folder / "routing" / "routerbench11_train_answers.jsonl.gz"))
    part = whole.select(np.array([row["line"] for row in answers]))
    letters = [row["answers"] for row in answers]
    same = np.array(
        [[choices.get(name) == choices.get(OTHER) for name in part.experts] for choices in letters]
    )
    rows_of_groups = {}
    for group in dict.fromkeys(part.groups):
        rows = np.flatnonzero([other == group for other in part.groups])
        complete = ~np.isnan(part.losses[rows]).any(axis=1)
        rows_of_groups[str(group)] = _agreement(part.select(rows[complete]), same[rows[complete]])
    return rows_of_groups


def _agreement(part: ScoreTable, same: np.ndarray) -> dict[str, Any]:
    """Sweep plans and single choices over one task, five folds."""
    folds = np.random.default_rng(0).permutation(len(part)) % 5
    scores, costs = 1.0 - part.losses, part.targets["cost"]
    plain, planned = [], []
    for fold in range(5):
        train, test = folds != fold, folds == fold
        router = router_of(part.select(train))
        prompts = part.select(test).prompts
        case = Case(
            router.forecast(prompts, task="text-generation"),
            router.joint["text-generation"],
            *_rates(scores[train], same[train]),
            scores[test],
            costs[test],
            same[test],
            part.experts.index(OTHER),
        )
        plain.append(_sweep(case, 1))
        planned.append(_sweep(case, 3))
    singles = Points(
        np.zeros((scores.shape[1], 1)),
        1.0 - scores.mean(axis=0),
        costs.mean(axis=0)[:, None],
        np.full(scores.shape[1], len(scores)),
    )

    def aiq(points: Points) -> float:
        return 1.0 + (hull_area(points, singles) or 0.0)

    return {
        "prompts": len(part),
        "aiq_singles": aiq(zero_router(singles)),
        "aiq_prompt_only": aiq(_pooled(plain)),
        "aiq_plans": aiq(_pooled(planned)),
    }


class Case(NamedTuple):
    """One fold: what is predicted of its prompts, the check's rates, and what is measured."""

    predicted: Forecast
    joint: JointSuccess
    right: np.ndarray
    wrong: np.ndarray
    scores: np.ndarray
    costs: np.ndarray
    same: np.ndarray
    other: int


def _rates(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each expert's right and wrong answers agree with the other model's."""
    right, wrong = scores >= 0.5, scores < 0.5
    return (
        ((same & right).sum(0) + 1) / (right.sum(0) + 2),
        ((same & wrong).sum(0) + 1) / (wrong.sum(0) + 2),
    )


def _sweep(case: Case, most: int) -> list[tuple[float, float, int]]:
    """Return score sum, cost sum and count at every weight; agreement decides what goes out."""
    losses = np.clip(case.predicted.losses, 0.0, 1.0)
    price = case.predicted.targets["cost"]
    width = float(price.max() - price.min())
    ranks = np.arange(losses.shape[1])
    verdicts = case.same.astype(float)
    rows = []
    for weight in WEIGHTS:
        plans = []
        for loss, cost in zip(losses, weight * price / width, strict=True):
            inputs = PlanInputs(
                loss,
                cost,
                np.zeros(len(ranks)),
                case.right,
                case.wrong,
                case.joint,
                Reference(1 - loss[case.other], case.joint.shared[case.other], case.other),
                float(cost[case.other]),
            )
            plans.append(best_plan(inputs, most, loss + cost, ranks))
        score, cost = realised(plans, case.scores, case.costs, losses, verdicts, verdicts)
        is_checked = np.array([len(plan) > 1 for plan in plans])
        cost = cost + np.where(is_checked, case.costs[:, case.other], 0.0)
        rows.append((float(score.sum()), float(cost.sum()), len(plans)))
    return rows


def _pooled(folds: list[list[tuple[float, float, int]]]) -> Points:
    """Return the points of all folds together, one for each weight."""
    losses, values = [], []
    for rows in zip(*folds, strict=True):
        count = sum(n for _, _, n in rows)
        losses.append(1.0 - sum(s for s, _, _ in rows) / count)
        values.append([sum(c for _, c, _ in rows) / count])
    return Points(
        np.array(WEIGHTS)[:, None], np.array(losses), np.array(values), np.zeros(len(WEIGHTS), int)
    )


def speed() -> dict[str, float]:
    """Return the median milliseconds of choosing a plan of at most three attempts."""
    rng = np.random.default_rng(0)
    milliseconds = {}
    for m in (10, 100):
        cases = [
            PlanInputs(
                rng.uniform(0.05, 0.6, m),
                rng.uniform(0.0, 0.2, m),
                np.zeros(m),
                np.full(m, 0.9),
                np.full(m, 0.1),
                JointSuccess(rng.uniform(0.2, 0.9, m)),
            )
            for _ in range(300)
        ]
        milliseconds[str(m)] = _median([lambda case=case: _choose(case) for case in cases])
    return milliseconds


def _choose(case: PlanInputs) -> None:
    ranks = np.arange(len(case.losses))
    best_plan(case, 3, case.losses + case.attempt_prices, ranks)


def _median(calls: list[Callable[[], None]]) -> float:
    times = []
    for call in calls:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


PARTS = {
    "coding34": lambda: coding(data_folder()),
    "agreement": lambda: agreement(data_folder()),
    "milliseconds": speed,
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything, or some parts; the others stay as they were measured before."""
    before = {} if len(options.parts) == len(PARTS) else json.loads(RESULTS.read_text("utf-8"))
    others = {name: before[name] for name in PARTS if name not in options.parts}
    measured = {name: PARTS[name]() for name in options.parts}
    return provenance("make bench-plans") | others | measured


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="what to measure"
    )
    return options


if __name__ == "__main__":
    publish(
        measure,
        table,
        results=RESULTS,
        page=PAGE,
        marks=MARKS,
        parser=parser(),
    )
