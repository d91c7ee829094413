"""Mean losses of clusters of prompts, shrunk towards each expert's average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.base import LOSS, Floats, VectorPredictor, Vectors
from tryage.predictors.kmeans import spherical_kmeans

_SOFTNESS = 0.01
"""Cosine over which a prompt between two centres passes from one to the other.

A hard border would let a rounding error change the answer."""

_LEAST_PRIOR, _GREATEST_PRIOR = 1.0, 1e6


class ClustersPredictor(VectorPredictor):
    """Clusters the training prompts several times over and averages what each gives.

    A cell is one cluster under one expert. Its mean counts the labels it has and, besides,
    the expert's average as often as the ratio of scatter within cells to scatter between them
    asks for (an empirical Bayes estimate, one number for all experts). The standard error
    joins what is not known of the cells with the disagreement between the clusterings.

    Args:
        encoder: turns prompts into vectors.
        seed: drives the clusterings.
        k: clusters; fewer when there are fewer than ten prompts for each.
        clusterings: how many are averaged.
    """

    kind: ClassVar[str] = "clusters"

    def __init__(
        self, encoder: Encoder | None = None, *, seed: int = 0, k: int = 10, clusterings: int = 5
    ) -> None:
        super().__init__(encoder, seed=seed)
        self.k = k
        self.clusterings = clusterings

    def _fit(self, vectors: Vectors, losses: Floats) -> None:
        k = max(1, min(self.k, len(vectors) // 10))
        found = [
            spherical_kmeans(vectors, k, np.random.default_rng([self.seed, 0, number]))
            for number in range(self.clusterings)
        ]
        residuals = losses - self.average_loss_
        cells, errors = zip(
            *(
                _cell_means((vectors @ centres.T).argmax(axis=1), residuals, len(centres))
                for centres in found
            ),
            strict=True,
        )
        self.sizes_ = np.array([len(centres) for centres in found])
        self._keep(np.concatenate(found), np.concatenate(cells), np.concatenate(errors))

    def _keep(self, centres: Vectors, shifts: Floats, errors: Floats) -> None:
        """Keep all clusterings on end: centres (cells, dim), shifts and errors (cells, n_experts).

        Shifts are cell means minus the expert's average; errors are their standard errors.
        """
        self.centres_ = centres
        self.shifts_ = shifts
        self.errors_ = errors
        self._moments = np.hstack([shifts, np.square(shifts) + np.square(errors)])
        self._starts = np.concatenate([[0], np.cumsum(self.sizes_)[:-1]])

    def _predict(self, vectors: Vectors) -> tuple[Floats, Floats]:
        similarity = (vectors @ self.centres_.T).astype(np.float64)  # (n, cells)
        nearest = np.maximum.reduceat(similarity, self._starts, axis=1)
        similarity -= nearest.repeat(self.sizes_, axis=1)
        weight = np.exp(similarity / _SOFTNESS)
        total = np.add.reduceat(weight, self._starts, axis=1) * len(self.sizes_)
        weight /= total.repeat(self.sizes_, axis=1)
        moments = weight @ self._moments
        n_experts = len(self.experts_)
        shift, square = moments[:, :n_experts], moments[:, n_experts:]
        variance = np.maximum(square - np.square(shift), 0.0)
        return self.average_loss_ + shift, np.sqrt(variance)

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"k": int(config["k"]), "clusterings": int(config["clusterings"])}

    def _config(self) -> dict[str, Any]:
        return {"k": self.k, "clusterings": self.clusterings, "sizes": self.sizes_.tolist()}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own: dict[str, NDArray[Any]] = {
            "centres": self.centres_,
            f"{LOSS}.shifts": self.shifts_,
            f"{LOSS}.errors": self.errors_,
        }
        return super()._arrays() | own

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        super()._restore(config, arrays)
        self.sizes_ = np.array(config["sizes"], dtype=np.int64)
        self._keep(
            np.asarray(arrays["centres"], dtype=np.float32),
            np.asarray(arrays[f"{LOSS}.shifts"], dtype=np.float64),
            np.asarray(arrays[f"{LOSS}.errors"], dtype=np.float64),
        )


def _cell_means(assigned: NDArray[Any], residuals: Floats, k: int) -> tuple[Floats, Floats]:
    """Estimate the mean of every cell and its standard error.

    Args:
        assigned: cluster of each prompt, shape (n,).
        residuals: loss minus the expert's average, (n, n_experts), NaN where not measured.
        k: number of clusters.

    Returns:
        Shrunk means and standard errors, each (k, n_experts).
    """
    measured = ~np.isnan(residuals)
    filled = np.where(measured, residuals, 0.0)
    member = (assigned == np.arange(k)[:, None]).astype(np.float64)  # (k, n)
    counts = member @ measured
    sums = member @ filled
    raw = sums / np.maximum(counts, 1.0)
    scatter = np.maximum(member @ np.square(filled) - counts * np.square(raw), 0.0)
    within = scatter.sum(axis=0) / np.maximum(counts.sum(axis=0) - (counts > 0).sum(axis=0), 1.0)
    prior = _prior_count(raw, counts, within)
    means = sums / (counts + prior)
    variance = (scatter + prior * within) / (counts + prior)
    return means, np.sqrt(variance / (counts + prior))


def _prior_count(raw: Floats, counts: Floats, within: Floats) -> float:
    """Return how many labels the expert's average stands for (method of moments).

    Scatter within cells over scatter of the true cell means; the latter is the observed
    scatter of cell means less what sampling alone would give.
    """
    total = np.maximum(counts.sum(axis=0), 1.0)
    observed = (counts * np.square(raw)).sum(axis=0) / total
    sampling = within * (counts > 0).sum(axis=0) / total
    between = float(np.maximum(observed - sampling, 0.0).sum())
    noise = float(within.sum())
    if noise == 0.0:
        return _LEAST_PRIOR
    return float(np.clip(noise / max(between, 1e-12), _LEAST_PRIOR, _GREATEST_PRIOR))
