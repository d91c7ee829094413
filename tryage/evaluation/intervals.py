"""Stratified bootstrap: 95 % intervals of macro averages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tryage.evaluation.metrics import Array, Measured, mean_over

Interval = tuple[float, float]

_CELLS = 2_000_000
"""Draws held in memory at once."""


def bootstrap_intervals(
    figures: Sequence[Array], cells: Measured, *, resamples: int, seed: int
) -> list[Interval | None]:
    """95 % percentile intervals of macro averages over the groups.

    Every resample draws, within each group, as many prompts as it has, with replacement (a
    stratified bootstrap; Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13).
    All figures share the resamples, so intervals of differences are paired.

    Args:
        figures: arrays of shape (n,), NaN where a prompt has no figure.
        cells: the prompts' groups.
        resamples: how many times to draw; 0 gives no intervals.
        seed: makes the intervals reproducible.

    Returns:
        For each figure (2.5th, 97.5th percentile), None where it has no values.
    """
    if resamples < 1 or not figures:
        return [None] * len(figures)
    stacked = np.stack(figures, axis=1)  # (n, figures)
    rng = np.random.default_rng(seed)
    means = np.stack(
        [
            _resampled_means(stacked[cells.groups == group], resamples, rng)
            for group in range(len(cells.names))
        ]
    )  # (groups, resamples, figures)
    macro = mean_over(means, axis=0)  # (resamples, figures)
    return [_interval(macro[:, column]) for column in range(macro.shape[1])]


def _resampled_means(values: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Means of resamples of one group: (n, figures) gives (resamples, figures)."""
    measured = ~np.isnan(values)
    filled = np.where(measured, values, 0.0)
    n = len(values)
    batch = max(1, _CELLS // n)
    parts = []
    for start in range(0, resamples, batch):
        counts = _draw_counts(n, min(batch, resamples - start), rng)
        totals, numbers = counts @ filled, counts @ measured.astype(np.float64)
        parts.append(np.where(numbers > 0, totals / np.maximum(numbers, 1.0), np.nan))
    return np.concatenate(parts)


def _draw_counts(n: int, resamples: int, rng: np.random.Generator) -> Array:
    """How often each of n prompts is drawn in each resample, shape (resamples, n)."""
    draws: NDArray[np.int64] = rng.integers(0, n, size=(resamples, n))
    draws += np.arange(resamples)[:, None] * n
    counts = np.bincount(draws.ravel(), minlength=resamples * n)
    return counts.reshape(resamples, n).astype(np.float64)


def _interval(means: Array) -> Interval | None:
    means = means[~np.isnan(means)]
    if not len(means):
        return None
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
