"""Ridge regression, and leave-one-out errors from which its penalty is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.predictors.targets import Floats

PENALTIES = tuple(10.0**power for power in range(-3, 5))
"""Penalties tried, relative to the mean eigenvalue of the vectors' scatter matrix."""


class Ridge:
    """Ridge regression with an intercept, for every penalty from one decomposition.

    Args:
        vectors: shape (n, dim).
        targets: shape (n, n_experts), all measured.
    """

    def __init__(self, vectors: NDArray[np.floating[Any]], targets: Floats) -> None:
        centred = vectors.astype(np.float64)
        self.centre = centred.mean(axis=0)
        centred -= self.centre
        self.target_mean = targets.mean(axis=0)
        self._targets = targets - self.target_mean  # (n, n_experts)
        eigenvalues, self.directions = np.linalg.eigh(centred.T @ centred)
        self._eigenvalues = np.maximum(eigenvalues, 0.0)
        self._scores = centred @ self.directions  # (n, dim)
        self._products = self._scores.T @ self._targets  # (dim, n_experts)

    def shrunk(self, penalty: float) -> Floats:
        """Return eigenvalues plus penalty, all above zero, shape (dim,)."""
        scale = float(self._eigenvalues.mean()) or 1.0
        shrunk: Floats = self._eigenvalues + penalty * scale
        return shrunk

    def degrees(self, penalty: float) -> float:
        """Return the effective degrees of freedom beside the intercept."""
        return float((self._eigenvalues / self.shrunk(penalty)).sum())

    def residuals(self, penalty: float) -> Floats:
        """Return leave-one-out residuals, shape (n, n_experts)."""
        shrunk = self.shrunk(penalty)
        fitted = self._scores @ (self._products / shrunk[:, None])
        # einsum avoids a second array as large as the scores.
        leverage = np.einsum("ij,ij,j->i", self._scores, self._scores, 1.0 / shrunk)
        leverage += 1.0 / len(self._scores)
        residuals: Floats = (self._targets - fitted) / np.maximum(1.0 - leverage, 1e-6)[:, None]
        return residuals

    def leave_one_out_errors(self) -> Floats:
        """Return the summed leave-one-out error of each penalty, in units of the variance."""
        variance = np.square(self._targets).mean(axis=0)
        scale = np.where(variance > 0, variance, 1.0)
        errors = [np.square(self.residuals(penalty)).mean(axis=0) for penalty in PENALTIES]
        return np.array([(error / scale).sum() for error in errors])

    def solve(self, penalty: float) -> tuple[Floats, Floats]:
        """Return coefficients, shape (dim, n_experts), and noise variances, (n_experts,)."""
        coefficients = self.directions @ (self._products / self.shrunk(penalty)[:, None])
        noise = np.square(self.residuals(penalty)).mean(axis=0) if len(self._scores) > 1 else 0.0
        return coefficients, np.broadcast_to(noise, (coefficients.shape[1],))
