"""Measure what `clusters` makes of eleven hosted models: cost against quality, task by task.

::

    python benchmarks/routerbench.py             # measure, write results/routerbench.json, fill in
    python benchmarks/routerbench.py --render    # fill in the page from the results that are there

Five folds of routerbench11, three times over; what is told of a prompt was predicted by a fit
without it. AIQ: area under the non-decreasing concave hull of mean score over mean cost, divided by
the range from the cheapest to the dearest single expert. The zero router mixes single experts; it
is told twice, with the results known, as usual, and with mixtures that are best on the training
folds' prompts of the task, as a router has to choose.

Exits with 1 where a figure misses its aim, see `missed`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder, provenance
from numpy.typing import NDArray
from publishing import publish

from tryage import ScoreTable
from tryage.encoders import CachedEncoder, StaticEncoder
from tryage.evaluation.metrics import mean_over
from tryage.evaluation.pareto import pareto
from tryage.predictors import ClustersPredictor
from tryage.training import split_folds

logger = logging.getLogger("routerbench")
Floats = NDArray[Any]
Forecast = dict[str, Floats]
"""Target → predicted values, (n, m)."""

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "routerbench.json"
PAGE = HERE.parent / "docs" / "routing-results.md"
MARKS = ("<!-- routerbench: begin -->", "<!-- routerbench: end -->")
SEEDS = (0, 1, 2)
LENGTH = "response_chars"


def held_out(
    table: ScoreTable, seed: int, learn: Callable[[ScoreTable, ScoreTable], Forecast]
) -> Forecast:
    """Return what is told of every prompt by a fit on the other folds."""
    predicted = {name: np.empty(table.losses.shape) for name in ("loss", "cost", LENGTH)}
    fold_of = split_folds(table, 5, seed)
    for fold in range(5):
        rows = np.flatnonzero(fold_of == fold)
        forecast = learn(table.select(fold_of != fold), table.select(rows))
        for name, values in predicted.items():
            values[rows] = forecast[name]
    return predicted


def by_task(train: ScoreTable, test: ScoreTable) -> Forecast:
    """Predict the means of the prompt's task: what the zero router of the training folds knows."""
    groups = np.array(train.groups)
    forecast = {}
    for name in ("loss", "cost", LENGTH):
        values = train.losses if name == "loss" else train.targets[name]
        means = {group: mean_over(values[groups == group], axis=0) for group in set(groups)}
        forecast[name] = np.stack([means[group] for group in test.groups])
    return forecast


def aiq(table: ScoreTable, forecast: Forecast, rows: Floats) -> dict[str, float | None]:
    """Return the AIQ of choosing by what was told, of the zero router and of the oracle."""
    part = table.select(rows)
    cost = part.targets["cost"]
    front = pareto(
        part,
        ["cost"],
        predicted=forecast["loss"][rows],
        penalties=[forecast["cost"][rows]],
        values=[cost],
        realised=[cost],
    )
    lines = {"router": front.points, "zero_router": front.zero, "oracle": front.oracle}
    return {name: front.aiq(points) for name, points in lines.items()}


def agreement(measured: Floats, predicted: Floats) -> dict[str, float]:
    """Return how predicted values, (n, m), agree with measured ones, over experts."""
    is_measured = ~np.isnan(measured)
    rows = [
        (measured[is_measured[:, j], j], predicted[is_measured[:, j], j])
        for j in range(measured.shape[1])
    ]
    return {
        "error_of_mean": float(np.mean([abs(p.mean() / y.mean() - 1.0) for y, p in rows])),
        "relative_error": float(np.mean([np.abs(y - p).mean() / y.mean() for y, p in rows])),
    }


def run(data: Path) -> dict[str, Any]:
    """Measure fronts and predicted targets."""
    table = ScoreTable.read(data / "routing" / "routerbench11_train.jsonl.gz")
    encoder = CachedEncoder(StaticEncoder.bundled(), table.prompts)

    def clusters(train: ScoreTable, test: ScoreTable) -> Forecast:
        return ClustersPredictor(encoder).fit(train.prompts, train).predict(test.prompts).mean

    groups = np.array(table.groups)
    parts = {"all prompts": np.arange(len(table))}
    parts |= {name: np.flatnonzero(groups == name) for name in sorted(set(groups.tolist()))}
    fronts: dict[str, list[dict[str, Any]]] = {name: [] for name in parts}
    targets: dict[str, list[dict[str, Any]]] = {}
    for seed in SEEDS:
        predicted, by_group = held_out(table, seed, clusters), held_out(table, seed, by_task)
        for name, rows in parts.items():
            row = aiq(table, predicted, rows)
            row["zero_router_of_train"] = aiq(table, by_group, rows)["router"]
            fronts[name].append(row)
            for target in ("cost", LENGTH):
                figures = agreement(table.targets[target][rows], predicted[target][rows])
                targets.setdefault(f"{target}, {name}", []).append(figures)
        logger.info("seed %d: %s", seed, {name: rows[-1] for name, rows in fronts.items()})
    return {
        "prompts": len(table),
        "seeds": SEEDS,
        "data_sha256": table.hash,
        "aiq": fronts,
        "targets": {name: averaged(rows) for name, rows in targets.items()},
    }


def averaged(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the means of figures over seeds."""
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def page(results: dict[str, Any]) -> str:
    """Return the Markdown tables of the results."""
    lines = [
        "| AIQ of score over cost, % | router (lowest to highest seed) | zero router * "
        "| zero router of the training folds | oracle * |",
        "|---|---|---|---|---|",
    ]
    for name, rows in results["aiq"].items():
        mean = averaged(rows)
        each = [100 * row["router"] for row in rows]
        lines.append(
            f"| {name} | {100 * mean['router']:.2f} ({min(each):.2f} to {max(each):.2f}) "
            f"| {100 * mean['zero_router']:.2f} "
            f"| {100 * mean['zero_router_of_train']:.2f} | {100 * mean['oracle']:.2f} |"
        )
    lines += [
        "",
        "| predicted, on held-out prompts | error of an expert's mean | error of a prompt |",
        "|---|---|---|",
    ]
    words = {"cost": "cost", LENGTH: "length"}
    for name, row in results["targets"].items():
        target, part = name.split(", ", 1)
        lines.append(
            f"| {words[target]}, {part} | {100 * row['error_of_mean']:.1f} % "
            f"| {100 * row['relative_error']:.1f} % |"
        )
    lines += [
        "",
        f"{results['prompts']} prompts of routerbench11, `{results['command']}`, `clusters` on the "
        f"bundled encoder, {len(results['seeds'])} times five folds. * chosen in hindsight.",
    ]
    return "\n".join(lines)


def missed(results: dict[str, Any]) -> list[str]:
    """Return the tasks on which the router is not above the zero router, over the seeds."""
    means = {name: averaged(rows) for name, rows in results["aiq"].items()}
    return [
        f"AIQ on {name} is {mean['router']:.4f}, not above {mean['zero_router']:.4f} of the zero "
        "router"
        for name, mean in means.items()
        if not mean["router"] > mean["zero_router"]
    ]


def main() -> int:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    return publish(
        lambda _: provenance("python benchmarks/routerbench.py") | run(data_folder()),
        page,
        results=RESULTS,
        page=PAGE,
        marks=MARKS,
        parser=parser,
        missed=missed,
    )


if __name__ == "__main__":
    sys.exit(main())
