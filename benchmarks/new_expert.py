"""Measure what a few probes of a new expert are worth, beside a full refit.

::

    python benchmarks/new_expert.py             # measure, write results/new_expert.json, fill in
    python benchmarks/new_expert.py --render    # fill in the page from the results that are there

Each expert is left out in turn, and added from random probes of the training prompts, on which the
other experts were measured, too. Its gain over the router without it is compared with the gain of
a full refit. All ways of `new_expert_ways.py` are compared by cross-validation on the training
prompts; the first two are then measured on the test prompts: open7_test, and two fifths of
routerbench11 that cross-validation does not use.
"""

from __future__ import annotations

import argparse
import logging
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from data import data_folder, provenance
from new_expert_ways import Floats, LeftOut, Way, left_out, measured_on_all, ways
from publishing import publish

from tryage import ScoreTable
from tryage.evaluation.metrics import Measured, macro_mean, measured_cells
from tryage.training import split_folds

logger = logging.getLogger("new_expert")

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "new_expert.json"
PAGE = HERE.parent / "docs" / "routing-results.md"
MARKS = ("<!-- new expert: begin -->", "<!-- new expert: end -->")

COUNTS, TRIED_COUNTS = (8, 20, 50, 100, 200), (50, 200)
DRAWS, TRIED_DRAWS, RESAMPLES = 10, 2, 1000
AIM = 0.6
"""Share of a refit's gain on routerbench11 from 50 probes."""


class Case(NamedTuple):
    """A library, and what a cost of 1 USD per prompt counts as a loss."""

    table: str
    per_usd: float = 0.0


CASES = {
    "open7": Case("open7"),
    "routerbench11": Case("routerbench11"),
    "routerbench11 with cost": Case("routerbench11", 50.0),
}


def apart(table: ScoreTable) -> tuple[ScoreTable, ScoreTable]:
    """Split two fifths of each group off; return the rest and them."""
    rng, test = np.random.default_rng(17), np.zeros(len(table), dtype=bool)
    groups = np.array(table.groups)
    for name in sorted(set(table.groups)):
        rows = np.flatnonzero(groups == name)
        test[rng.permutation(rows)[: int(0.4 * len(rows))]] = True
    return table.select(~test), table.select(test)


def gains(cases: list[LeftOut], way: Way, count: int, draws: int, fold: int = 0) -> Floats:
    """Return gains per prompt, (m, draws, n)."""
    return np.array(
        [
            [case.gain(way, count, [fold, case.column, draw]) for draw in range(draws)]
            for case in cases
        ]
    )


def tried(name: str, train: ScoreTable, per_usd: float, tries: dict[str, Way]) -> dict[str, Any]:
    """Return the mean gains of all ways by cross-validation, in loss."""
    fold_of = split_folds(train, 5, 0)
    n, m = len(train), len(train.experts)
    full = np.zeros((m, n))
    added = {(way, count): np.zeros((m, n)) for way in tries for count in TRIED_COUNTS}
    for fold in range(5):
        held_out = np.flatnonzero(fold_of == fold)
        cases = left_out(name, train.select(fold_of != fold), train.select(held_out), per_usd)
        full[:, held_out] = [case.refit for case in cases]
        for way, count in added:
            of_draws = gains(cases, tries[way], count, TRIED_DRAWS, fold)
            added[way, count][:, held_out] = of_draws.mean(axis=1)
        logger.info("%s: fold %d", name, fold + 1)
    cells, _ = measured_cells(train, None)

    def mean(values: Floats) -> float:
        return float(np.mean([macro_mean(row, cells) for row in values]))

    return {
        "full_refit": mean(full),
        "ways": {
            way: {str(count): mean(added[way, count]) for count in TRIED_COUNTS} for way in tries
        },
    }


def of_prompts(values: Floats, cells: Measured) -> Floats:
    """Return means over prompts within groups, then over groups; prompts are the last axis."""
    parts = [values[..., cells.groups == group].mean(-1) for group in range(len(cells.names))]
    result: Floats = np.mean(parts, axis=0)
    return result


def interval(values: Floats) -> list[float]:
    """Return the 95 % interval of the mean of (experts, draws), by resampling both."""
    rng = np.random.default_rng(0)
    m, draws = values.shape
    experts = rng.integers(m, size=(RESAMPLES, m))
    means = [
        values[chosen[:, None], rng.integers(draws, size=(m, draws))].mean() for chosen in experts
    ]
    return [float(value) for value in np.percentile(means, [2.5, 97.5])]


def shares(added: Floats, full: Floats, cells: Measured) -> list[float]:
    """Return the 95 % interval of the share of a refit's gain, over prompts and draws."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(cells.groups == group) for group in range(len(cells.names))]
    of_experts, whole = added.mean(axis=0), full.mean(axis=0)  # (draws, n), (n,)
    drawn = []
    for _ in range(RESAMPLES):
        draws = rng.integers(len(of_experts), size=len(of_experts))
        mean = of_experts[draws].mean(axis=0)
        parts = [rng.choice(part, len(part)) for part in groups]
        drawn.append(
            np.mean([mean[part].mean() for part in parts])
            / np.mean([whole[part].mean() for part in parts])
        )
    return [float(value) for value in np.percentile(drawn, [2.5, 97.5])]


def tested(
    name: str, train: ScoreTable, test: ScoreTable, per_usd: float, two: dict[str, Way]
) -> dict[str, Any]:
    """Return what the product and the earlier version gain on the test prompts."""
    cases = left_out(name, train, test, per_usd)
    cells, _ = measured_cells(test, None)
    full = np.array([case.refit for case in cases])
    by_expert = of_prompts(full, cells)
    rows = []
    for count in COUNTS:
        new, old = (gains(cases, way, count, DRAWS) for way in two.values())
        means, before = of_prompts(new, cells), of_prompts(old, cells)  # (m, draws)
        rows.append(
            {
                "probes": count,
                "gain": float(means.mean()),
                "gain_ci95": interval(means),
                "share_of_refit": float(means.mean() / by_expert.mean()),
                "share_ci95": shares(new, full, cells),
                "earlier_gain": float(before.mean()),
                "gain_over_earlier": float((means - before).mean()),
                "gain_over_earlier_ci95": interval(means - before),
                "by_expert": dict(zip(train.experts, map(float, means.mean(axis=1)), strict=True)),
            }
        )
        logger.info("%s, %d probes: %s", name, count, rows[-1])
    return {
        "prompts": len(test),
        "train_prompts": len(train),
        "draws": DRAWS,
        "sha256": [train.hash, test.hash],
        "full_refit": float(by_expert.mean()),
        "full_refit_by_expert": dict(zip(train.experts, map(float, by_expert), strict=True)),
        "rows": rows,
    }


def points(value: float) -> str:
    """Return a gain in points."""
    return f"{100 * value:+.2f}"


def page(results: dict[str, Any]) -> str:
    """Return the Markdown tables of the results."""
    lines = [
        "| library (gain of a full refit) | probes | gain (95 %) | share of the refit's (95 %) "
        "| minus earlier version (95 %) |",
        "|---|---|---|---|---|",
    ]
    for name, case in results["cases"].items():
        for row in case["rows"]:
            low, high = map(points, row["gain_ci95"])
            least, most = row["share_ci95"]
            below, above = map(points, row["gain_over_earlier_ci95"])
            lines.append(
                f"| {name} ({points(case['full_refit'])}) | {row['probes']} "
                f"| {points(row['gain'])} ({low} to {high}) "
                f"| {row['share_of_refit']:.2f} ({least:.2f} to {most:.2f}) "
                f"| {points(row['gain_over_earlier'])} ({below} to {above}) |"
            )
    lines += [
        "",
        f"Test prompts, points of loss, mean over leaving each expert out and {DRAWS} draws of "
        f"probes, `clusters` on the bundled encoder; `{results['command']}`. Intervals of gains: "
        "bootstrap over experts and draws; of shares: over prompts and draws. With cost: 1 USD "
        "per 1,000 prompts against 5 points.",
        "",
        "| try, 50 / 200 probes | " + " | ".join(results["tries"]) + " |",
        "|---|" + "---|" * len(results["tries"]),
    ]
    first = next(iter(results["tries"].values()))
    for way in first["ways"]:
        figures = (case["ways"][way] for case in results["tries"].values())
        cells = (" / ".join(map(points, row.values())) for row in figures)
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    refits = (points(case["full_refit"]) for case in results["tries"].values())
    lines += [
        "| a full refit | " + " | ".join(refits) + " |",
        "",
        f"Training prompts, five folds and {TRIED_DRAWS} draws of probes, gains in points.",
    ]
    return "\n".join(lines)


def missed(results: dict[str, Any]) -> list[str]:
    """Return the aims that are missed: the share from 50 probes, and no harm on open7."""
    fifty = next(r for r in results["cases"]["routerbench11"]["rows"] if r["probes"] == 50)
    aims = []
    if fifty["share_of_refit"] < AIM:
        aims.append(f"{fifty['share_of_refit']:.2f} of a refit's gain from 50 probes, not {AIM}")
    return aims + [
        f"{row['probes']} probes on open7 do harm: {points(row['gain'])} points"
        for row in results["cases"]["open7"]["rows"]
        if row["gain_ci95"][1] < 0
    ]


def run(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Try every way of one case on training prompts; measure two on test prompts."""
    folder = data_folder() / "routing"
    tables = {
        table: measured_on_all(ScoreTable.read(folder / f"{table}_train.jsonl.gz"))
        for table in ("open7", "routerbench11", "coding34")
    }
    other = measured_on_all(ScoreTable.read(folder / "open7_test.jsonl.gz"))
    split = {
        "open7": (tables["open7"], other.reorder(tables["open7"].experts)),
        "routerbench11": apart(tables["routerbench11"]),
    }
    # What is learned from another table's router may not rest on the test prompts.
    tries = ways(tables | {"routerbench11": split["routerbench11"][0]})
    table, per_usd = CASES[name]
    train, test = split[table]
    compared = tried(table, train, per_usd, tries)
    return tested(table, train, test, per_usd, dict(list(tries.items())[:2])), compared


def measure(_: argparse.Namespace) -> dict[str, Any]:
    """Run every case, each in a process of its own."""
    with ProcessPoolExecutor(len(CASES)) as pool:
        measured = dict(zip(CASES, pool.map(run, CASES), strict=True))
    return provenance("python benchmarks/new_expert.py") | {
        "cases": {name: cases for name, (cases, _) in measured.items()},
        "tries": {name: tries for name, (_, tries) in measured.items()},
    }


def main() -> int:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    return publish(
        measure, page, results=RESULTS, page=PAGE, marks=MARKS, parser=parser, missed=missed
    )


if __name__ == "__main__":
    raise SystemExit(main())
