"""Ridge regression, and leave-one-out errors from which its penalty is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.predictors.features import Inputs
from tryage.predictors.targets import Floats

PENALTIES = tuple(10.0**power for power in range(-3, 5))
"""Penalties tried, relative to the mean eigenvalue of the vectors' scatter matrix."""


class Ridge:
    """Ridge regression with an intercept, for every penalty from one decomposition.

    Many inputs are read block by block, so that no more than a block of them is in memory twice.

    Args:
        inputs: of shape (n, dim).
        targets: shape (n, n_experts), all measured.
    """

    def __init__(self, inputs: Inputs | NDArray[np.floating[Any]], targets: Floats) -> None:
        self._inputs = inputs if isinstance(inputs, Inputs) else Inputs(inputs)
        self.target_mean = targets.mean(axis=0)
        self._targets = targets - self.target_mean  # (n, n_experts)
        sums = [block.astype(np.float64).sum(axis=0) for _, block in self._inputs.blocks()]
        self.centre = np.sum(sums, axis=0) / len(self._inputs)
        dim = self._inputs.dim
        scatter, cross = np.zeros((dim, dim)), np.zeros((dim, targets.shape[1]))
        for rows, centred in self._centred():
            scatter += centred.T @ centred
            cross += centred.T @ self._targets[rows]
        eigenvalues, self.directions = np.linalg.eigh(scatter)
        self._eigenvalues = np.maximum(eigenvalues, 0.0)
        self._scores: Floats | None = None  # (n, dim), where the inputs are one block
        if self._inputs.is_whole:
            self._scores = centred @ self.directions
            self._products = self._scores.T @ self._targets  # (dim, n_experts)
        else:
            self._products = self.directions.T @ cross

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
        blocks = [self._residuals(penalty, rows, scores) for rows, scores in self._blocks()]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    def leave_one_out_errors(self) -> Floats:
        """Return the summed leave-one-out error of each penalty, in units of the variance."""
        variance = np.square(self._targets).mean(axis=0)
        scale = np.where(variance > 0, variance, 1.0)
        sums = np.zeros((len(PENALTIES), self._targets.shape[1]))
        for rows, scores in self._blocks():
            for number, penalty in enumerate(PENALTIES):
                sums[number] += np.square(self._residuals(penalty, rows, scores)).sum(axis=0)
        return np.array([(error / scale).sum() for error in sums / len(self._inputs)])

    def solve(self, penalty: float) -> tuple[Floats, Floats]:
        """Return coefficients, shape (dim, n_experts), and noise variances, (n_experts,)."""
        coefficients = self.directions @ (self._products / self.shrunk(penalty)[:, None])
        noise = np.square(self.residuals(penalty)).mean(axis=0) if len(self._inputs) > 1 else 0.0
        return coefficients, np.broadcast_to(noise, (coefficients.shape[1],))

    def _centred(self) -> Iterator[tuple[slice, Floats]]:
        """Yield the rows of each block, and its inputs less their mean."""
        for rows, block in self._inputs.blocks():
            centred = block.astype(np.float64)
            centred -= self.centre
            yield rows, centred

    def _blocks(self) -> Iterator[tuple[slice, Floats]]:
        """Yield the rows of each block, and its coordinates along the directions, (rows, dim)."""
        if self._scores is not None:
            yield slice(None), self._scores
            return
        for rows, centred in self._centred():
            yield rows, centred @ self.directions

    def _residuals(self, penalty: float, rows: slice, scores: Floats) -> Floats:
        """Return leave-one-out residuals of a block, (rows, n_experts)."""
        shrunk = self.shrunk(penalty)
        fitted = scores @ (self._products / shrunk[:, None])
        # einsum avoids a second array as large as the scores.
        leverage = np.einsum("ij,ij,j->i", scores, scores, 1.0 / shrunk)
        leverage += 1.0 / len(self._inputs)
        off = self._targets[rows] - fitted
        residuals: Floats = off / np.maximum(1.0 - leverage, 1e-6)[:, None]
        return residuals
