"""How many labelled prompts are enough: regret on held-out prompts against their number.

::

    python benchmarks/labelling_curve.py    # writes results/labelling_curve.json

Everything comes from the training table of `open7`, five times over: 1,500 prompts are held out,
and samples of the others, as ``tryage label --sample N --stratify group`` takes them, fitted on.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from data import data_folder
from labelling_curve_table import render

from tryage import Library, Router, ScoreTable
from tryage.files import write_text
from tryage.labeling.rows import Sample
from tryage.prompts import PromptRecord

logger = logging.getLogger("labelling_curve")

RESULTS = Path(__file__).parent / "results" / "labelling_curve.json"
SIZES = (50, 100, 200, 400, 800, 1600, 3200, 4400)
KINDS = ("linear", "clusters")
SEEDS = 5
HELD_OUT = 1500
_T95 = 2.776
"""Student's t for a 95 % interval of the mean of five."""


def sampled(
    table: ScoreTable, size: int, seed: int, *, stratify: Literal["group"] | None = "group"
) -> np.ndarray:
    """Return the rows of a sample, in order."""
    records = [
        PromptRecord(prompt, name, "", group)
        for prompt, name, group in zip(table.prompts, table.ids, table.groups, strict=True)
    ]
    ids = {record.id for record in Sample(size, stratify, seed).take(records)}
    return np.array([row for row, name in enumerate(table.ids) if name in ids])


def run() -> dict[str, Any]:
    """Fit and evaluate every kind on every size, with several samples each."""
    table = ScoreTable.read(data_folder() / "routing" / "open7_train.jsonl.gz")
    library = Library.read(Path(__file__).parent / "open7.yaml")
    names = ("random", "best_single", "group_best")
    regrets: dict[tuple[str, int], list[float]] = {(k, n): [] for k in KINDS for n in SIZES}
    references: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(SEEDS):
        # Not stratified: that would leave nothing of the small groups to fit on.
        out = sampled(table, HELD_OUT, 1000 + seed, stratify=None)
        held_out = table.select(out)
        rest = table.select(np.setdiff1d(np.arange(len(table)), out))
        for (kind, size), of_seeds in regrets.items():
            some = rest.select(sampled(rest, size, seed))
            report = Router.fit(some, library=library, predictor=kind).evaluate(held_out).to_dict()
            of_seeds.append(report["router"]["regret"])
            logger.info("seed %d, %s, %d prompts: %.4f", seed, kind, size, of_seeds[-1])
        for name in names:
            references[name].append(report["references"][name]["regret"])
    points = []
    for (kind, size), of_seeds in regrets.items():
        mean, half = (
            statistics.fmean(of_seeds),
            _T95 * statistics.stdev(of_seeds) / SEEDS**0.5,
        )
        point = {"predictor": kind, "prompts": size, "regret": mean}
        points.append({**point, "ci95": [mean - half, mean + half], "regrets": of_seeds})
    return {
        "command": "python benchmarks/labelling_curve.py",
        "machine": {"python": platform.python_version(), "platform": platform.platform()},
        "versions": {name: version(name) for name in ("tryage", "numpy")},
        "held_out": HELD_OUT,
        "experts": len(library),
        "seeds": SEEDS,
        "points": points,
        "references": {name: statistics.fmean(of_seeds) for name, of_seeds in references.items()},
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results = run()
    write_text(RESULTS, json.dumps(results, indent=2) + "\n")
    render(results)


if __name__ == "__main__":
    main()
