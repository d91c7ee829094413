"""Measure what 200 probes of a new expert are worth, beside a full refit.

::

    python benchmarks/new_expert.py           # writes results/new_expert.json

Each expert of open7 is left out in turn. On the held-out fifth of the training prompts, the gain of
a full refit with it over the router without it is compared with the gain of adding it from 200
random probes of the other four fifths. The test prompts are not used.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder

from tryage import ScoreTable
from tryage.encoders import CachedEncoder, StaticEncoder
from tryage.evaluation.metrics import macro_mean, measured_cells, outcomes
from tryage.predictors import ClustersPredictor, FittedPredictor
from tryage.training import split_folds

logger = logging.getLogger("new_expert")

RESULTS = Path(__file__).parent / "results" / "new_expert.json"

PROBES, SAMPLES, RESAMPLES = 200, 5, 1000


def losses_of(predictor: FittedPredictor, table: ScoreTable) -> np.ndarray[Any, Any]:
    """Return the measured loss of what a predictor chooses on each prompt of a table, (n,)."""
    columns = [table.experts.index(name) for name in predictor.experts_]
    chosen = np.array(columns)[predictor.predict(table.prompts).mean["loss"].argmin(axis=1)]
    cells, _ = measured_cells(table, None)
    found: np.ndarray[Any, Any] = outcomes(cells, chosen).loss
    return found


def gains(table: ScoreTable) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return gains in loss per prompt: full refits (m, n) and additions (m, samples, n)."""
    encoder = CachedEncoder(StaticEncoder.bundled(), table.prompts)
    m, n = len(table.experts), len(table)
    full, added = np.zeros((m, n)), np.zeros((m, SAMPLES, n))
    fold_of = split_folds(table, 5, 0)
    for fold in range(5):
        held_out = np.flatnonzero(fold_of == fold)
        train, test = table.select(fold_of != fold), table.select(held_out)
        refitted = losses_of(ClustersPredictor(encoder).fit(train.prompts, train), test)
        for column, name in enumerate(table.experts):
            others = train.reorder([other for other in table.experts if other != name])
            rest = ClustersPredictor(encoder).fit(others.prompts, others)
            without = losses_of(rest, test)
            full[column, held_out] = without - refitted
            for sample in range(SAMPLES):
                rng = np.random.default_rng([fold, column, sample])
                probes = train.reorder([name]).select(rng.choice(len(train), PROBES, replace=False))
                grown = rest.with_expert(probes.prompts, probes)
                added[column, sample, held_out] = without - losses_of(grown, test)
    return full, added


def run(table: ScoreTable) -> dict[str, Any]:
    """Return the share of the refits' gain that probes reach, with its interval."""
    full, added = gains(table)
    cells, _ = measured_cells(table, None)
    mean = added.mean(axis=1)
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(cells.groups == group) for group in range(len(cells.names))]

    def share(parts: list[np.ndarray[Any, Any]]) -> float:
        gained = np.mean([mean[:, part].mean(axis=1) for part in parts], axis=0).sum()
        possible = np.mean([full[:, part].mean(axis=1) for part in parts], axis=0).sum()
        return float(gained / possible)

    drawn = [share([rng.choice(part, len(part)) for part in groups]) for _ in range(RESAMPLES)]
    per_expert = {
        name: {
            "full_refit": macro_mean(full[column], cells),
            "from_probes": macro_mean(mean[column], cells),
        }
        for column, name in enumerate(table.experts)
    }
    return {
        "command": "python benchmarks/new_expert.py",
        "versions": {name: version(name) for name in ("tryage", "numpy", "tokenizers")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "predictor": "clusters",
        "probes": PROBES,
        "samples": SAMPLES,
        "prompts": len(table),
        "train_sha256": table.hash,
        "gain_in_loss": per_expert,
        "share_of_gain": share(groups),
        "share_of_gain_ci95": [float(value) for value in np.percentile(drawn, [2.5, 97.5])],
    }


def main() -> None:
    """Measure, and write the results."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    results = run(ScoreTable.read(data_folder() / "routing" / "open7_train.jsonl.gz"))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    logger.info("%s", json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
