"""Mean losses of clusters of prompts, shrunk towards each expert's average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.base import LOSS, Floats, Targets, VectorPredictor, Vectors
from tryage.predictors.cells import cells_apart, newcomers_cells
from tryage.predictors.kmeans import spherical_kmeans

_SOFTNESS = 0.01
"""Cosine over which a prompt between two centres passes from one to the other.

A hard border would let a rounding error change the answer."""

_WIDE = 1000
"""Columns from which reading the cells costs more than finding out which ones count."""

_LEAST_WEIGHT = 1e-7
"""What a cell may count for a prompt and still be left out, of 1 in all."""


class ClustersPredictor(VectorPredictor):
    """Clusters the training prompts several times over and averages what each gives.

    A cell is one cluster under one expert. What its labels say is taken apart: how hard the
    cluster is for all experts, and how much each expert differs from that. Both are shrunk, as far
    as the scatter within cells against the scatter between them asks for (empirical Bayes; one
    number of labels for all experts): the first towards each expert's average, the second towards
    that of a coarser clustering, and that towards the average. So experts are told apart only
    where labels tell them apart, however much harder one cluster is than another. The standard
    error joins what is not known of the cells with the disagreement between the clusterings.

    Args:
        encoder: turns prompts into vectors.
        seed: drives the clusterings.
        k: clusters; fewer when there are fewer than ten prompts for each.
        coarse: clusters of the coarser clustering; at most half of `k`.
        clusterings: how many are averaged.
    """

    kind: ClassVar[str] = "clusters"
    TARGET_ARRAYS: ClassVar[tuple[str, ...]] = ("shifts", "errors")

    def __init__(
        self,
        encoder: Encoder | None = None,
        *,
        seed: int = 0,
        k: int = 40,
        coarse: int = 8,
        clusterings: int = 5,
    ) -> None:
        super().__init__(encoder, seed=seed)
        self.k = k
        self.coarse = coarse
        self.clusterings = clusterings

    def _fit_space(self, vectors: Vectors, losses: Floats) -> None:
        k = max(1, min(self.k, len(vectors) // 10))
        found = self._clusterings(vectors, k, 0)
        self._keep_space(np.array([len(centres) for centres in found]), np.concatenate(found))
        self._coarse = self._clusterings(vectors, max(1, min(self.coarse, k // 2)), 9)

    def _clusterings(self, vectors: Vectors, k: int, use: int) -> list[Vectors]:
        """Return the centres of every clustering, each (at most k, dim)."""
        return [
            spherical_kmeans(vectors, k, np.random.default_rng([self.seed, use, number]))
            for number in range(self.clusterings)
        ]

    def _keep_space(self, sizes: NDArray[np.int64], centres: Vectors) -> None:
        """Keep all clusterings on end: how many centres each has, and the centres (cells, dim)."""
        self.sizes_ = sizes
        self.centres_ = centres
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def _fit_target(self, target: str, vectors: Vectors, values: Floats) -> Targets:
        """Return what is known of each cell, all clusterings on end, each (cells, n_experts).

        Shifts are cell means minus the expert's average; errors are their standard errors.
        """
        average, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        scaled = (values - average) / np.where(spread > 0, spread, 1.0)
        fine = np.split(self.centres_, np.cumsum(self.sizes_)[:-1])
        cells = [
            cells_apart(_nearest(vectors, centres), _nearest(vectors, wide), scaled, len(centres))
            for centres, wide in zip(fine, self._coarse, strict=True)
        ]
        shifts, errors = (np.concatenate(parts) * spread for parts in zip(*cells, strict=True))
        # What is added for two reasons could leave what was ever measured.
        lowest, highest = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        return {"shifts": np.clip(shifts, lowest - average, highest - average), "errors": errors}

    def _fit_newcomer(
        self, target: str, vectors: Vectors, values: Floats, beside: Floats
    ) -> Targets:
        """Expect of a new expert's cells what the known experts' cells make likely.

        Costs and lengths are compared as multiples of each expert's average, since experts differ
        in them by orders of magnitude.
        """
        own = self.averages_[target][-1]
        averages = self.averages_[target][:-1]
        known = averages + self.fitted_[target]["shifts"]  # (cells, n_known)
        units, unit = np.ones(len(averages)), 1.0
        if target != LOSS and (averages > 0).all() and np.nanmean(values) > 0:
            units, unit = averages, float(np.nanmean(values))
        known, beside, values = known / units, beside / units, values / unit
        if known.shape[1] < 2:
            # One expert shows no scatter between experts; the newcomer's own stands in for it.
            apart = np.nanstd(values) * np.array([-0.5, 0.5])
            known = np.full((len(known), 2), own / unit) + apart
            beside = np.full((len(values), 2), np.nan)
        member = self._membership(vectors)
        means, errors = newcomers_cells(known, member, values[:, 0], beside, len(self.sizes_))
        return {"shifts": (unit * means - own)[:, None], "errors": unit * errors[:, None]}

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
        moments = self._expected_moments(self._membership(vectors))
        mean, std = {}, {}
        m = len(self.experts_)
        for number, target in enumerate(self.targets_):
            start = 2 * m * number
            shift, square = moments[:, start : start + m], moments[:, start + m : start + 2 * m]
            mean[target] = self.averages_[target] + shift
            std[target] = np.sqrt(np.maximum(square - np.square(shift), 0.0))
        return mean, std

    def _expected_moments(self, weight: Floats) -> Floats:
        """Return all targets' moments, (n, columns), from the weights of the cells, (n, cells)."""
        found = np.empty((len(weight), self._moments.shape[1]))
        if found.shape[1] < _WIDE:
            return np.matmul(weight, self._moments, out=found)
        # Few cells count for a prompt, and the columns of thousands of experts take time to read.
        for row, out in zip(weight, found, strict=True):
            near = np.flatnonzero(row > _LEAST_WEIGHT)
            np.matmul(row[near], self._moments[near], out=out)
        return found

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        # Folders from before there was a coarser clustering may leave `k` open.
        k = max(config["sizes"]) if config["k"] is None else config["k"]
        coarse = config.get("coarse", 1)
        return {"k": int(k), "coarse": int(coarse), "clusterings": int(config["clusterings"])}

    def _config(self) -> dict[str, Any]:
        return {
            "k": self.k,
            "coarse": self.coarse,
            "clusterings": self.clusterings,
            "sizes": self.sizes_.tolist(),
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | {"centres": self.centres_}

    def _restore_space(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        sizes = np.array(config["sizes"], dtype=np.int64)
        self._keep_space(sizes, np.asarray(arrays["centres"], dtype=np.float32))


def _nearest(vectors: Vectors, centres: Vectors) -> NDArray[np.intp]:
    """Return the cluster of each vector, (n,)."""
    found: NDArray[np.intp] = (vectors @ centres.T).argmax(axis=1)
    return found
