"""The average loss on the training prompts most like the prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.targets import Floats, Targets, Vectors
from tryage.predictors.vectors import VectorPredictor

_EDGE = 1e-3
"""Width, in cosine, of the edge over which the weight of a neighbour falls to 0.

With a hard edge a rounding error could swap neighbours, and which of several equal prompts count
would depend on their order in the table."""


_RUN = 64
"""Neighbouring training vectors of which the most similar one stands for all at first."""

_WHOLE = 10_000
"""Training vectors up to which every prompt is compared by itself."""

_PROMPTS = 64
"""Prompts that are compared with more training vectors than that in one product."""


class NearestPredictor(VectorPredictor):
    """Averages the `k` nearest training prompts by cosine, and one vote for the expert's average.

    Args:
        encoder: turns prompts into vectors.
        seed: drives the out-of-distribution test.
        k: neighbours; at most a tenth of the training prompts, so that predictions of a small
            table still differ.
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
        self._residuals = {
            target: _Residuals.of(arrays["residuals"]) for target, arrays in self.fitted_.items()
        }

    def _predict(self, vectors: Vectors) -> tuple[Targets, Targets]:
        shape = (len(vectors), len(self.experts_))
        mean = {target: np.empty(shape) for target in self.targets_}
        std = {target: np.empty(shape) for target in self.targets_}
        k = max(1, min(self.k, len(self.vectors_) // 10))
        for row, similarity in enumerate(self._similarities(vectors)):
            edge = _greatest(similarity, k)
            near = np.flatnonzero(similarity > edge - _EDGE)
            weight = np.minimum((similarity[near] - edge) / _EDGE + 1.0, 1.0)
            for target, residuals in self._residuals.items():
                shift, std[target][row] = residuals.average(near, weight)
                mean[target][row] = self.averages_[target] + shift
        return mean, std

    def _similarities(self, vectors: Vectors) -> Iterator[NDArray[np.float32]]:
        """Yield the cosines of each vector to all training vectors, (n_training,)."""
        if len(self.vectors_) <= _WHOLE:
            yield from (self.vectors_ @ vector for vector in vectors)
            return
        for start in range(0, len(vectors), _PROMPTS):
            yield from vectors[start : start + _PROMPTS] @ self.vectors_.T

    def _add_expert(self, prompts: Sequence[str], measured: Targets, others: Targets) -> None:
        vectors = self._encode(prompts)
        row_of = {vector.tobytes(): row for row, vector in enumerate(self.vectors_)}
        # Probes that are training prompts fill their rows, so that they do not count twice.
        rows = [row_of.get(vector.tobytes(), -1) for vector in vectors]
        added = [number for number, row in enumerate(rows) if row < 0]
        for place, number in enumerate(added):
            rows[number] = len(self.vectors_) + place
        self.vectors_ = np.concatenate([self.vectors_, vectors[added]])
        grown = {}
        for target, arrays in self.fitted_.items():
            old = arrays["residuals"]
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


def _greatest(values: NDArray[np.float32], k: int) -> np.float32:
    """Return the k-th greatest of values, (n,); fast where k is far below n."""
    runs = len(values) // _RUN
    if runs <= k:
        return np.float32(np.partition(values, -k)[-k])
    # At least k values reach the k-th greatest of the runs' maxima, so the one sought does.
    maxima = values[: runs * _RUN].reshape(runs, _RUN).max(axis=1)
    least = np.partition(maxima, -k)[-k]
    return np.float32(np.partition(values[values >= least], -k)[-k])


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
        # The expert's average counts as one neighbour, and replaces unmeasured ones.
        votes = weight @ self.measured[near] + 1.0
        shift = (weight @ self.filled[near]) / votes
        squares = (weight @ np.square(self.filled[near]) + self.variance) / votes
        return shift, np.sqrt(np.maximum(squares - np.square(shift), 0.0) / votes)
