"""Ridge regression of each expert's targets on the prompt's vector."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tryage.predictors.base import Floats, Targets, VectorPredictor, Vectors

PENALTIES = tuple(10.0**power for power in range(-3, 5))
"""Penalties tried, relative to the mean eigenvalue of the vectors' scatter matrix."""


class LinearPredictor(VectorPredictor):
    """Predicts an expert's loss, or another target, as a linear function of the vector.

    One penalty per target serves all experts: the one of `PENALTIES` with the least
    leave-one-out error, computed in closed form and summed over experts in units of their
    variance. Each expert is fitted on the prompts it was measured on. Predictions stay within
    the values measured.
    """

    kind: ClassVar[str] = "linear"
    TARGET_ARRAYS: ClassVar[tuple[str, ...]] = (
        "coefficients",
        "intercepts",
        "noise",
        "counts",
        "lowest",
        "highest",
        "centre",
        "spread",
    )

    def _fit_target(self, vectors: Vectors, values: Floats) -> Targets:
        columns = np.arange(values.shape[1])
        measured = ~np.isnan(values)
        _, pattern = np.unique(measured, axis=1, return_inverse=True)
        # Experts measured on the same prompts share one decomposition.
        blocks = [columns[pattern == number] for number in range(pattern.max() + 1)]
        parts = [
            _Ridge(vectors[measured[:, block[0]]], values[measured[:, block[0]]][:, block])
            for block in blocks
        ]
        errors = np.sum([part.left_out_errors() for part in parts], axis=0)
        penalty = PENALTIES[int(np.argmin(errors))]
        dim, n_experts = vectors.shape[1], values.shape[1]
        coefficients = np.empty((dim, n_experts))
        intercepts, noise = np.empty(n_experts), np.empty(n_experts)
        for block, part in zip(blocks, parts, strict=True):
            coefficients[:, block], noise[block] = part.solve(penalty)
            intercepts[block] = part.target_mean - part.centre @ coefficients[:, block]
        whole = _Ridge(vectors, np.zeros((len(vectors), 1)))
        return {
            "coefficients": coefficients,
            "intercepts": intercepts,
            "noise": noise,
            "counts": measured.sum(axis=0).astype(np.float64),
            "lowest": np.nanmin(values, axis=0),
            "highest": np.nanmax(values, axis=0),
            "centre": whole.centre,
            "spread": whole.directions / np.sqrt(whole.shrunk(penalty)),
        }

    def _predict(self, vectors: Vectors) -> tuple[Targets, Targets]:
        exact = vectors.astype(np.float64)
        mean, std = {}, {}
        for target, own in self.fitted_.items():
            line = exact @ own["coefficients"] + own["intercepts"]
            mean[target] = np.clip(line, own["lowest"], own["highest"])
            leverage = np.square((exact - own["centre"]) @ own["spread"]).sum(axis=1, keepdims=True)
            # An expert measured on a part of the prompts knows that much less of each direction.
            n_prompts = own["counts"].max()
            std[target] = np.sqrt(own["noise"] * (1.0 + n_prompts * leverage) / own["counts"])
        return mean, std


class _Ridge:
    """Ridge regression with an intercept, for every penalty from one decomposition."""

    def __init__(self, vectors: Vectors, targets: Floats) -> None:
        exact = vectors.astype(np.float64)
        self.centre = exact.mean(axis=0)
        self.target_mean = targets.mean(axis=0)
        self._targets = targets - self.target_mean  # (n, n_experts)
        centred = exact - self.centre
        eigenvalues, self.directions = np.linalg.eigh(centred.T @ centred)
        self._eigenvalues = np.maximum(eigenvalues, 0.0)
        self._scores = centred @ self.directions  # (n, dim)
        self._products = self._scores.T @ self._targets  # (dim, n_experts)

    def shrunk(self, penalty: float) -> Floats:
        """Return eigenvalues plus penalty, all above zero, shape (dim,)."""
        scale = float(self._eigenvalues.mean()) or 1.0
        shrunk: Floats = self._eigenvalues + penalty * scale
        return shrunk

    def residuals(self, penalty: float) -> Floats:
        """Return leave-one-out residuals, shape (n, n_experts)."""
        shrunk = self.shrunk(penalty)
        fitted = self._scores @ (self._products / shrunk[:, None])
        hat = np.square(self._scores) @ (1.0 / shrunk) + 1.0 / len(self._scores)
        left: Floats = (self._targets - fitted) / np.maximum(1.0 - hat, 1e-6)[:, None]
        return left

    def left_out_errors(self) -> Floats:
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
