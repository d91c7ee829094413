"""Mean losses of clusters of prompts, shrunk towards each expert's average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.base import Floats, Targets, VectorPredictor, Vectors
from tryage.predictors.kmeans import spherical_kmeans

_SOFTNESS = 0.01
"""Cosine over which a prompt between two centres passes from one to the other.

A hard border would let a rounding error change the answer."""

_LEAST_PRIOR, _GREATEST_PRIOR = 1.0, 1e6

COUNTS = (5, 10, 20, 40, 80)
"""Numbers of clusters tried, each where it leaves ten prompts to a cluster."""

USUAL = 10
"""The number of clusters where validation cannot tell that another is better."""

_CLEARLY = 2.5
"""Standard errors of a difference that count as clear; with fewer, one of several numbers of
clusters would often win by chance."""


class ClustersPredictor(VectorPredictor):
    """Clusters the training prompts several times over and averages what each gives.

    A cell is one cluster under one expert. Its mean counts the labels it has and, besides,
    the expert's average as often as the ratio of scatter within cells to scatter between them
    asks for (an empirical Bayes estimate, one number for all experts). The standard error
    joins what is not known of the cells with the disagreement between the clusterings.

    Args:
        encoder: turns prompts into vectors.
        seed: drives the clusterings.
        k: clusters; fewer when there are fewer than ten prompts for each. None: the one of
            `COUNTS` whose choices lose least on held-out prompts, if it beats `USUAL` there
            clearly, else `USUAL`.
        clusterings: how many are averaged.
    """

    kind: ClassVar[str] = "clusters"
    TARGET_ARRAYS: ClassVar[tuple[str, ...]] = ("shifts", "errors")

    def __init__(
        self,
        encoder: Encoder | None = None,
        *,
        seed: int = 0,
        k: int | None = None,
        clusterings: int = 5,
    ) -> None:
        super().__init__(encoder, seed=seed)
        self.k = k
        self.clusterings = clusterings

    def _fit_space(self, vectors: Vectors, losses: Floats) -> None:
        k = _validated_count(vectors, losses, self.seed) if self.k is None else self.k
        k = max(1, min(k, len(vectors) // 10))
        found = [
            spherical_kmeans(vectors, k, np.random.default_rng([self.seed, 0, number]))
            for number in range(self.clusterings)
        ]
        self._keep_space(np.array([len(centres) for centres in found]), np.concatenate(found))

    def _keep_space(self, sizes: NDArray[np.int64], centres: Vectors) -> None:
        """Keep all clusterings on end: how many centres each has, and the centres (cells, dim)."""
        self.sizes_ = sizes
        self.centres_ = centres
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def _fit_target(self, target: str, vectors: Vectors, values: Floats) -> Targets:
        """Return what is known of each cell, all clusterings on end, each (cells, n_experts).

        Shifts are cell means minus the expert's average; errors are their standard errors.
        """
        residuals = values - np.nanmean(values, axis=0)
        borders = np.cumsum(self.sizes_)[:-1]
        shifts, errors = zip(
            *(
                _cell_means((vectors @ centres.T).argmax(axis=1), residuals, len(centres))
                for centres in np.split(self.centres_, borders)
            ),
            strict=True,
        )
        return {"shifts": np.concatenate(shifts), "errors": np.concatenate(errors)}

    def _prepare(self) -> None:
        # One product with all targets' moments on end serves every target.
        parts = []
        for arrays in self.fitted_.values():
            shifts, errors = arrays["shifts"], arrays["errors"]
            parts += [shifts, np.square(shifts) + np.square(errors)]
        self._moments = np.hstack(parts)  # (cells, targets * 2 * n_experts)

    def _membership(self, vectors: Vectors) -> Floats:
        """Return how much each cell counts for each vector, (n, cells), rows summing to 1."""
        similarity = (vectors @ self.centres_.T).astype(np.float64)  # (n, cells)
        nearest = np.maximum.reduceat(similarity, self._starts, axis=1)
        similarity -= nearest.repeat(self.sizes_, axis=1)
        weight = np.exp(similarity / _SOFTNESS)
        total = np.add.reduceat(weight, self._starts, axis=1) * len(self.sizes_)
        weight /= total.repeat(self.sizes_, axis=1)
        return weight

    def _predict(self, vectors: Vectors) -> tuple[Targets, Targets]:
        moments = self._membership(vectors) @ self._moments
        mean, std = {}, {}
        m = len(self.experts_)
        for number, target in enumerate(self.targets_):
            start = 2 * m * number
            shift, square = moments[:, start : start + m], moments[:, start + m : start + 2 * m]
            mean[target] = self.averages_[target] + shift
            std[target] = np.sqrt(np.maximum(square - np.square(shift), 0.0))
        return mean, std

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        k = config["k"]
        return {"k": k if k is None else int(k), "clusterings": int(config["clusterings"])}

    def _config(self) -> dict[str, Any]:
        return {"k": self.k, "clusterings": self.clusterings, "sizes": self.sizes_.tolist()}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | {"centres": self.centres_}

    def _restore_space(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        sizes = np.array(config["sizes"], dtype=np.int64)
        self._keep_space(sizes, np.asarray(arrays["centres"], dtype=np.float32))


def _cell_means(assigned: NDArray[Any], residuals: Floats, k: int) -> tuple[Floats, Floats]:
    """Estimate the mean of every cell and its standard error.

    Args:
        assigned: cluster of each prompt, shape (n,).
        residuals: value minus the expert's average, (n, n_experts), NaN where not measured.
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


def _validated_count(vectors: Vectors, losses: Floats, seed: int) -> int:
    """Return the number of clusters whose choices lose least on held-out prompts."""
    n = len(vectors)
    counts = [count for count in COUNTS if 10 * count <= 2 * n // 3]
    if USUAL not in counts:
        return USUAL
    fold_of = np.random.default_rng([seed, 4]).permutation(n) % 3
    found = np.full((len(counts), n), np.nan)
    for fold in range(3):
        held_out = fold_of == fold
        for number, count in enumerate(counts):
            rng = np.random.default_rng([seed, 5, fold, count])
            found[number, held_out] = _held_out_losses(vectors, losses, held_out, count, rng)
    gains = found[counts.index(USUAL)] - found
    gains = gains[:, ~np.isnan(gains).any(axis=0)]
    if gains.shape[1] < 2:
        return USUAL
    best = int(gains.mean(axis=1).argmax())
    error = gains[best].std() / np.sqrt(gains.shape[1])
    return counts[best] if gains[best].mean() > _CLEARLY * error else USUAL


def _held_out_losses(
    vectors: Vectors,
    losses: Floats,
    held_out: NDArray[np.bool_],
    count: int,
    rng: np.random.Generator,
) -> Floats:
    """Return the measured loss of what cell means of the others choose, NaN where not measured."""
    known = np.flatnonzero(~np.isnan(losses[~held_out]).all(axis=0))
    n_held_out = int(held_out.sum())
    if not len(known):
        return np.full(n_held_out, np.nan)
    rest = losses[~held_out][:, known]
    average = np.nanmean(rest, axis=0)
    predicted = np.zeros((n_held_out, len(known)))
    for _ in range(2):
        centres = spherical_kmeans(vectors[~held_out], count, rng)
        assigned = (vectors @ centres.T).argmax(axis=1)
        shifts, _ = _cell_means(assigned[~held_out], rest - average, len(centres))
        predicted += average + shifts[assigned[held_out]]
    column = known[predicted.argmin(axis=1)]
    measured: Floats = losses[held_out][np.arange(len(column)), column]
    return measured
