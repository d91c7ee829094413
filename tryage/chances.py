"""The chance of each expert to have the lowest total, from predicted totals and standard errors.

With totals T_i that are independent and normal, with mean μ_i and standard deviation c σ_i, where
σ_i is the predicted standard error and c the spread,

    P_i = P(T_i < T_j for all j ≠ i) = ∫ f_i(t) Π_{j≠i} (1 − F_j(t)) dt,

computed on a grid of quantiles of all experts. The spread c is 1, or fitted to a table: standard
errors tell how well an expected loss is known, and a single measured loss scatters more. It is the
c with the highest likelihood of the experts that were measured as the best (`fit_spread`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tryage.ties import TIE

Array = NDArray[np.float64]

_QUANTILES = np.linspace(-6.0, 6.0, 61)
_FINEST = 1e-9
"""Standard deviation of what is known exactly, so that equal totals share their chance."""

_SPREADS = np.geomspace(0.05, 50.0, 61)


def chance_of_lowest(totals: Array, std: Array, spread: float = 1.0) -> Array:
    """Return the chance of each expert to have the lowest total.

    Args:
        totals: (m,) predicted totals, lower is better; inf where not eligible.
        std: (m,) standard errors in the same unit; NaN counts as 0.
        spread: factor on the standard errors.

    Returns:
        (m,) chances that sum to 1; 0 where not eligible, and all 0 where nobody is.
    """
    chances = np.zeros(len(totals))
    eligible = np.flatnonzero(np.isfinite(totals))
    if len(eligible) < 2:
        chances[eligible] = 1.0
        return chances
    mean = totals[eligible]
    deviation = np.maximum(np.nan_to_num(std[eligible]) * spread, _FINEST)
    grid = np.unique(mean[:, None] + deviation[:, None] * _QUANTILES)
    below = _normal_cdf((grid - mean[:, None]) / deviation[:, None])  # (m, k)
    middle = (below[:, 1:] + below[:, :-1]) / 2
    above = np.log(np.maximum(1.0 - middle, 1e-300))  # (m, k - 1)
    others_above = np.exp(above.sum(axis=0) - above)
    raw = (np.diff(below, axis=1) * others_above).sum(axis=1)
    chances[eligible] = raw / raw.sum()
    return chances


def fit_spread(losses: Array, std: Array, measured: Array) -> float:
    """Return the spread with the highest likelihood of the experts that were measured as the best.

    Args:
        losses: (n, m) predicted losses, of prompts that the prediction was not fitted on.
        std: (n, m) their standard errors.
        measured: (n, m) measured losses; rows with NaN are left out. Experts that tie share a row.

    Raises:
        ValueError: there is no row without NaN, or fewer than two experts.
    """
    rows = np.flatnonzero(~(np.isnan(measured) | np.isnan(losses)).any(axis=1))
    if not len(rows) or losses.shape[1] < 2:
        raise ValueError("a spread is fitted to prompts on which two or more experts are measured")
    best = measured[rows] <= measured[rows].min(axis=1, keepdims=True) + TIE
    pairs = list(zip(losses[rows], std[rows], strict=True))

    def likelihood(spread: float) -> float:
        chances = np.array([chance_of_lowest(*pair, spread) for pair in pairs])
        return float(np.log(np.maximum((chances * best).sum(axis=1), 1e-6)).sum())

    return float(max(_SPREADS, key=likelihood))


def _normal_cdf(z: Array) -> Array:
    """Return the normal distribution function, within 1e-7 (Abramowitz and Stegun 7.1.26)."""
    x = np.abs(z) / np.sqrt(2.0)
    t = 1.0 / (1.0 + 0.3275911 * x)
    series = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    tail = 0.5 * series * np.exp(-x * x)
    distribution: Array = np.where(z > 0, 1.0 - tail, tail)
    return distribution
