"""Measure goals and budgets on routerbench11: cost and verbosity against quality.

::

    python benchmarks/goals.py              # measure, write results/goals.json, docs and figure
    python benchmarks/goals.py --render     # fill in the page from the results that are there

Everything is cross-validated over five folds: what is told of a prompt was predicted by a router
that was fitted without it. Settings are the defaults; nothing was chosen on these figures.

Exits with 1 where a figure misses its aim, see `missed`.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder
from numpy.typing import NDArray
from publishing import publish

from tryage import Expert, Library, Router, ScoreTable
from tryage.evaluation.fronts import zero_router
from tryage.evaluation.pareto import Front, pareto
from tryage.evaluation.sweeps import RAYS
from tryage.goals import GOALS
from tryage.report import plots
from tryage.training import split_folds

Array = NDArray[np.float64]

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "goals.json"
PAGE = HERE.parent / "docs" / "goals.md"
FIGURE = HERE.parent / "docs" / "goals.png"
MARKS = ("<!-- goals: begin -->", "<!-- goals: end -->")

KINDS = ("clusters", "nearest", "linear", "best-single")
BUDGETS = tuple(f"score >= {share}% of best" for share in (100, 97, 95))
TARGET = {"cost": "cost", "verbosity": "response_chars"}


class Held:
    """What routers fitted on four folds predict of the fifth, for all five."""

    def __init__(self, table: ScoreTable, kind: str, *, calibrated: bool = False) -> None:
        shape = table.losses.shape
        self.predicted = np.empty(shape)
        self.penalties = {goal: np.empty(shape) for goal in TARGET}
        self.chosen = {budget: np.full(len(table), -1) for budget in BUDGETS}
        self.best_single = np.full(len(table), -1)
        library = Library([Expert(name=name, model=name) for name in table.experts])
        fold_of = split_folds(table, 5, 0)
        for fold in range(5):
            rows = np.flatnonzero(fold_of == fold)
            train = table.select(fold_of != fold)
            router = Router.fit(train, library=library, predictor=kind)
            prompts = [table.prompts[row] for row in rows.tolist()]
            forecast = router.forecast(prompts, task="text-generation")
            self.predicted[rows] = forecast.losses
            lengths = np.array([float(len(prompt)) for prompt in prompts])
            inputs = router.objective.goal_inputs(lengths, forecast.targets)
            for goal in TARGET:
                values = router.objective.goal_values(GOALS[goal], inputs)
                scale = router.objective.scales[goal]
                self.penalties[goal][rows] = GOALS[goal].scaled(values, scale)
            if calibrated:
                for budget in BUDGETS:
                    goals = router.calibrate(train.prompts, budget)
                    decisions = router.route_batch(prompts, goals=goals, flags=False)
                    columns = [table.experts.index(decision.expert) for decision in decisions]
                    self.chosen[budget][rows] = columns
                self.best_single[rows] = int(np.nanmean(train.losses, axis=0).argmin())


def front(table: ScoreTable, held: Held, goals: list[str], rows: Any = None) -> Front:
    """Return the cross-validated front of some goals, on all prompts or on some."""
    part = table if rows is None else table.select(rows)
    picked = slice(None) if rows is None else rows
    values = [part.targets[TARGET[goal]] for goal in goals]
    return pareto(
        part,
        goals,
        predicted=held.predicted[picked],
        penalties=[held.penalties[goal][picked] for goal in goals],
        values=values,
        realised=values,
    )


def summary(curve: Front, points: int = 40) -> dict[str, Any]:
    """Return a front's object with at most so many points of each line."""
    data = curve.to_dict()
    for holder in (data, *data["references"].values()):
        rows = holder["points"]
        shown = np.unique(np.linspace(0, len(rows) - 1, min(points, len(rows))).round().astype(int))
        holder["points"] = [rows[row] for row in shown]
    return data


def saving(table: ScoreTable, held: Held, budget: str) -> dict[str, Any]:
    """Return what calibrated routing costs and scores beside the best single expert of train."""
    everyone = np.arange(len(table))
    costs = table.targets["cost"]
    pairs = {"router": held.chosen[budget], "best_single": held.best_single}
    cells = [table.losses[everyone, chosen] for chosen in pairs.values()]
    row = np.flatnonzero(~np.isnan(np.stack(cells)).any(axis=0))  # both were measured
    score = {name: 1.0 - table.losses[row, chosen[row]] for name, chosen in pairs.items()}
    cost = {name: costs[row, chosen[row]] for name, chosen in pairs.items()}
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(row), size=(2000, len(row)))

    def interval(values: Array) -> list[float]:
        return [float(v) for v in np.percentile(values, [2.5, 97.5])]

    gain = score["router"] - score["best_single"]
    ratio = cost["router"][draws].mean(axis=1) / cost["best_single"][draws].mean(axis=1)
    return {
        "prompts": len(row),
        "score": float(score["router"].mean()),
        "best_single_score": float(score["best_single"].mean()),
        "difference": float(gain.mean()),
        "difference_ci95": interval(gain[draws].mean(axis=1)),
        "cost_ratio": float(cost["router"].mean() / cost["best_single"].mean()),
        "cost_ratio_ci95": interval(ratio),
    }


def equal_quality(curve: Front) -> dict[str, float | None]:
    """Return the cost on a front's hull at shares of the best single expert's score.

    Costs are shares of that expert's cost; None where the front does not reach the score.
    """
    singles = curve.quality(curve.singles)
    best = int(np.argmax(singles))
    hull = zero_router(curve.points)
    order = np.argsort(curve.quality(hull))
    quality, values = curve.quality(hull)[order], hull.values[order, 0]
    ratios: dict[str, float | None] = {}
    for share in (100, 99, 97, 95):
        cost = np.interp(share / 100 * singles[best], quality, values, right=np.nan)
        ratio = float(cost / curve.singles.values[best, 0])
        ratios[f"{share}%"] = None if np.isnan(ratio) else ratio
    return ratios


def run(data: Path) -> dict[str, Any]:
    """Measure everything, and draw the figure."""
    table = ScoreTable.read(data / "routing" / "routerbench11_train.jsonl.gz")
    held = {kind: Held(table, kind, calibrated=kind == "clusters") for kind in KINDS}
    best = held["clusters"]
    cost = front(table, best, ["cost"])
    FIGURE.parent.mkdir(exist_ok=True)
    plots.write(cost.plot(), FIGURE)
    groups = np.array(table.groups)
    names = sorted(set(groups.tolist()))
    by_group = {name: np.flatnonzero(groups == name) for name in names}
    return {
        "command": "python benchmarks/goals.py",
        "versions": {name: version(name) for name in ("tryage", "numpy", "tokenizers")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seed": 0,
        "prompts": len(table),
        "data_sha256": table.hash,
        "cost": {kind: summary(front(table, one, ["cost"])) for kind, one in held.items()},
        "cost_by_group": {
            name: summary(front(table, best, ["cost"], rows), 10) for name, rows in by_group.items()
        },
        "verbosity": summary(front(table, best, ["verbosity"])),
        "cost_and_verbosity": summary(front(table, best, ["cost", "verbosity"])),
        "equal_quality": equal_quality(cost),
        "saving": {budget: saving(table, best, budget) for budget in BUDGETS},
    }


def page(results: dict[str, Any]) -> str:
    """Return the Markdown tables of the results."""
    lines = ["| AIQ of score over cost | router | mixtures of single experts | oracle |"]
    lines.append("|---|---|---|---|")
    rows = {
        **{f"all prompts, `{kind}`": results_of for kind, results_of in results["cost"].items()},
        **{f"{name} alone, `clusters`": f for name, f in results["cost_by_group"].items()},
    }
    for name, results_of in rows.items():
        rest = results_of["references"]
        figures = (results_of["aiq"], rest["zero_router"]["aiq"], rest["oracle"]["aiq"])
        lines.append(f"| {name} | " + " | ".join(f"{100 * f:.2f}" for f in figures) + " |")
    lines += [
        "",
        "| budget | score, % | best single, % "
        "| difference (95 %) | cost, % of best single's (95 %) |",
        "|---|---|---|---|---|",
    ]
    for name, row in results["saving"].items():
        low, high = (100 * v for v in row["difference_ci95"])
        cheap, dear = (100 * v for v in row["cost_ratio_ci95"])
        lines.append(
            f"| `{name}` | {100 * row['score']:.2f} | {100 * row['best_single_score']:.2f} "
            f"| {100 * row['difference']:+.2f} ({low:.2f} to {high:.2f}) "
            f"| {100 * row['cost_ratio']:.1f} ({cheap:.1f} to {dear:.1f}) |"
        )
    words = results["verbosity"]
    rest = words["references"]
    both = results["cost_and_verbosity"]
    lines += [
        "",
        f"{results['prompts']} prompts of routerbench11, five folds, `{results['command']}`. AIQ "
        "in %, macro average over the tasks. Second table: plain means over held-out prompts.",
        "",
        *([f"- Mixtures beat the router on: {behind}."] if (behind := _behind(rows)) else []),
        f"- Verbosity instead of cost: router {100 * words['aiq']:.2f}, mixtures "
        f"{100 * rest['zero_router']['aiq']:.2f}, oracle {100 * rest['oracle']['aiq']:.2f}.",
        f"- Both goals together: hypervolume {both['hypervolume']:.3f}{_rays(both)}.",
        f"- Cost at a share of the best single expert's score, chosen in hindsight on the router's "
        f"front, in % of that expert's cost: {_equal(results)}.",
    ]
    return "\n".join(lines)


def _behind(rows: dict[str, dict[str, Any]]) -> str:
    """Name the rows in which mixtures of single experts beat the router."""
    names = [n for n, f in rows.items() if f["aiq"] < f["references"]["zero_router"]["aiq"]]
    return "; ".join(names)


def _rays(figures: dict[str, Any]) -> str:
    return "" if figures["exact"] else f" (from {RAYS} proportions of the weights)"


def _equal(results: dict[str, Any]) -> str:
    ratios = results["equal_quality"].items()
    return ", ".join(
        f"{'not reached' if ratio is None else f'{100 * ratio:.1f}'} at {share}"
        for share, ratio in ratios
    )


def missed(results: dict[str, Any]) -> list[str]:
    """Return the aim that is missed: the router is above mixtures of single experts."""
    figures = results["cost"]["clusters"]
    aiq, mixtures = figures["aiq"], figures["references"]["zero_router"]["aiq"]
    if aiq > mixtures:
        return []
    return [f"AIQ of the router is {aiq:.4f}, not above {mixtures:.4f} of mixtures of experts"]


def main() -> int:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    return publish(
        lambda _: run(data_folder()),
        page,
        results=RESULTS,
        page=PAGE,
        marks=MARKS,
        parser=parser,
        missed=missed,
    )


if __name__ == "__main__":
    sys.exit(main())
