"""Shrunk means of cells, one cluster of prompts under one expert each, from few noisy labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.predictors.shrinkage import prior_count
from tryage.predictors.targets import Floats

_IDIOSYNCRATIC = 0.2
"""Share of a new expert's variance over cells that is independent of the other experts."""


def additive_cells(
    fine: NDArray[Any], coarse: NDArray[Any], residuals: Floats, k: int
) -> tuple[Floats, Floats]:
    """Estimate every cell as its cluster's difficulty plus the expert's deviation, both shrunk.

    Args:
        fine: cluster of each prompt, shape (n,).
        coarse: cluster of each prompt in a coarser clustering, shape (n,).
        residuals: value minus the expert's average in units of the expert's own deviation,
            (n, n_experts), NaN where not measured.
        k: number of fine clusters.

    Returns:
        Shrunk means and standard errors, each (k, n_experts).
    """
    common, common_error = cell_means(fine, row_means(residuals), k)  # (k, 1)
    deviation = residuals - common[fine]
    # All labels of a prompt share its difficulty; the fewer there are, the less they show it.
    labels = (~np.isnan(residuals)).sum(axis=1, keepdims=True)
    others = max(residuals.shape[1] - 1, 1)
    deviation = deviation - np.maximum(labels - 1, 0) / others * row_means(deviation)
    wide, _ = cell_means(coarse, deviation, int(coarse.max()) + 1)
    deviations, errors = cell_means(fine, deviation - wide[coarse], k)
    member = (fine == np.arange(k)[:, None]).astype(np.float64)  # (k, n)
    sizes = np.maximum(member.sum(axis=1, keepdims=True), 1.0)
    deviations += member @ wide[coarse] / sizes
    return common + deviations, np.hypot(common_error, errors)


def new_expert_cells(
    cells: Floats, member: Floats, values: Floats, others: Floats, clusterings: int
) -> tuple[Floats, Floats]:
    """Estimate the cells of an expert that was measured on a few probes.

    The prior mean of its cells is the mean over the other experts' cells; the prior covariance is
    theirs (four fifths) plus independent variance in every cell (one fifth). The posterior given
    the probes is the best linear prediction (kriging). The other experts' residuals on the same
    probes tell how hard these were.

    Args:
        cells: predicted values of the other experts, (cells, n_others), two experts at least.
        member: how much each cell counts for each probe, (n, cells), rows summing to 1.
        values: the new expert's values on the probes, (n,), NaN where not measured.
        others: the other experts' values on the probes, (n, n_others), NaN where not measured.
        clusterings: how many cells each probe lies in.

    Returns:
        Expected values and their standard errors, each (cells,).
    """
    measured = ~np.isnan(values)
    member, values, others = member[measured], values[measured], others[measured]
    prior = cells.mean(axis=1)  # (cells,)
    centred = cells - prior[:, None]
    covariance = centred @ centred.T / (cells.shape[1] - 1)
    variance = float(np.diag(covariance).mean())
    covariance = (1.0 - _IDIOSYNCRATIC) * covariance
    np.fill_diagonal(covariance, np.diag(covariance) + _IDIOSYNCRATIC * variance * clusterings)
    innovation = values - member @ prior
    difficulty = np.nan_to_num(row_means(others - member @ cells)[:, 0])
    if (size := float(difficulty @ difficulty)) > 0.0:
        innovation = innovation - float(difficulty @ innovation) / size * difficulty
    noise = max(float(innovation.var()), 1e-9 * variance, np.finfo(float).tiny)
    cross = member @ covariance  # (n, cells)
    spread = cross @ member.T
    np.fill_diagonal(spread, np.diag(spread) + noise)
    gain = np.linalg.solve(spread, cross)
    remaining = np.diag(covariance) - (cross * gain).sum(axis=0)
    lowest, highest = min(values.min(), cells.min()), max(values.max(), cells.max())
    means = np.clip(prior + innovation @ gain, lowest, highest)
    return means, np.sqrt(np.maximum(remaining, 0.0))


def row_means(values: Floats) -> Floats:
    """Return the mean of each prompt's measured values, NaN where there are none, (n, 1)."""
    measured = ~np.isnan(values)
    count = measured.sum(axis=1, keepdims=True)
    total = np.where(measured, values, 0.0).sum(axis=1, keepdims=True)
    means: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def cell_means(assigned: NDArray[Any], residuals: Floats, k: int) -> tuple[Floats, Floats]:
    """Estimate the mean of every cell, shrunk towards 0, and its standard error.

    Args:
        assigned: cluster of each prompt, shape (n,).
        residuals: value minus the expert's average, (n, n_experts), NaN where not measured.
        k: number of clusters.

    Returns:
        Shrunk means and standard errors, each (k, n_experts).
    """
    measured = ~np.isnan(residuals)
    filled = np.where(measured, residuals, 0.0)
    member = (assigned == np.arange(k)[:, None]).astype(np.float64)  # (k, n)
    counts = member @ measured
    sums = member @ filled
    raw = sums / np.maximum(counts, 1.0)
    scatter = np.maximum(member @ np.square(filled) - counts * np.square(raw), 0.0)
    within = scatter.sum(axis=0) / np.maximum(counts.sum(axis=0) - (counts > 0).sum(axis=0), 1.0)
    prior = prior_count(raw, counts, within)
    means = sums / (counts + prior)
    variance = (scatter + prior * within) / (counts + prior)
    return means, np.sqrt(variance / (counts + prior))
