"""Measure what 200 probes of a new expert are worth, beside a full refit.

::

    python benchmarks/new_expert.py             # measure, write results/new_expert.json, fill in
    python benchmarks/new_expert.py --render    # fill in the page from the results that are there

Each expert is left out in turn. On the held-out fifth of the training prompts, the gain of a full
refit with it over the router without it is compared with the gain of adding it from random probes
of the other four fifths, on which the other experts were measured, too. The test prompts are not
used.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from data import data_folder, provenance
from numpy.typing import NDArray
from publishing import publish

from tryage import ScoreTable
from tryage.encoders import CachedEncoder, StaticEncoder
from tryage.evaluation.metrics import macro_mean, measured_cells
from tryage.predictors import ClustersPredictor, Predictor
from tryage.training import split_folds

logger = logging.getLogger("new_expert")

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "new_expert.json"
PAGE = HERE.parent / "docs" / "routing-results.md"
MARKS = ("<!-- new expert: begin -->", "<!-- new expert: end -->")

SAMPLES, RESAMPLES = 5, 1000
Floats = NDArray[Any]


class Case(NamedTuple):
    """A library, how many probes, and what a cost of 1 USD per prompt counts as a loss."""

    table: str
    probes: int
    per_usd: float = 0.0


CASES = {
    "open7": Case("open7_train", 200),
    "open7, 1,000 probes": Case("open7_train", 1000),
    "routerbench11": Case("routerbench11_train", 200),
    "routerbench11, 1 USD per 1,000 prompts against 5 points": Case(
        "routerbench11_train", 200, 50.0
    ),
}


def measured_on_all(table: ScoreTable) -> ScoreTable:
    """Return the prompts on which every expert's loss and cost were measured."""
    costs = table.targets.get("cost")
    complete = ~np.isnan(table.losses).any(axis=1)
    if costs is not None:
        complete &= ~np.isnan(costs).any(axis=1)
    targets = {} if costs is None else {"cost": costs}
    return replace(table, targets=targets).select(complete)


def realised(predictor: Predictor, table: ScoreTable, per_usd: float) -> Floats:
    """Return loss plus weighted cost of what a predictor chooses on each prompt, (n,)."""
    means = predictor.predict(table.prompts).mean
    totals = means["loss"] + (per_usd * means["cost"] if per_usd else 0.0)
    columns = np.array([table.experts.index(name) for name in predictor.experts_])
    chosen = columns[totals.argmin(axis=1)]
    row = np.arange(len(table))
    cost = table.targets["cost"][row, chosen] if per_usd else 0.0
    result: Floats = table.losses[row, chosen] + per_usd * cost
    return result


def gains(table: ScoreTable, case: Case) -> tuple[Floats, Floats]:
    """Return gains per prompt: of full refits (m, n) and of additions (m, samples, n)."""
    encoder = CachedEncoder(StaticEncoder.bundled(), table.prompts)
    m, n = len(table.experts), len(table)
    full, added = np.zeros((m, n)), np.zeros((m, SAMPLES, n))
    fold_of = split_folds(table, 5, 0)
    for fold in range(5):
        held_out = np.flatnonzero(fold_of == fold)
        train, test = table.select(fold_of != fold), table.select(held_out)
        whole = ClustersPredictor(encoder).fit(train.prompts, train)
        refitted = realised(whole, test, case.per_usd)
        for column, name in enumerate(table.experts):
            others = train.reorder([other for other in table.experts if other != name])
            rest = ClustersPredictor(encoder).fit(others.prompts, others)
            without = realised(rest, test, case.per_usd)
            full[column, held_out] = without - refitted
            for sample in range(SAMPLES):
                rng = np.random.default_rng([fold, column, sample])
                probes = train.select(rng.choice(len(train), case.probes, replace=False))
                grown = rest.with_expert(probes.prompts, probes)
                added[column, sample, held_out] = without - realised(grown, test, case.per_usd)
    return full, added


def run(table: ScoreTable, case: Case) -> dict[str, Any]:
    """Return the share of the refits' gain that probes reach, with its interval."""
    table = measured_on_all(table)
    full, added = gains(table, case)
    cells, _ = measured_cells(table, None)
    mean = added.mean(axis=1)
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(cells.groups == group) for group in range(len(cells.names))]

    def gained(values: Floats, parts: list[Floats]) -> float:
        return float(np.mean([values[:, part].mean() for part in parts]))

    def share(parts: list[Floats]) -> float:
        return gained(mean, parts) / gained(full, parts)

    drawn = [share([rng.choice(part, len(part)) for part in groups]) for _ in range(RESAMPLES)]
    return {
        "probes": case.probes,
        "samples": SAMPLES,
        "prompts": len(table),
        "sha256": table.hash,
        "full_refit": gained(full, groups),
        "from_probes": gained(mean, groups),
        "share_of_gain": share(groups),
        "share_of_gain_ci95": [float(value) for value in np.percentile(drawn, [2.5, 97.5])],
        "by_expert": {
            name: {
                "full_refit": macro_mean(full[column], cells),
                "from_probes": macro_mean(mean[column], cells),
            }
            for column, name in enumerate(table.experts)
        },
    }


def page(results: dict[str, Any]) -> str:
    """Return the Markdown table of the results."""
    lines = [
        "| library | probes | gain of a full refit | gain from probes | share of it (95 %) |",
        "|---|---|---|---|---|",
    ]
    for name, row in results["cases"].items():
        low, high = row["share_of_gain_ci95"]
        lines.append(
            f"| {name} | {row['probes']} | {100 * row['full_refit']:.2f} "
            f"| {100 * row['from_probes']:.2f} "
            f"| {row['share_of_gain']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    lines += [
        "",
        f"Gains in points, mean over leaving each expert out, five folds and {SAMPLES} samples of "
        f"probes, `clusters` on the bundled encoder; `{results['command']}`. Intervals: bootstrap "
        "over prompts within groups.",
    ]
    return "\n".join(lines)


def measure(_: argparse.Namespace) -> dict[str, Any]:
    """Run every case."""
    folder = data_folder() / "routing"
    cases = {}
    for name, case in CASES.items():
        cases[name] = run(ScoreTable.read(folder / f"{case.table}.jsonl.gz"), case)
        logger.info("%s: %s", name, cases[name])
    return provenance("python benchmarks/new_expert.py") | {"cases": cases}


def main() -> None:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    publish(measure, page, results=RESULTS, page=PAGE, marks=MARKS, parser=parser)


if __name__ == "__main__":
    main()
