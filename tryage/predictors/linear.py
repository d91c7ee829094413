"""Ridge regression of each expert's loss on the prompt's vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tryage.predictors.base import LOSS, Floats, VectorPredictor, Vectors

PENALTIES = tuple(10.0**power for power in range(-3, 5))
"""Penalties tried, relative to the mean eigenvalue of the vectors' scatter matrix."""


class LinearPredictor(VectorPredictor):
    """Predicts an expert's loss as its average plus a linear function of the vector.

    One penalty serves all experts: the one of `PENALTIES` with the least leave-one-out error,
    computed in closed form and summed over experts in units of their variance. Each expert is
    fitted on the prompts it was measured on. Predictions stay within the losses measured.
    """

    kind: ClassVar[str] = "linear"

    def _fit(self, vectors: Vectors, losses: Floats) -> None:
        columns = np.arange(losses.shape[1])
        measured = ~np.isnan(losses)
        _, pattern = np.unique(measured, axis=1, return_inverse=True)
        # Experts measured on the same prompts share one decomposition.
        blocks = [columns[pattern == number] for number in range(pattern.max() + 1)]
        parts = [
            _Ridge(vectors[measured[:, block[0]]], losses[measured[:, block[0]]][:, block])
            for block in blocks
        ]
        errors = np.sum([part.left_out_errors() for part in parts], axis=0)
        self.penalty_ = PENALTIES[int(np.argmin(errors))]
        dim, n_experts = vectors.shape[1], losses.shape[1]
        self.coefficients_ = np.empty((dim, n_experts))
        self.intercepts_ = np.empty(n_experts)
        self.noise_ = np.empty(n_experts)
        self.counts_ = measured.sum(axis=0).astype(np.float64)
        for block, part in zip(blocks, parts, strict=True):
            coefficients, noise = part.solve(self.penalty_)
            self.coefficients_[:, block] = coefficients
            self.intercepts_[block] = part.target_mean - part.centre @ coefficients
            self.noise_[block] = noise
        self.lowest_ = np.nanmin(losses, axis=0)
        self.highest_ = np.nanmax(losses, axis=0)
        whole = _Ridge(vectors, np.zeros((len(vectors), 1)))
        self.centre_ = whole.centre
        self.spread_ = whole.directions / np.sqrt(whole.shrunk(self.penalty_))

    def _predict(self, vectors: Vectors) -> tuple[Floats, Floats]:
        exact = vectors.astype(np.float64)
        mean = np.clip(exact @ self.coefficients_ + self.intercepts_, self.lowest_, self.highest_)
        leverage = np.square((exact - self.centre_) @ self.spread_).sum(axis=1, keepdims=True)
        # An expert measured on a part of the prompts knows that much less about each direction.
        n_prompts = self.counts_.max()
        variance = self.noise_ * (1.0 + n_prompts * leverage) / self.counts_
        return mean, np.sqrt(variance)

    def _config(self) -> dict[str, Any]:
        return {"penalty": self.penalty_}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own = {f"{LOSS}.{name}": getattr(self, f"{name}_") for name in self._FITTED}
        return super()._arrays() | own

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        super()._restore(config, arrays)
        self.penalty_ = float(config["penalty"])
        for name in self._FITTED:
            setattr(self, f"{name}_", np.asarray(arrays[f"{LOSS}.{name}"], dtype=np.float64))

    _FITTED: ClassVar[tuple[str, ...]] = (
        "coefficients",
        "intercepts",
        "noise",
        "counts",
        "lowest",
        "highest",
        "centre",
        "spread",
    )


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
