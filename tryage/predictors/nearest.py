"""The average loss on the training prompts most like the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.base import Floats, Targets, VectorPredictor, Vectors

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
    TARGET_ARRAYS: ClassVar[tuple[str, ...]] = ("residuals",)

    def __init__(self, encoder: Encoder | None = None, *, seed: int = 0, k: int = 80) -> None:
        super().__init__(encoder, seed=seed)
        self.k = k

    def _fit_space(self, vectors: Vectors, losses: Floats) -> None:
        self.vectors_ = np.ascontiguousarray(vectors, dtype=np.float32)

    def _fit_target(self, target: str, vectors: Vectors, values: Floats) -> Targets:
        """Return values minus averages, NaN where not measured, (n, n_experts)."""
        return {"residuals": values - np.nanmean(values, axis=0)}

    def _prepare(self) -> None:
        self._known = {
            target: _Residuals.of(arrays["residuals"]) for target, arrays in self.fitted_.items()
        }

    def _predict(self, vectors: Vectors) -> tuple[Targets, Targets]:
        shape = (len(vectors), len(self.experts_))
        mean = {target: np.empty(shape) for target in self.targets_}
        std = {target: np.empty(shape) for target in self.targets_}
        k = max(1, min(self.k, len(self.vectors_) // 10))
        for row, vector in enumerate(vectors):
            similarity = self.vectors_ @ vector  # (n_training,)
            edge = np.partition(similarity, -k)[-k]
            near = np.flatnonzero(similarity > edge - _EDGE)
            weight = np.minimum((similarity[near] - edge) / _EDGE + 1.0, 1.0)
            for target, known in self._known.items():
                shift, std[target][row] = known.average(near, weight)
                mean[target][row] = self.averages_[target] + shift
        return mean, std

    def _join(self, prompts: Sequence[str], measured: Targets, beside: Targets) -> None:
        vectors = self._encode(prompts)
        known = {vector.tobytes(): row for row, vector in enumerate(self.vectors_)}
        # Probes that stand in the training table fill its rows, so that they do not count twice.
        rows = [known.get(vector.tobytes(), -1) for vector in vectors]
        fresh = [number for number, row in enumerate(rows) if row < 0]
        for place, number in enumerate(fresh):
            rows[number] = len(self.vectors_) + place
        self.vectors_ = np.concatenate([self.vectors_, vectors[fresh]])
        grown = {}
        for target, own in self.fitted_.items():
            old = own["residuals"]
            wide = np.full((len(self.vectors_), old.shape[1] + 1), np.nan)
            wide[: len(old), :-1] = old
            wide[rows, -1] = (measured[target] - np.nanmean(measured[target]))[:, 0]
            grown[target] = {"residuals": wide}
        self.fitted_ = grown
        self._prepare()

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"k": int(config["k"])}

    def _config(self) -> dict[str, Any]:
        return {"k": self.k}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | {"vectors": self.vectors_}

    def _restore_space(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.vectors_ = np.asarray(arrays["vectors"], dtype=np.float32)


class _Residuals(NamedTuple):
    """One target's values minus averages, 0 where not measured, (n, n_experts)."""

    filled: Floats
    measured: Floats
    variance: Floats

    @classmethod
    def of(cls, residuals: Floats) -> _Residuals:
        measured = (~np.isnan(residuals)).astype(np.float64)
        filled = np.nan_to_num(residuals, nan=0.0)
        return cls(filled, measured, np.square(filled).sum(axis=0) / measured.sum(axis=0))

    def average(self, near: NDArray[np.intp], weight: Floats) -> tuple[Floats, Floats]:
        """Return the weighted mean of some rows and its standard error, each (n_experts,)."""
        # The expert's average stands in for one neighbour, and for all that are missing.
        votes = weight @ self.measured[near] + 1.0
        shift = (weight @ self.filled[near]) / votes
        squares = (weight @ np.square(self.filled[near]) + self.variance) / votes
        return shift, np.sqrt(np.maximum(squares - np.square(shift), 0.0) / votes)
