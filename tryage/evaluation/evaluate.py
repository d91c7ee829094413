"""One task's table, a router's choices on it, and everything they are compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from tryage.encoders import Encoder
from tryage.errors import ScoreTableError
from tryage.evaluation import references
from tryage.evaluation.choices import Choices, among_best
from tryage.evaluation.doubts import few_measured
from tryage.evaluation.intervals import Interval, bootstrap_intervals
from tryage.evaluation.measured import Counts, Mask
from tryage.evaluation.metrics import (
    Array,
    Indices,
    Measured,
    Outcomes,
    group_means,
    macro_mean,
    measured_cells,
    outcomes,
    random_outcomes,
)
from tryage.evaluation.reliability import prediction_quality
from tryage.evaluation.report import REFERENCES, Evaluation, Row
from tryage.scores import ScoreTable

PAIRED = ("group_best", "clusters", "best_single")
"""The reference rows that the router is compared with prompt by prompt."""


def evaluate(
    table: ScoreTable,
    choices: ArrayLike,
    *,
    predicted: ArrayLike | None = None,
    out_of_distribution: ArrayLike | None = None,
    penalties: ArrayLike | None = None,
    ranks: ArrayLike | None = None,
    open_cells: Mask | None = None,
    train: ScoreTable | None = None,
    encoder: Encoder | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Evaluation:
    """Judge choices on a table of measured results, beside the reference rows.

    Means are of the prompts with a measured cell. Choices that were not measured are estimated
    (`tryage.evaluation.measured`), so that they are no reason to leave a prompt out. The oracle,
    which is the best measured expert, and the hits are over measured cells alone. Prompts with a
    single measured expert count for no regret and no hit. Regret, hits and the references go by the
    realised objective, which is the loss plus the penalties; scores, losses and paired differences
    are without.

    Args:
        table: one task's table, n prompts and m experts.
        choices: (n,) column of the expert chosen for each prompt; negative where there is none.
        predicted: (n, m) predicted losses, lower is better; None leaves `prediction` out.
        out_of_distribution: (n,) whether each prompt is unlike the router's training prompts; None
            leaves their share out.
        penalties: what the goals add to each loss, in units of loss: (m,) or (n, m).
        ranks: (m,) place of each expert where totals tie, as the router settles it; None is by
            name.
        open_cells: (n, m) which experts may answer which prompts; None means all.
        train: the table the router was fitted on, with the same experts; the rows `clusters`,
            `nearest` and `shuffled_labels` are fitted on it, None without.
        encoder: encodes prompts for those rows; None means the bundled static encoder.
        seed: makes intervals and reference rows reproducible.
        resamples: bootstrap resamples; 0 gives no intervals.

    Returns:
        The figures of the router and of the reference rows.

    Raises:
        ScoreTableError: arrays that do not fit the table, nothing measured, or a training table
            that lacks an expert.
    """
    cells, rows = measured_cells(table, penalties, ranks, open_cells)
    columns = _choices(table, choices)[rows]
    outcomes_of = {"router": outcomes(cells, columns)}
    chosen = {"best_single": references.best_single(cells)}
    if cells.grouped:
        chosen["group_best"] = references.group_best(cells)
    if train is not None:
        prompts = [table.prompts[row] for row in rows.tolist()]
        chosen |= references.fitted_choices(
            cells, prompts, train.reorder(table.experts), encoder, seed=seed
        )
    # Among the measured cells, whose corrections would be those of cells taken blindly.
    oracle = outcomes(cells, references.oracle(cells), estimate=False)
    outcomes_of["oracle"] = replace(oracle, cells=int(cells.measured.sum()))
    outcomes_of |= {name: outcomes(cells, reference) for name, reference in chosen.items()}
    outcomes_of["random"] = random_outcomes(cells)
    table_rows, paired = _rows(cells, outcomes_of, seed=seed, resamples=resamples)
    return Evaluation(
        kind=table.kind,
        prompts=len(rows),
        groups=_groups(cells, outcomes_of["router"]),
        router=table_rows["router"],
        references={name: table_rows.get(name) for name in REFERENCES},
        paired=paired,
        choices=Choices.of(table.experts, columns, among_best(cells, table.experts)),
        prediction=None if predicted is None else _prediction(cells, table, predicted, rows),
        out_of_distribution=_share(table, out_of_distribution, rows),
        one_expert=int((~cells.several).sum()),
        cells=Counts.of(cells.measured, cells.open_cells),
        few=tuple(few_measured(cells.measured, cells.groups, cells.names, table.experts, columns)),
    )


def row_of(
    table: ScoreTable,
    choices: ArrayLike,
    *,
    penalties: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> Row:
    """The row of some choices, without references; see `evaluate` for the arguments."""
    cells, rows = measured_cells(table, penalties)
    outcomes_of = {"router": outcomes(cells, _choices(table, choices)[rows])}
    return _rows(cells, outcomes_of, seed=seed, resamples=resamples)[0]["router"]


def _choices(table: ScoreTable, choices: ArrayLike) -> Indices:
    """The choices as columns of the table, checked."""
    columns = np.asarray(choices)
    n, m = table.losses.shape
    if columns.shape != (n,) or not np.issubdtype(columns.dtype, np.integer):
        raise ScoreTableError(
            f"choices of shape {columns.shape} and type {columns.dtype} for {n} prompts; give one "
            "column number per prompt"
        )
    if (columns >= m).any():
        raise ScoreTableError(f"choice {columns.max()} of a table with {m} experts; count from 0")
    return columns.astype(np.intp)


def _rows(
    cells: Measured, outcomes_of: Mapping[str, Outcomes], *, seed: int, resamples: int
) -> tuple[dict[str, Row], dict[str, Row | None]]:
    """The rows and the paired differences, all intervals from the same resamples."""
    differences = {
        name: outcomes_of[name].loss - outcomes_of["router"].loss if name in outcomes_of else None
        for name in PAIRED
    }
    figures = [
        figure
        for outcome in outcomes_of.values()
        for figure in (_value(cells, outcome), outcome.regret)
    ]
    pairs = [difference for difference in differences.values() if difference is not None]
    intervals = bootstrap_intervals([*figures, *pairs], cells, resamples=resamples, seed=seed)
    interval_iter = iter(intervals)
    rows = {
        name: _row(cells, outcome, next(interval_iter), next(interval_iter))
        for name, outcome in outcomes_of.items()
    }
    paired: dict[str, Row | None] = {}
    for name, difference in differences.items():
        paired[name] = None
        if difference is not None:
            mean, interval = plain(macro_mean(difference, cells)), next(interval_iter)
            both = outcomes_of[name].measured * outcomes_of["router"].measured
            paired[name] = {
                "difference": mean,
                "ci95": interval and list(interval),
                "both_measured": int(both.sum()),
            }
    return rows, paired


def _value(cells: Measured, outcome: Outcomes) -> Array:
    return 1.0 - outcome.loss if cells.scored else outcome.loss


def _row(
    cells: Measured, outcome: Outcomes, value_ci95: Interval | None, regret_ci95: Interval | None
) -> Row:
    name = "score" if cells.scored else "loss"
    row: Row = {
        name: plain(macro_mean(_value(cells, outcome), cells)),
        f"{name}_ci95": value_ci95 and list(value_ci95),
        "regret": plain(macro_mean(outcome.regret, cells)),
        "regret_ci95": regret_ci95 and list(regret_ci95),
        "selection_accuracy": plain(macro_mean(outcome.hit, cells, outcome.weights)),
        "strict_selection_accuracy": plain(macro_mean(outcome.strict, cells, outcome.weights)),
        "measured": plain(macro_mean(outcome.measured, cells)),
        "cells": outcome.cells,
    }
    if outcome.cost is not None:
        row["mean_cost"] = plain(macro_mean(outcome.cost, cells))
    return row


def _groups(cells: Measured, router: Outcomes) -> dict[str, Row]:
    """The router's figures on each group; empty where the table has no groups."""
    if not cells.grouped:
        return {}
    counts = np.bincount(cells.groups, minlength=len(cells.names))
    figures = {
        "score" if cells.scored else "loss": _value(cells, router),
        "regret": router.regret,
        "selection_accuracy": router.hit,
    }
    means = {
        name: group_means(
            values,
            cells.groups,
            len(cells.names),
            router.weights if name == "selection_accuracy" else None,
        )
        for name, values in figures.items()
    }
    measured = np.bincount(cells.groups, weights=router.measured, minlength=len(cells.names))
    return {
        group: {"prompts": int(counts[number]), "cells": int(measured[number])}
        | {name: plain(values[number]) for name, values in means.items()}
        for number, group in enumerate(cells.names)
    }


def _prediction(cells: Measured, table: ScoreTable, predicted: ArrayLike, rows: Indices) -> Row:
    losses = np.asarray(predicted, dtype=np.float64)
    if losses.shape != table.losses.shape:
        raise ScoreTableError(
            f"predicted losses of shape {losses.shape} for a table of shape {table.losses.shape}"
        )
    return {name: plain(value) for name, value in prediction_quality(cells, losses[rows]).items()}


def _share(table: ScoreTable, marks: ArrayLike | None, rows: Indices) -> float | None:
    """Return the share of the judged prompts that are marked, 0 to 1."""
    if marks is None:
        return None
    marked = np.asarray(marks, dtype=bool)
    if marked.shape != (len(table),):
        raise ScoreTableError(
            f"out_of_distribution of shape {marked.shape} for {len(table)} prompts; give one mark "
            "per prompt"
        )
    return float(marked[rows].mean())


def plain(value: float) -> float | None:
    """A figure for JSON: None for NaN."""
    return None if math.isnan(value) else float(value)
