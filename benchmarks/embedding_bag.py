"""Try `embedding-bag` beside the quick kinds, and check its standard errors on held-out prompts.

::

    python benchmarks/embedding_bag.py              # measure, write results, fill in the page
    python benchmarks/embedding_bag.py --only open7_train    # one table again, keep the others
    python benchmarks/embedding_bag.py --render     # fill in the page from the results

For each fold, a bag trained on the other four and the quick candidate that `auto`'s inner folds
choose on these are judged on the fold. For the paper's experiment both are also fitted on all
training prompts and judged on the validation prompts. No test prompt is used. Needs torch.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder, provenance
from paper.table import Split, read_split
from publishing import publish
from reliability import Floats, cell_coverage

from tryage import ScoreTable
from tryage.encoders import StaticEncoder
from tryage.evaluation.intervals import bootstrap_intervals
from tryage.evaluation.metrics import macro_mean, measured_cells, outcomes
from tryage.predictors import Predictor
from tryage.predictors.kmeans import spherical_kmeans
from tryage.steps import Steps
from tryage.training import RANDOM_RELU, Candidate, split_folds
from tryage.training.auto import best_candidate, mean_and_error
from tryage.training.candidates import EMBEDDING_BAG
from tryage.training.encoded import EncodedTable
from tryage.training.network_trial import CLEARLY

logger = logging.getLogger("embedding_bag")

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "embedding_bag.json"
PAGE = HERE.parent / "docs" / "routing-results.md"
MARKS = ("<!-- embedding bag: begin -->", "<!-- embedding bag: end -->")
PAPER = "paper_train"
TABLES = {"routerbench11_train": 1, "open7_train": 3, PAPER: 1}
"""Table → how many of its five folds are tried."""
CELLS = 20
"""Clusters of held-out prompts, whose mean losses are compared with the predicted ones."""


def fitted(encoded: EncodedTable, candidate: Candidate) -> tuple[Predictor, float]:
    """Fit on a table's losses alone; return the predictor and the processor time."""
    start = time.process_time()
    predictor = candidate.fit(encoded, 0)
    return predictor, time.process_time() - start


def fold_figures(encoded: EncodedTable, fold_of: Floats, fold: int) -> dict[str, Any]:
    """Judge the bag and the quick candidate on one fold."""
    test = encoded.select(fold_of == fold)
    train = encoded.select(fold_of != fold)
    quick, _ = best_candidate(train, 0, Steps())
    cells, rows = measured_cells(test.table, None)
    assert test.vectors is not None
    centres = spherical_kmeans(test.vectors, CELLS, np.random.default_rng(0))
    assigned = (test.vectors @ centres.T).argmax(axis=1)
    regrets, figures = {}, {}
    for name, candidate in (("quick", quick), ("bag", EMBEDDING_BAG)):
        predictor, seconds = fitted(train, candidate)
        prediction = test.predict(predictor)
        mean = prediction.mean["loss"]
        regrets[name] = outcomes(cells, mean.argmin(axis=1)[rows]).regret
        inside, total = cell_coverage(prediction, assigned, test.table.losses)
        figures[name] = {
            "kind": str(candidate),
            "regret": float(macro_mean(regrets[name], cells)),
            "squared_error": float(np.nanmean(np.square(mean - test.table.losses))),
            "covered": inside,
            "cells": total,
            "fit_seconds": seconds,
        }
    gap = regrets["bag"] - regrets["quick"]
    [interval] = bootstrap_intervals([gap], cells, resamples=1000, seed=0)
    gain, error = mean_and_error(-gap, cells)
    figures["difference"] = {
        "mean": 0.0 - gain,
        "ci95": list(interval or (np.nan, np.nan)),
        "standard_errors_better": gain / error if error else 0.0,
    }
    logger.info("fold %d: %s", fold, figures)
    return figures


def on_validation(train: EncodedTable, valid: Split) -> dict[str, Any]:
    """Return the regret of both on the paper's validation prompts, in % of best single's."""
    best = int(train.table.losses.mean(axis=0).argmin())
    shares: dict[str, Any] = {}
    for name, candidate in (("quick", RANDOM_RELU), ("bag", EMBEDDING_BAG)):
        predictor, _ = fitted(train, candidate)
        columns = predictor.predict(valid.table.prompts).mean["loss"].argmin(axis=1)
        whole = replace(valid.table, extras=())
        shares[name] = {"kind": str(candidate)}
        for group in ("documents", "excerpts", "mixtures"):
            rows = np.array([one == group for one in whole.groups])
            part = valid.part(group).table
            cells, _ = measured_cells(part, None)
            single = outcomes(cells, np.full(len(part), best)).regret
            ours = outcomes(cells, columns[rows]).regret
            shares[name][group] = 100 * macro_mean(ours, cells) / macro_mean(single, cells)
    return shares


def measure(only: str | None) -> dict[str, Any]:
    """Try every table, or one, and keep the others' results."""
    data, encoder = data_folder(), StaticEncoder.bundled()
    tables: dict[str, Any] = {}
    if only is not None and RESULTS.is_file():
        tables = json.loads(RESULTS.read_text(encoding="utf-8"))["tables"]
    for name, folds in TABLES.items():
        if only not in (None, name):
            continue
        if name == PAPER:
            scores = HERE / "results" / "paper_scores.jsonl.gz"
            table = read_split(scores, data / "corpora", "train").table
        else:
            table = ScoreTable.read(data / "routing" / f"{name}.jsonl.gz")
        table = replace(table, targets={})
        encoded = EncodedTable.encode(table, "auto", encoder)
        fold_of = split_folds(table, 5, 0)
        row: dict[str, Any] = {"prompts": len(table), "sha256": table.hash}
        row["folds"] = [fold_figures(encoded, fold_of, fold) for fold in range(folds)]
        if name == PAPER:
            valid = read_split(scores, data / "corpora", "valid")
            row["valid"] = on_validation(encoded, valid)
        tables[name] = row
    return {"tables": {name: tables[name] for name in TABLES if name in tables}}


def page(results: dict[str, Any]) -> str:
    """Return the Markdown tables of the results."""
    lines = [
        "| table, fold | prompts | regret of the quick kind | of `embedding-bag` "
        "| difference (95 %) "
        "| better by two standard errors | 90 % intervals that hold, quick | bag |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, table in results["tables"].items():
        for fold, row in enumerate(table["folds"]):
            low, high = row["difference"]["ci95"]
            clearly = row["difference"]["standard_errors_better"] > CLEARLY
            held = [
                f"{100 * row[way]['covered'] / row[way]['cells']:.0f} % of {row[way]['cells']}"
                for way in ("quick", "bag")
            ]
            lines.append(
                f"| {name}, {fold + 1} | {table['prompts']:,} | {row['quick']['regret']:.4f} "
                f"(`{row['quick']['kind']}`) | {row['bag']['regret']:.4f} "
                f"| {row['difference']['mean'] + 0.0:+.4f} ({low:+.4f} to {high:+.4f}) "
                f"| {'yes' if clearly else 'no'} | {held[0]} | {held[1]} |"
            )
    seconds = [row["bag"]["fit_seconds"] for t in results["tables"].values() for row in t["folds"]]
    lines += [
        "",
        f"`{results['command']}`. An interval is that of the mean loss of one expert on a cluster "
        f"of {CELLS} of the held-out prompts. A bag trained for {min(seconds):.0f} to "
        f"{max(seconds):.0f} s of processor time.",
    ]
    if valid := results["tables"].get(PAPER, {}).get("valid"):
        lines += [
            "",
            "| regret on the paper's validation prompts, % of best single's | documents "
            "| excerpts | mixtures |",
            "|---|---|---|---|",
            *(
                f"| `{row['kind']}` | {row['documents']:.1f} | {row['excerpts']:.1f} "
                f"| {row['mixtures']:.1f} |"
                for row in valid.values()
            ),
        ]
    return "\n".join(lines)


def main() -> None:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--only", choices=tuple(TABLES), help="try this table alone")
    publish(
        lambda args: provenance("python benchmarks/embedding_bag.py") | measure(args.only),
        page,
        results=RESULTS,
        page=PAGE,
        marks=MARKS,
        parser=parser,
    )


if __name__ == "__main__":
    main()
