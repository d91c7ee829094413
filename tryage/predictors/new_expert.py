"""A new expert's cells from few probes: a Gaussian prior learned from the other experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tryage.predictors.cells import row_means
from tryage.predictors.targets import Floats

LEAST_EXPERTS = 3
"""Experts from which a covariance between cells is learned."""

_COMMON = 0.7
"""Share of the prior variance whose covariance is that of the other experts' cells."""

_NEARNESS = 0.3
"""Decline of the cosine between centres at which the rest's covariance falls to 1/e."""

_LIKENESS = 0.6
"""Share of the variance of deviations at single prompts that other experts' deviations explain."""

_DIFFICULTY_SPREAD = 0.2
"""Variance of the factor with which a prompt's difficulty counts for the new expert."""

_DIFFICULTY_SHARE = 0.3
"""Share of difficulty in a prompt's residual where no prompt was measured on two experts."""

_PRIOR_PROBES = 10
"""How many probes the expected noise counts as, beside the noise that the probes show."""

_ROUNDS = 30


@dataclass(frozen=True, slots=True, eq=False)
class CellPrior:
    """What is expected of a new expert's cells before it is measured.

    Attributes:
        mean: expected values, (cells,).
        covariance: their covariance, (cells, cells).
    """

    mean: Floats
    covariance: Floats

    @classmethod
    def learn(cls, cells: Floats, centres: NDArray[Any]) -> Self:
        """Learn the prior from other experts: empirical Bayes.

        The mean is the mean over experts. The covariance is that of the experts' cells (seven
        tenths), plus one that falls with the angle between clusters (three tenths): what is
        particular to the new expert is alike for prompts that are alike.

        Args:
            cells: predicted values of the other experts, (cells, n_others), two at least.
            centres: centres of the cells, of unit length, (cells, dim).
        """
        mean = cells.mean(axis=1)
        centred = cells - mean[:, None]
        common = centred @ centred.T / (cells.shape[1] - 1)
        cosines = centres.astype(np.float64) @ centres.T.astype(np.float64)
        near = np.exp((cosines - 1.0) / _NEARNESS)
        variance = float(np.diag(common).mean())
        return cls(mean, _COMMON * common + (1.0 - _COMMON) * variance * near)


@dataclass(frozen=True, slots=True, eq=False)
class ProbeResiduals:
    """What other experts' results on the probes tell of a new expert's, beside its cells.

    Attributes:
        mean: expected difference between value and cell, from the prompt's difficulty, (n,).
        covariance: covariance of the differences that is shared between probes, (n, n).
        variance: expected noise of each probe, (n,); 0 where there is no estimate.
    """

    mean: Floats
    covariance: Floats
    variance: Floats

    @classmethod
    def of(cls, residuals: Floats) -> Self:
        """Split residuals into difficulty of the prompt, and deviations of the experts.

        A residual is the sum of a difficulty that all experts share and the expert's deviation,
        both Gaussian; the mean is the expected difficulty given the residuals. The new expert's
        deviation is a random combination of the others' deviations on the same prompt, plus
        noise; so experts that agree on a prompt leave little noise there.

        Args:
            residuals: values of the other experts minus those of their cells, (n, n_others), NaN
                where not measured.
        """
        n = len(residuals)
        measured = ~np.isnan(residuals)
        count = measured.sum(axis=1)
        if not measured.any():
            return cls(np.zeros(n), np.zeros((n, n)), np.zeros(n))
        means = np.nan_to_num(row_means(residuals)[:, 0])
        deviations = np.where(measured, residuals - means[:, None], 0.0)
        total = float(np.square(residuals[measured]).mean())
        several = count > 1
        own = (1.0 - _DIFFICULTY_SHARE) * total
        if several.any():
            own = min(float(np.square(deviations).sum() / (count[several] - 1).sum()), total)
        difficulty = total - own
        share = difficulty / max(total, np.finfo(float).tiny)
        weight = share * count / (1.0 + (count - 1) * share)
        expected = weight * means
        freedom = np.maximum(count - 1, 1)
        scaled = deviations / np.sqrt(freedom)[:, None]
        covariance = _DIFFICULTY_SPREAD * np.outer(means, means)
        covariance += _LIKENESS * scaled @ scaled.T
        there = np.square(scaled).sum(axis=1)
        unexplained = np.where(several, (1.0 - _LIKENESS) * (own + there) / 2.0, own)
        return cls(expected, covariance, unexplained + difficulty * (1.0 - weight))


def posterior_cells(
    prior: CellPrior, member: Floats, values: Floats, residuals: ProbeResiduals
) -> tuple[Floats, Floats]:
    """Return the cells' posterior given probes: means and standard errors, each (cells,).

    Values are the cells' weighted means plus residuals plus independent noise, all Gaussian; the
    posterior is in closed form (Rasmussen and Williams, 2006, equations 2.25 and 2.26). Ten
    expected values of the noise and the probes together set its size, by expectation maximisation.

    Args:
        prior: of the cells.
        member: how much each cell counts for each probe, (n, cells), rows summing to 1.
        values: the new expert's values on the probes, (n,); there may be none.
        residuals: what the other experts' results on the probes tell.
    """
    cross = member @ prior.covariance  # (n, cells)
    signal = cross @ member.T + residuals.covariance
    innovation = values - member @ prior.mean - residuals.mean
    noise = _noise(signal, innovation, residuals.variance, float(np.diag(prior.covariance).mean()))
    gain = np.linalg.solve(signal + np.diag(noise), cross)  # (n, cells)
    remaining = np.diag(prior.covariance) - (cross * gain).sum(axis=0)
    return prior.mean + innovation @ gain, np.sqrt(np.maximum(remaining, 0.0))


def _noise(signal: Floats, innovation: Floats, expected: Floats, variance: float) -> Floats:
    """Return the variance of each probe's noise, (n,).

    Args:
        signal: covariance of the values without noise, (n, n).
        innovation: values minus what was expected, (n,).
        expected: noise expected from the other experts' results, (n,); 0 where nothing is.
        variance: prior variance of a cell.
    """
    n = len(innovation)
    if n == 0:
        return innovation
    unknown = expected == 0.0
    # One probe shows no variance; it is not worth more than what was expected without it.
    usual = expected[~unknown].mean() if not unknown.all() else max(innovation.var(), variance)
    expected = np.where(unknown, usual, expected)
    least = 1e-9 * max(variance, float(np.square(innovation).mean()))
    expected = np.maximum(expected, max(least, np.finfo(float).tiny))
    root = np.sqrt(expected)
    lengths, axes = np.linalg.eigh(signal / np.outer(root, root))
    lengths = np.maximum(lengths, 0.0)
    along = axes.T @ (innovation / root)
    factor = 1.0
    for _ in range(_ROUNDS):
        left = factor / (lengths + factor)
        shown = np.square(left * along).sum() + (lengths * left).sum()
        factor = (shown + _PRIOR_PROBES) / (n + _PRIOR_PROBES)
    return factor * expected
