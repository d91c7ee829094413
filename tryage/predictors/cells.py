"""Means of cells, a cell being one cluster of prompts under one expert, from few noisy labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST_PRIOR, _GREATEST_PRIOR = 1.0, 1e6

_OWN = 0.2
"""Share of a newcomer's scatter over cells that no known expert shares."""


def cells_apart(
    fine: NDArray[Any], coarse: NDArray[Any], residuals: Floats, k: int
) -> tuple[Floats, Floats]:
    """Estimate every cell as what is hard for all in its cluster, and what is so for each expert.

    Args:
        fine: cluster of each prompt, shape (n,).
        coarse: cluster of each prompt in a coarser clustering, shape (n,).
        residuals: value minus the expert's average in units of the expert's own deviation,
            (n, n_experts), NaN where not measured.
        k: number of fine clusters.

    Returns:
        Shrunk means and standard errors, each (k, n_experts).
    """
    common, common_error = cell_means(fine, _row_means(residuals), k)  # (k, 1)
    own = residuals - common[fine]
    # How hard a prompt is shows in all its labels; the fewer it has, the less of them is that.
    labels = (~np.isnan(residuals)).sum(axis=1, keepdims=True)
    others = max(residuals.shape[1] - 1, 1)
    own = own - np.maximum(labels - 1, 0) / others * _row_means(own)
    wide, _ = cell_means(coarse, own, int(coarse.max()) + 1)
    deviations, errors = cell_means(fine, own - wide[coarse], k)
    member = (fine == np.arange(k)[:, None]).astype(np.float64)  # (k, n)
    sizes = np.maximum(member.sum(axis=1, keepdims=True), 1.0)
    deviations += member @ wide[coarse] / sizes
    return common + deviations, np.hypot(common_error, errors)


def newcomers_cells(
    known: Floats, member: Floats, values: Floats, beside: Floats, clusterings: int
) -> tuple[Floats, Floats]:
    """Estimate the cells of an expert that was measured on a few probes.

    Before a probe is seen, its cells are expected to be like those of the experts that are known:
    their mean over these, with their covariance (four parts of it) and some scatter of its own in
    every cell (one part). The probes then say where it differs (best linear prediction, as in
    kriging). What the known experts gained or lost on the same probes tells how hard these were.

    Args:
        known: what is predicted of the known experts, (cells, n_known), two at least.
        member: how much each cell counts for each probe, (n, cells), rows summing to 1.
        values: the newcomer's values on the probes, (n,), NaN where not measured.
        beside: the known experts' values on the probes, (n, n_known), NaN where not measured.
        clusterings: how many cells each probe lies in.

    Returns:
        Expected values and their standard errors, each (cells,).
    """
    seen = ~np.isnan(values)
    member, values, beside = member[seen], values[seen], beside[seen]
    centre = known.mean(axis=1)  # (cells,)
    apart = known - centre[:, None]
    covariance = apart @ apart.T / (known.shape[1] - 1)
    own = float(np.diag(covariance).mean())
    covariance = (1.0 - _OWN) * covariance
    np.fill_diagonal(covariance, np.diag(covariance) + _OWN * own * clusterings)
    surprise = values - member @ centre
    hard = np.nan_to_num(_row_means(beside - member @ known)[:, 0])
    if (size := float(hard @ hard)) > 0.0:
        surprise = surprise - float(hard @ surprise) / size * hard
    noise = max(float(surprise.var()), 1e-9 * own, np.finfo(float).tiny)
    reach = member @ covariance  # (n, cells)
    spread = reach @ member.T
    np.fill_diagonal(spread, np.diag(spread) + noise)
    gain = np.linalg.solve(spread, reach)
    left = np.diag(covariance) - (reach * gain).sum(axis=0)
    lowest, highest = min(values.min(), known.min()), max(values.max(), known.max())
    means = np.clip(centre + surprise @ gain, lowest, highest)
    return means, np.sqrt(np.maximum(left, 0.0))


def _row_means(values: Floats) -> Floats:
    """Return the mean of what was measured of each prompt, NaN where nothing was, (n, 1)."""
    known = ~np.isnan(values)
    count = known.sum(axis=1, keepdims=True)
    total = np.where(known, values, 0.0).sum(axis=1, keepdims=True)
    means: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def cell_means(assigned: NDArray[Any], residuals: Floats, k: int) -> tuple[Floats, Floats]:
    """Estimate the mean of every cell and its standard error.

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
    prior = _prior_count(raw, counts, within)
    means = sums / (counts + prior)
    variance = (scatter + prior * within) / (counts + prior)
    return means, np.sqrt(variance / (counts + prior))


def _prior_count(raw: Floats, counts: Floats, within: Floats) -> float:
    """Return how many labels the expert's average stands for (method of moments).

    Scatter within cells over scatter of the true cell means; the latter is the observed
    scatter of cell means less what sampling alone would give.
    """
    total = np.maximum(counts.sum(axis=0), 1.0)
    observed = (counts * np.square(raw)).sum(axis=0) / total
    sampling = within * (counts > 0).sum(axis=0) / total
    between = float(np.maximum(observed - sampling, 0.0).sum())
    noise = float(within.sum())
    if noise == 0.0:
        return _LEAST_PRIOR
    return float(np.clip(noise / max(between, 1e-12), _LEAST_PRIOR, _GREATEST_PRIOR))
