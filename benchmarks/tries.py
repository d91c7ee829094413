"""Try to pass the group-best row on open7, by cross-validation on its training prompts.

::

    python benchmarks/tries.py                          # what needs nothing but the data
    python benchmarks/tries.py --minilm DIR             # and another encoder
    python benchmarks/tries.py --probes DIR             # and small models as probes: the folder of
                                                        # a `tryage quickstart --out DIR`
    python benchmarks/tries.py --render                 # fill in the page from the results

Every try is compared, prompt by prompt, with choosing the best expert of the prompt's group on the
training folds, which needs the group's label. No test prompt is used.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder, provenance
from numpy.typing import NDArray
from publishing import publish
from vectors import StoredEncoder, cached

from tryage import Library, ScoreTable
from tryage.encoders import Encoder, StaticEncoder
from tryage.evaluation.intervals import bootstrap_intervals
from tryage.evaluation.metrics import macro_mean, measured_cells
from tryage.predictors import (
    ClustersPredictor,
    HybridPredictor,
    LinearPredictor,
    NearestPredictor,
)
from tryage.predictors.vectors import VectorPredictor
from tryage.training import split_folds

logger = logging.getLogger("tries")
Floats = NDArray[Any]
Make = Callable[[], VectorPredictor]

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "tries.json"
PAGE = HERE.parent / "docs" / "routing-results.md"
MARKS = ("<!-- tries: begin -->", "<!-- tries: end -->")
SEEDS = (0, 1)
PROBE_WEIGHT = 0.2
"""As much as the surface features of the bundled encoder weigh."""


def probe_signals(folder: Path, prompts: tuple[str, ...]) -> Floats:
    """Return the bits per byte of every prompt under small causal models, (n, models)."""
    from tryage.labeling.likelihood import measure
    from tryage.runtime import Runtime

    library = Library.read(folder / "library.yaml")
    runtime = Runtime(library)
    names = [expert.name for expert in library if expert.task == "text-generation"]
    columns = []
    for name in names:
        cells = measure(runtime.load(name), list(prompts))
        columns.append([row.loss for row in cells])
        logger.info("%s read the prompts", name)
    return np.array(columns).T


def unit(values: Floats) -> Floats:
    """Scale rows to unit length."""
    rows: Floats = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return rows


def standard(values: Floats) -> Floats:
    """Return columns with mean 0 and deviation 1, limited to three; NaN is the mean."""
    centred = (values - np.nanmean(values, axis=0)) / np.nanstd(values, axis=0)
    clipped: Floats = np.clip(np.nan_to_num(centred), -3.0, 3.0)
    return clipped


def best_of_groups(train: ScoreTable, groups: tuple[str | None, ...]) -> Floats:
    """Return the column that is best on the training prompts of each group, (n,)."""
    group_of = np.array(train.groups)
    best = {
        name: int(train.losses[group_of == name].mean(axis=0).argmin()) for name in set(group_of)
    }
    return np.array([best[str(group)] for group in groups])


def chosen(
    make: Make, vectors: Floats, train: ScoreTable, rows: Floats, test_rows: Floats
) -> Floats:
    """Return the columns chosen for prompts by a predictor fitted on others, (n,)."""
    prediction = make().fit_vectors(vectors[rows], train).predict_vectors(vectors[test_rows])
    average = np.nanmean(train.losses, axis=0)
    columns: Floats = np.where(prediction.ood[:, None], average, prediction.mean["loss"]).argmin(
        axis=1
    )
    return columns


def by_group(
    make: Make, vectors: Floats, train: ScoreTable, rows: Floats, test_rows: Floats
) -> Floats:
    """Like `chosen`, a predictor for each group, told which it is."""
    names = np.array(WHOLE["groups"])
    columns = np.empty(len(test_rows), dtype=np.intp)
    for name in set(names.tolist()):
        own, mine = names[rows] == name, names[test_rows] == name
        part = train.select(np.flatnonzero(own))
        columns[mine] = chosen(make, vectors, part, rows[own], test_rows[mine])
    return columns


WHOLE: dict[str, Any] = {}
"""The groups of the table's prompts, for those tries that are told them."""


def compare(
    table: ScoreTable, vectors: Floats, make: Make, *, share: float = 1.0, how: Any = chosen
) -> dict[str, Any]:
    """Cross-validate a way of choosing; return its gain over group best, with intervals."""
    gains = np.zeros((len(SEEDS), len(table)))
    for number, seed in enumerate(SEEDS):
        fold_of = split_folds(table, 5, seed)
        for fold in range(5):
            test_rows, rows = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
            label = best_of_groups(table.select(rows), table.select(test_rows).groups)
            drawn = np.random.default_rng([seed, fold]).permutation(len(rows))
            rows = np.sort(rows[drawn[: int(share * len(rows))]])
            columns = how(make, vectors, table.select(rows), rows, test_rows)
            gains[number, test_rows] = (
                table.losses[test_rows, label] - table.losses[test_rows, columns]
            )
    gain = gains.mean(axis=0)
    parts = {"gain": np.arange(len(table))}
    parts["gain_without_humaneval"] = np.flatnonzero(np.array(table.groups) != "humaneval")
    means: dict[str, Any] = {}
    for name, part in parts.items():
        cells, _ = measured_cells(table.select(part), None)
        interval = bootstrap_intervals([gain[part]], cells, resamples=1000, seed=0)[0]
        means[name] = float(macro_mean(gain[part], cells))
        means[f"{name}_ci95"] = list(interval) if interval else None
    logger.info("%s", means)
    return means


def tries(
    table: ScoreTable, minilm: Encoder | None, probes: Path | None
) -> dict[str, dict[str, Any]]:
    """Run every try that can be."""
    WHOLE["groups"] = table.groups
    static = StaticEncoder.bundled().encode(table.prompts)
    results = {
        "clusters": compare(table, static, ClustersPredictor),
        "clusters, a quarter of the labels": compare(table, static, ClustersPredictor, share=0.25),
        "clusters, half of the labels": compare(table, static, ClustersPredictor, share=0.5),
        "clusters, 10 in each clustering": compare(table, static, lambda: ClustersPredictor(k=10)),
        "clusters, 80 in each clustering": compare(table, static, lambda: ClustersPredictor(k=80)),
        "hybrid": compare(table, static, HybridPredictor),
        "linear": compare(table, static, LinearPredictor),
        "nearest, 80 prompts": compare(table, static, NearestPredictor),
        "nearest, 320 prompts": compare(table, static, lambda: NearestPredictor(k=320)),
        "the label, and linear within the group": compare(
            table, static, LinearPredictor, how=by_group
        ),
        "the label, and clusters within the group": compare(
            table, static, ClustersPredictor, how=by_group
        ),
    }
    if minilm is not None:
        vectors = minilm.encode(table.prompts)
        plain = unit(vectors[:, : -(static.shape[1] - 48)])
        results |= {
            "MiniLM with surface features, clusters": compare(table, vectors, ClustersPredictor),
            "MiniLM alone, clusters": compare(table, plain, ClustersPredictor),
            "MiniLM and the bundled encoder, clusters": compare(
                table, unit(np.hstack([vectors, static])), ClustersPredictor
            ),
        }
    if probes is not None:
        signals = standard(
            cached("probes", table.prompts, lambda: probe_signals(probes, table.prompts))
        )
        joined = unit(np.hstack([static, PROBE_WEIGHT * signals]))
        results |= {
            "probes joined to the vector, clusters": compare(table, joined, ClustersPredictor),
            "probes joined to the vector, hybrid": compare(table, joined, HybridPredictor),
            "probes joined to the vector, linear": compare(table, joined, LinearPredictor),
            "the label, probes, and linear within the group": compare(
                table, joined, LinearPredictor, how=by_group
            ),
        }
    return results


def stored_probabilities(table: ScoreTable) -> dict[str, Any]:
    """Return what the probabilities beside the scores say of right and wrong answers."""
    stored = table.targets["probability"]
    is_stored = ~np.isnan(stored)
    right = 1.0 - table.losses[is_stored]
    return {
        "cells": int(is_stored.sum()),
        "right_where_positive": float(right[stored[is_stored] > 0].mean()),
        "right_where_zero": float(right[stored[is_stored] == 0].mean()),
    }


def page(results: dict[str, Any]) -> str:
    """Return the Markdown table of the results."""
    lines = ["| try | score minus group best's (95 %) | without HumanEval |", "|---|---|---|"]
    for name, row in results["tries"].items():
        cells = []
        for part in ("gain", "gain_without_humaneval"):
            low, high = (100 * value for value in row[f"{part}_ci95"])
            cells.append(f"{100 * row[part]:+.2f} ({low:+.2f} to {high:+.2f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    stored = results["stored_probabilities"]
    lines += [
        "",
        f"{results['prompts']} training prompts of open7, five folds, mean of {len(SEEDS)} seeds; "
        f"group best is chosen on the training folds. `{results['command']}`.",
        "",
        f"{stored['cells']} cells also hold the probability of the right answer: "
        f"{100 * stored['right_where_positive']:.1f} % of the answers are right where it is above "
        f"0, {100 * stored['right_where_zero']:.1f} % where it is 0.",
    ]
    return "\n".join(lines)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run every try that the arguments bring models for."""
    whole = ScoreTable.read(data_folder() / "routing" / "open7_train.jsonl.gz")
    table = replace(whole, targets={})
    minilm = StoredEncoder(args.minilm) if args.minilm else None
    options = [" --minilm DIR"] * bool(args.minilm) + [" --probes DIR"] * bool(args.probes)
    return provenance(f"python benchmarks/tries.py{''.join(options)}") | {
        "seeds": SEEDS,
        "prompts": len(table),
        "train_sha256": whole.hash,
        "stored_probabilities": stored_probabilities(whole),
        "tries": tries(table, minilm, args.probes),
    }


def main() -> None:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--minilm", help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--probes", type=Path, help="folder of a quickstart")
    publish(measure, page, results=RESULTS, page=PAGE, marks=MARKS, parser=parser)


if __name__ == "__main__":
    main()
