"""Measure routing on tables with many kinds of prompt: clusters, groups, and what `auto` takes.

::

    python benchmarks/kinds.py              # measure, write results/kinds.json, fill in the page
    python benchmarks/kinds.py --only 20    # measure one sort of table again, keep the others
    python benchmarks/kinds.py --render     # fill in the page from the results that are there

Every predictor is cross-validated over five folds and chooses among the experts that were measured
on a prompt. Its loss is compared, prompt by prompt, with that of the expert that is best at the
prompt's kind on the training folds, which needs the kind's name. `auto` chooses among the quick
predictors by inner folds, for each fold without it. An embedding bag is trained for the first fold
alone, where torch is installed.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder, provenance
from kinds_tables import KINDS, SEEDS, Floats, KindsTable, apart, joined, made
from numpy.typing import NDArray
from publishing import publish

from tryage import ScoreTable
from tryage.encoders import StaticEncoder
from tryage.evaluation.intervals import bootstrap_intervals
from tryage.evaluation.metrics import macro_mean, measured_cells
from tryage.evaluation.reliability import calibration_error
from tryage.predictors import GroupsPredictor, Predictor
from tryage.predictors.groups import group_labels
from tryage.predictors.softmax import softmax
from tryage.steps import Steps
from tryage.training import GROUPS, MORE_CLUSTERS, Candidate, split_folds
from tryage.training.auto import best_candidate
from tryage.training.candidates import CLUSTERS, EMBEDDING_BAG, candidates_for
from tryage.training.encoded import EncodedTable

Names = NDArray[np.str_]
logger = logging.getLogger("kinds")

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "kinds.json"
PAGE = HERE.parent / "docs" / "routing-results.md"
MARKS = ("<!-- kinds: begin -->", "<!-- kinds: end -->")
FOLDS = 5
RESAMPLES = 1000
SINGLE, BEST_OF_KIND = "best single", "best of the kind (needs its name)"
FIXED = {
    "clusters": CLUSTERS,
    "clusters, one for 25 prompts": MORE_CLUSTERS,
    "groups": GROUPS,
}


def kind_means(train: ScoreTable, kinds: Names, test: Names) -> Floats:
    """Return the mean training losses of the kind of each prompt, (n, m); else the average."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no expert is measured on every kind
        average = np.nanmean(train.losses, axis=0)
        means = {kind: np.nanmean(train.losses[kinds == kind], axis=0) for kind in np.unique(kinds)}
    rows = np.stack([means.get(kind, average) for kind in test])
    return np.where(np.isnan(rows), average, rows)


class Way:
    """Held-out predictions of one way to choose, and its time of fitting."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.predicted = np.full(shape, np.nan)
        self.seconds = 0.0
        self.chosen: Counter[str] = Counter()

    def add(self, rows: Floats, train: EncodedTable, test: EncodedTable, one: Candidate) -> Any:
        """Fit on the training prompts and predict for the others; return the predictor."""
        start = time.process_time()
        predictor = one.fit(train, 0)
        self.seconds += time.process_time() - start
        self.chosen[str(one)] += 1
        self.predicted[rows] = _predicted(predictor, test)
        return predictor


def _predicted(predictor: Predictor, test: EncodedTable) -> Floats:
    columns = [predictor.experts_.index(name) for name in test.table.experts]
    losses: Floats = test.predict(predictor).mean["loss"][:, columns]
    return losses


def cross_validate(one: KindsTable, encoder: StaticEncoder) -> dict[str, Any]:
    """Return the held-out predictions of every way, and the share of kinds told right."""
    texts = one.vectors is None
    encoded = (
        EncodedTable.encode(one.table, "auto", encoder)
        if texts
        else EncodedTable(one.table, encoder, one.vectors)
    )
    kinds = np.array(one.kinds)
    fold_of = split_folds(replace(one.table, groups=one.kinds), FOLDS, 0)
    fixed = {name: c for name, c in FIXED.items() if c != GROUPS or any(one.table.groups)}
    names = [SINGLE, BEST_OF_KIND, *fixed, "auto"]
    has_bag = texts and importlib.util.find_spec("torch") is not None
    if has_bag:
        names.append(EMBEDDING_BAG.kind)
    ways = {name: Way(one.table.losses.shape) for name in names}
    right = np.zeros(len(one.table), dtype=bool)
    labels = group_labels(one.table.groups)
    for fold in range(FOLDS):
        rows = np.flatnonzero(fold_of == fold)
        train, test = encoded.select(fold_of != fold), encoded.select(rows)
        ways[SINGLE].predicted[rows] = np.nanmean(train.table.losses, axis=0)
        ways[BEST_OF_KIND].predicted[rows] = kind_means(
            train.table, kinds[fold_of != fold], kinds[rows]
        )
        for name, candidate in fixed.items():
            predictor = ways[name].add(rows, train, test, candidate)
            if isinstance(predictor, GroupsPredictor):
                right[rows] = group_chances(predictor, test).argmax(axis=1) == labels[rows]
        start = time.process_time()
        best, _ = best_candidate(train, 0, Steps())
        ways["auto"].seconds += time.process_time() - start
        ways["auto"].add(rows, train, test, best)
        if has_bag and fold == 0:
            ways[EMBEDDING_BAG.kind].add(rows, train, test, EMBEDDING_BAG)
        logger.info("%s, fold %d: auto took %s", one.name, fold, best)
    return {"ways": ways, "right": right}


def group_chances(predictor: GroupsPredictor, test: EncodedTable) -> Floats:
    """Return how likely each prompt is of each group, (n, groups)."""
    vectors = np.asarray(test.vectors, dtype=np.float64)
    return softmax(vectors @ predictor.coefficients_ + predictor.offsets_)


def judge(tables: list[KindsTable], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of every way, over tables of one sort."""
    rows: dict[str, Any] = {}
    losses = [_losses(one, run["ways"]) for one, run in zip(tables, runs, strict=True)]
    cells = [measured_cells(replace(one.table, groups=one.kinds), None)[0] for one in tables]
    for name in runs[0]["ways"]:
        gaps, calibration, pooled, lows, highs, plain = [], [], [], [], [], []
        for one, run, loss, measured in zip(tables, runs, losses, cells, strict=True):
            predicted = run["ways"][name].predicted
            gap = loss[name] - loss[BEST_OF_KIND]
            gaps.append(macro_mean(gap, measured))
            [interval] = bootstrap_intervals([gap], measured, resamples=RESAMPLES, seed=0)
            low, high = interval or (np.nan, np.nan)
            lows.append(low - gaps[-1])
            highs.append(high - gaps[-1])
            plain.append(macro_mean(loss[name], measured))
            has = ~np.isnan(predicted).all(axis=1)
            kinds = np.array(one.kinds)
            pooled.append(calibration_error(predicted[has], one.table.losses[has]))
            calibration.append(
                np.mean(
                    [
                        calibration_error(predicted[part], one.table.losses[part])
                        for kind in np.unique(kinds[has])
                        for part in [has & (kinds == kind)]
                    ]
                )
            )
        mean = float(np.mean(gaps))
        # The tables are independent, so the half-widths of their intervals add as squares.
        low, high = (
            sign * float(np.sqrt(np.square(side).sum())) / len(tables)
            for sign, side in ((-1, lows), (1, highs))
        )
        ways = [run["ways"][name] for run in runs]
        fits = sum(sum(way.chosen.values()) for way in ways)
        rows[name] = {
            "loss": float(np.mean(plain)),
            "minus_best_of_kind": mean,
            "ci95": [mean + low, mean + high],
            "calibration_error_pooled": float(np.mean(pooled)),
            "calibration_error_by_kind": float(np.mean(calibration)),
            "fit_seconds": sum(way.seconds for way in ways) / fits if fits else 0.0,
            "chosen": dict(sum((way.chosen for way in ways), Counter[str]())),
        }
    first = tables[0].table
    return {
        "tables": len(tables),
        "prompts": len(first),
        "experts": len(first.experts),
        "kinds": len(set(tables[0].kinds)),
        "measured": float(np.mean(~np.isnan(first.losses))),
        "sha256": [one.table.hash for one in tables],
        "kind_accuracy": float(np.mean([run["right"].mean() for run in runs])),
        "candidates": [str(candidate) for candidate in candidates_for(first)],
        "ways": rows,
    }


def _losses(one: KindsTable, ways: dict[str, Way]) -> dict[str, Floats]:
    """Return the expected loss of the measured expert with the least prediction, by way, (n,)."""
    losses = {}
    for name, way in ways.items():
        has = ~np.isnan(way.predicted).all(axis=1)
        choices = np.where(np.isnan(one.table.losses), np.inf, way.predicted)
        columns = np.where(has, np.nan_to_num(choices, nan=np.inf).argmin(axis=1), 0)
        losses[name] = np.where(has, one.expected[np.arange(len(columns)), columns], np.nan)
    return losses


def measure(only: str | None) -> dict[str, Any]:
    """Cross-validate every way on every table, or on one sort, and keep the others' results."""
    data, encoder = data_folder(), StaticEncoder.bundled()
    sorts: dict[str, Callable[[], list[KindsTable]]] = {
        "joined": lambda: [joined(data)],
        **{
            str(kinds): functools.partial(lambda k: [made(data, k, s) for s in SEEDS], kinds)
            for kinds in KINDS
        },
        "apart": lambda: [apart(seed) for seed in SEEDS],
    }
    tables = {}
    if only is not None:
        tables = json.loads(RESULTS.read_text(encoding="utf-8"))["tables"]
    for name, make in sorts.items():
        if only in (None, name):
            same = make()
            tables[same[0].name] = judge(same, [cross_validate(one, encoder) for one in same])
    return {"seeds": list(SEEDS), "tables": tables}


def page(results: dict[str, Any]) -> str:
    """Return the Markdown tables of the results."""
    lines = []
    for name, table in results["tables"].items():
        several = f"{table['tables']} tables of " if table["tables"] > 1 else ""
        incomplete = (
            f", {100 * table['measured']:.0f} % of the cells measured"
            if table["measured"] < 1
            else ""
        )
        accuracy = (
            f"; `groups` tells the kind of {100 * table['kind_accuracy']:.0f} % of the prompts"
            if "groups" in table["ways"]
            else ""
        )
        lines += [
            f"{name[0].upper()}{name[1:]}: {several}{table['prompts']:,} prompts, "
            f"{table['kinds']} kinds, {table['experts']} experts{incomplete}{accuracy}.",
            "",
            "| | loss, % | minus best of the kind's, points (95 %) | calibration error, pooled "
            "| mean over kinds | seconds a fit |",
            "|---|---|---|---|---|---|",
        ]
        for way, row in table["ways"].items():
            low, high = (100 * value for value in row["ci95"])
            gap = (
                ""
                if way == BEST_OF_KIND
                else f"{100 * row['minus_best_of_kind']:+.2f} ({low:+.2f} to {high:+.2f})"
            )
            seconds = "" if way in (SINGLE, BEST_OF_KIND) else f"{row['fit_seconds']:.2f}"
            mark = " *" if way == EMBEDDING_BAG.kind else ""
            lines.append(
                f"| {way}{mark} | {100 * row['loss']:.2f} | {gap} "
                f"| {row['calibration_error_pooled']:.3f} "
                f"| {row['calibration_error_by_kind']:.3f} | {seconds} |"
            )
        chosen = ", ".join(
            f"`{candidate}` {count} times" if count > 1 else f"`{candidate}` once"
            for candidate, count in table["ways"]["auto"]["chosen"].items()
        )
        lines += ["", f"`auto` took {chosen}.", ""]
    lines.append(
        f"Five folds, bundled encoder, processor time on {results['machine']}; "
        f"`{results['command']}`. Losses of made tables are expected ones, because the chances "
        "that they were drawn by are known. Intervals: bootstrap over prompts within kinds. "
        "* trained for the first fold alone, so its row rests on a fifth of the prompts."
    )
    return "\n".join(lines)


def main() -> None:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument(
        "--only",
        choices=("joined", *(str(kinds) for kinds in KINDS), "apart"),
        help="measure this sort of table alone",
    )
    publish(
        lambda args: provenance("python benchmarks/kinds.py") | measure(args.only),
        page,
        results=RESULTS,
        page=PAGE,
        marks=MARKS,
        parser=parser,
    )


if __name__ == "__main__":
    main()
