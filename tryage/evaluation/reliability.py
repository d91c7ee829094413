"""How well predicted losses agree with measured ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tryage.evaluation.measured import is_measured, measured_weights
from tryage.evaluation.metrics import Array, Measured, macro_mean, mean_over

BINS = 10
"""Bins of equal width that the expected calibration error is taken over."""


def prediction_quality(cells: Measured, predicted: Array) -> dict[str, float]:
    """Agreement of predicted with measured losses, over measured cells.

    Where cells are missing, each measured one counts for as many as are missing of its expert and
    group, but for the rank correlation, which is of the measured experts of each prompt. Every
    figure is a macro average over groups. The rank correlation is taken across the experts
    of each prompt and averaged over the prompts whose measured losses differ; a prediction that
    ranks all alike counts as 0. `brier` and `expected_calibration_error` are given over the groups
    in which all losses are 0 or 1.

    Args:
        cells: the measured cells, n prompts and m experts.
        predicted: (n, m) predicted losses, lower is better.

    Returns:
        "mae" (units of loss), "spearman" (-1 to 1), and where they apply "brier" (0 to 1) and
        "expected_calibration_error" (0 to 1); NaN where nothing can be said.
    """
    error = np.where(cells.measured, predicted - cells.losses, np.nan)
    weights = measured_weights(cells.measured, cells.groups, len(cells.names), cells.open_cells)
    figures = {
        "mae": _mean_of_cells(np.abs(error), weights, cells),
        "spearman": macro_mean(rank_correlations(predicted, cells.losses), cells),
    }
    binary = _binary_groups(cells)
    if binary.any():
        member = binary[cells.groups]
        squares = np.where(member[:, None], np.square(error), np.nan)
        figures["brier"] = _mean_of_cells(squares, weights, cells)
        figures["expected_calibration_error"] = float(
            np.mean(
                [
                    calibration_error(predicted[rows], cells.losses[rows], weights[rows])
                    for group in np.flatnonzero(binary)
                    if (rows := cells.groups == group).any()
                ]
            )
        )
    return figures


def _mean_of_cells(values: Array, weights: Array, cells: Measured) -> float:
    """Return the macro average of a figure of measured cells, (n, m), NaN where there is none.

    Each cell counts for those of its expert and group that are missing too.
    """
    if cells.complete:
        return macro_mean(mean_over(values), cells)
    number = np.where(np.isnan(values), 0.0, weights).sum(axis=1)
    total = np.where(np.isnan(values), 0.0, weights * values).sum(axis=1)
    means = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
    return macro_mean(means, cells, number)


def calibration_error(predicted: Array, losses: Array, weights: Array | None = None) -> float:
    """Expected calibration error: |mean predicted - mean observed|, averaged over bins.

    Ten bins of equal width over the predicted probability, weighted by their cells (Naeini,
    Cooper and Hauskrecht, 2015).

    Args:
        predicted: (n, m) predicted losses, taken as probabilities of a loss of 1.
        losses: (n, m) measured losses, 0 or 1, NaN where not measured.
        weights: (n, m) what each cell counts for; None means 1.

    Returns:
        The error, 0 to 1, lower is better.
    """
    measured = is_measured(losses)
    chance, loss = np.clip(predicted[measured], 0.0, 1.0), losses[measured]
    weight = np.ones(len(loss)) if weights is None else weights[measured]
    bins = np.minimum((chance * BINS).astype(np.intp), BINS - 1)
    gaps = np.bincount(bins, weights=weight * (chance - loss), minlength=BINS)
    return float(np.abs(gaps).sum() / weight.sum())


def rank_correlations(predicted: Array, losses: Array) -> Array:
    """Spearman's rank correlation across the measured experts of each prompt.

    Args:
        predicted: (n, m) predicted losses.
        losses: (n, m) measured losses, NaN where not measured.

    Returns:
        (n,) correlations, -1 to 1; NaN where the measured losses are all equal.
    """
    measured = is_measured(losses)
    predicted_ranks = _centred_ranks(np.where(measured, predicted, np.nan))
    measured_ranks = _centred_ranks(losses)
    scale = np.sqrt(np.square(predicted_ranks).sum(axis=1) * np.square(measured_ranks).sum(axis=1))
    product = (predicted_ranks * measured_ranks).sum(axis=1)
    correlation = np.where(scale > 0, product / np.where(scale > 0, scale, 1.0), 0.0)
    varies = np.square(measured_ranks).sum(axis=1) > 0
    return np.where(varies, correlation, np.nan)


def _centred_ranks(values: Array) -> Array:
    """Average ranks along each row minus their mean, 0 where NaN; shape (n, m)."""
    present = ~np.isnan(values)
    order = np.argsort(values, axis=1)  # NaN last
    ordered = np.take_along_axis(values, order, axis=1)
    place = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    new = np.ones(values.shape, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    last_new = np.ones(values.shape, dtype=bool)
    last_new[:, :-1] = new[:, 1:]
    last = np.where(last_new, place, values.shape[1])[:, ::-1]
    last = np.minimum.accumulate(last, axis=1)[:, ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2.0, axis=1)
    ranks = np.where(present, ranks, np.nan)
    centred: Array = np.where(present, ranks - mean_over(ranks)[:, None], 0.0)
    return centred


def _binary_groups(cells: Measured) -> NDArray[np.bool_]:
    """Which groups hold losses of 0 and 1 alone, shape (groups,)."""
    plain = ~cells.measured | (cells.losses == 0.0) | (cells.losses == 1.0)
    other = np.bincount(cells.groups, weights=~plain.all(axis=1), minlength=len(cells.names))
    binary: NDArray[np.bool_] = other == 0
    return binary
