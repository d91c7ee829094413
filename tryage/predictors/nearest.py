"""The average loss on the training prompts most like the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.base import LOSS, Floats, VectorPredictor, Vectors

_EDGE = 1e-3
"""Width, in cosine, over which a neighbour fades in at the edge of the neighbourhood.

A hard edge would let a rounding error swap neighbours, and equal prompts with different
losses would count or not by their place in the table."""


class NearestPredictor(VectorPredictor):
    """Averages the `k` nearest training prompts by cosine, and one vote for the average.

    Args:
        encoder: turns prompts into vectors.
        seed: drives the out-of-distribution test.
        k: neighbours; at most a tenth of the training prompts, so that a small table still
            tells its prompts apart.
    """

    kind: ClassVar[str] = "nearest"

    def __init__(self, encoder: Encoder | None = None, *, seed: int = 0, k: int = 80) -> None:
        super().__init__(encoder, seed=seed)
        self.k = k

    def _fit(self, vectors: Vectors, losses: Floats) -> None:
        self.vectors_ = np.ascontiguousarray(vectors, dtype=np.float32)
        self._keep(losses - self.average_loss_)

    def _keep(self, residuals: Floats) -> None:
        """Keep losses minus averages, NaN where not measured, shape (n, n_experts)."""
        self.residuals_ = residuals
        self._measured = (~np.isnan(residuals)).astype(np.float64)
        self._filled = np.nan_to_num(residuals, nan=0.0)
        counts = self._measured.sum(axis=0)
        self._variance = np.square(self._filled).sum(axis=0) / counts

    def _predict(self, vectors: Vectors) -> tuple[Floats, Floats]:
        mean = np.empty((len(vectors), len(self.experts_)))
        std = np.empty_like(mean)
        k = max(1, min(self.k, len(self.vectors_) // 10))
        for row, vector in enumerate(vectors):
            similarity = self.vectors_ @ vector  # (n_training,)
            edge = np.partition(similarity, -k)[-k]
            near = np.flatnonzero(similarity > edge - _EDGE)
            weight = np.minimum((similarity[near] - edge) / _EDGE + 1.0, 1.0)
            # The expert's average stands in for one neighbour, and for all that are missing.
            votes = weight @ self._measured[near] + 1.0
            shift = (weight @ self._filled[near]) / votes
            squares = (weight @ np.square(self._filled[near]) + self._variance) / votes
            mean[row] = self.average_loss_ + shift
            std[row] = np.sqrt(np.maximum(squares - np.square(shift), 0.0) / votes)
        return mean, std

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"k": int(config["k"])}

    def _config(self) -> dict[str, Any]:
        return {"k": self.k}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own: dict[str, NDArray[Any]] = {
            "vectors": self.vectors_,
            f"{LOSS}.residuals": self.residuals_,
        }
        return super()._arrays() | own

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        super()._restore(config, arrays)
        self.vectors_ = np.asarray(arrays["vectors"], dtype=np.float32)
        self._keep(np.asarray(arrays[f"{LOSS}.residuals"], dtype=np.float64))
