"""Measure routing on tasks that are in neither file: leave each group out, and be judged on it.

::

    python benchmarks/elsewhere.py              # measure, write results/elsewhere.json, fill in
    python benchmarks/elsewhere.py --render     # fill in the page from the results that are there

A router is fitted on the training prompts of all groups but one, for each group of open7 and of
routerbench11, and chooses for the prompts of that one. Beside it stand the single expert that was
best on the other groups, which is what one would use without a router, and, with the results known,
the best single expert there. No test prompt is used.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder, provenance
from publishing import publish

from tryage import ScoreTable
from tryage.encoders import StaticEncoder
from tryage.evaluation.metrics import macro_mean, measured_cells
from tryage.predictors import ClustersPredictor

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "elsewhere.json"
PAGE = HERE.parent / "docs" / "routing-results.md"
MARKS = ("<!-- elsewhere: begin -->", "<!-- elsewhere: end -->")
TABLES = ("open7_train", "routerbench11_train")
RESAMPLES = 2000


def left_out(table: ScoreTable, group: str) -> dict[str, Any]:
    """Return the scores on a group of a router that was fitted without it."""
    groups = np.array(table.groups)
    train, test = table.select(groups != group), table.select(groups == group)
    predictor = ClustersPredictor(StaticEncoder.bundled()).fit(train.prompts, train)
    forecast = predictor.predict(test.prompts)
    columns = forecast.with_averages(predictor.averages_).mean["loss"].argmin(axis=1)
    cells, _ = measured_cells(train, None)
    means = [macro_mean(column, cells) for column in train.losses.T]
    scores = 1.0 - test.losses
    row = np.arange(len(test))
    routed, single = scores[row, columns], scores[:, int(np.argmin(means))]
    by_prompts = scores[:, int(np.nanmean(train.losses, axis=0).argmin())]
    gain = routed - single
    drawn = np.random.default_rng(0).integers(len(gain), size=(RESAMPLES, len(gain)))
    means_drawn = np.nanmean(gain[drawn], axis=1)
    return {
        "prompts": len(test),
        "score": float(np.nanmean(routed)),
        "best_elsewhere": float(np.nanmean(single)),
        "best_elsewhere_by_prompts": float(np.nanmean(by_prompts)),
        "best_here": float(np.nanmean(scores, axis=0).max()),
        "mean_of_experts": float(np.nanmean(scores)),
        "gain": float(np.nanmean(gain)),
        "gain_ci95": [float(value) for value in np.percentile(means_drawn, [2.5, 97.5])],
        "out_of_distribution": float(forecast.ood.mean()),
    }


def measure(data: Path) -> dict[str, Any]:
    """Leave every group of every table out in turn."""
    tables: dict[str, Any] = {}
    for name in TABLES:
        whole = ScoreTable.read(data / "routing" / f"{name}.jsonl.gz")
        table = replace(whole, targets={})
        groups = sorted({str(group) for group in table.groups})
        rows = {group: left_out(table, group) for group in groups}
        mean = {
            key: float(np.mean([row[key] for row in rows.values()]))
            for key in next(iter(rows.values()))
            if not key.endswith("ci95")
        }
        tables[name] = {"sha256": whole.hash, "groups": rows, "mean": mean}
    return tables


def page(results: dict[str, Any]) -> str:
    """Return the Markdown table of the results."""
    lines = [
        "| left out | router | best single elsewhere, macro average | router minus that (95 %) "
        "| best single elsewhere, plain mean | best single there * | mean of all experts "
        "| flagged, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in TABLES:
        for group, row in results[name]["groups"].items():
            low, high = (100 * value for value in row["gain_ci95"])
            lines.append(
                f"| {name.split('_')[0]}: {group} | {100 * row['score']:.2f} "
                f"| {100 * row['best_elsewhere']:.2f} "
                f"| {100 * row['gain']:+.2f} ({low:+.2f} to {high:+.2f}) "
                f"| {100 * row['best_elsewhere_by_prompts']:.2f} "
                f"| {100 * row['best_here']:.2f} | {100 * row['mean_of_experts']:.2f} "
                f"| {100 * row['out_of_distribution']:.1f} |"
            )
        mean = results[name]["mean"]
        lines.append(
            f"| {name.split('_')[0]}: mean | {100 * mean['score']:.2f} "
            f"| {100 * mean['best_elsewhere']:.2f} | {100 * mean['gain']:+.2f} "
            f"| {100 * mean['best_elsewhere_by_prompts']:.2f} "
            f"| {100 * mean['best_here']:.2f} | {100 * mean['mean_of_experts']:.2f} | |"
        )
    lines += [
        "",
        f"Score in %, `{results['command']}`, `clusters` on the bundled encoder. * chosen in "
        "hindsight. Flagged: out of distribution, so the best expert on average was chosen.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    publish(
        lambda _: provenance("python benchmarks/elsewhere.py") | measure(data_folder()),
        page,
        results=RESULTS,
        page=PAGE,
        marks=MARKS,
        parser=parser,
    )


if __name__ == "__main__":
    main()
