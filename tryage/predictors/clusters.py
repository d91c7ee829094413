"""Mean losses of clusters of prompts, shrunk towards each expert's average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.cells import additive_cells, new_expert_cells
from tryage.predictors.kmeans import spherical_kmeans
from tryage.predictors.new_expert import (
    LEAST_EXPERTS,
    CellPrior,
    ProbeResiduals,
    posterior_cells,
)
from tryage.predictors.products import by_row
from tryage.predictors.targets import LOSS, Floats, Prediction, Targets, Vectors
from tryage.predictors.vectors import VectorPredictor
from tryage.predictors.wide import PackedArrays, Shares, WideCells, WidePrediction

_SOFTNESS = 0.01
"""Temperature of the softmax over cosines.

With hard borders a rounding error could change the prediction."""

_MOST_CLUSTERS = 320
"""As many as the number of clusters grows to with the table."""

_WIDE = 1000
"""Numbers a prompt from which it is faster to look for those that count than to read all."""


class ClustersPredictor(VectorPredictor):
    """Averages shrunk cluster means over several clusterings of the training prompts.

    A cell is one cluster under one expert. Additive model: cluster difficulty plus each expert's
    deviation, both shrunk by empirical Bayes (one prior count for all experts): the difficulty
    towards each expert's average, the deviation towards that of a coarser clustering, and that
    towards the average. So noise does not separate experts, however much clusters differ in
    difficulty. The standard error combines the uncertainty of the cells with the disagreement
    between the clusterings. A new expert's cells have a Gaussian prior learned from the other
    experts' (`tryage.predictors.new_expert`).

    Args:
        encoder: turns prompts into vectors.
        seed: drives the clusterings.
        k: clusters; fewer when there are fewer than ten prompts for each.
        coarse: clusters of the coarser clustering; at most half of `k`.
        clusterings: how many clusterings are averaged.
        prompts_per_cluster: makes `k` grow with the table: one cluster for so many prompts, at
            least `k` and at most 320; the coarser clustering has a fifth as many.
    """

    kind: ClassVar[str] = "clusters"
    TARGET_ARRAYS: ClassVar[tuple[str, ...]] = ("shifts", "errors")
    SINGLE_ARRAYS: ClassVar[tuple[str, ...]] = ("shifts", "errors")

    def __init__(
        self,
        encoder: Encoder | None = None,
        *,
        seed: int = 0,
        k: int = 40,
        coarse: int = 8,
        clusterings: int = 5,
        prompts_per_cluster: int | None = None,
    ) -> None:
        super().__init__(encoder, seed=seed)
        self.k = k
        self.coarse = coarse
        self.clusterings = clusterings
        self.prompts_per_cluster = prompts_per_cluster

    def _fit_space(self, vectors: Vectors, losses: Floats) -> None:
        k, coarse = self.k, self.coarse
        if self.prompts_per_cluster is not None:
            k = max(k, min(len(vectors) // self.prompts_per_cluster, _MOST_CLUSTERS))
            coarse = max(coarse, k // 5)
        k = max(1, min(k, len(vectors) // 10))
        fine = self._clusterings(vectors, k, 0)
        self._set_space(np.array([len(centres) for centres in fine]), np.concatenate(fine))
        self._coarse = self._clusterings(vectors, max(1, min(coarse, k // 2)), 9)

    def _clusterings(self, vectors: Vectors, k: int, use: int) -> list[Vectors]:
        """Return the centres of every clustering, each (at most k, dim)."""
        return [
            spherical_kmeans(vectors, k, np.random.default_rng([self.seed, use, number]))
            for number in range(self.clusterings)
        ]

    def _set_space(self, sizes: NDArray[np.int64], centres: Vectors) -> None:
        """Store all clusterings, concatenated: centres of each, and the centres (cells, dim)."""
        self.sizes_ = sizes
        self.centres_ = centres
        self._starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._clustering = np.repeat(np.arange(len(sizes)), sizes)  # of each cell

    def _fit_target(self, target: str, vectors: Vectors, values: Floats) -> Targets:
        """Return shifts and errors of all cells, each (cells, n_experts).

        Shifts are cell means minus the expert's average; errors are their standard errors.
        """
        average, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        scaled = (values - average) / np.where(spread > 0, spread, 1.0)
        cells = [
            additive_cells(fine, coarse, scaled, count)
            for fine, coarse, count in self._assignments(vectors)
        ]
        shifts, errors = (np.concatenate(parts) * spread for parts in zip(*cells, strict=True))
        # The sum of difficulty and deviation could leave the measured range.
        lowest, highest = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        return {"shifts": np.clip(shifts, lowest - average, highest - average), "errors": errors}

    def _assignments(
        self, vectors: Vectors
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], int]]:
        """Yield the clusterings: fine and coarse cluster of each vector, number of fine ones."""
        fine = np.split(self.centres_, np.cumsum(self.sizes_)[:-1])
        for centres, wide in zip(fine, self._coarse, strict=True):
            yield nearest_centres(vectors, centres), nearest_centres(vectors, wide), len(centres)

    def _fit_new_expert(
        self, target: str, vectors: Vectors, values: Floats, others: Floats
    ) -> Targets:
        """Estimate a new expert's cells from its probes and the other experts' cells.

        Costs and lengths are compared as multiples of each expert's average, since experts differ
        in them by orders of magnitude.
        """
        average = self.averages_[target][-1]
        averages = self.averages_[target][:-1]
        cells = averages + self.fitted_[target]["shifts"]  # (cells, n_others)
        units, unit = np.ones(len(averages)), 1.0
        if target != LOSS and (averages > 0).all() and np.nanmean(values) > 0:
            units, unit = averages, float(np.nanmean(values))
        cells, others, values = cells / units, others / units, values / unit
        member = self.membership(vectors)
        if cells.shape[1] < LEAST_EXPERTS:
            means, errors = self._from_few_experts(cells, member, values, others, average / unit)
        else:
            measured = ~np.isnan(values[:, 0])
            member, values, others = member[measured], values[measured, 0], others[measured]
            residuals = ProbeResiduals.of(others - member @ cells)
            prior = CellPrior.learn(cells, self.centres_)
            means, errors = posterior_cells(prior, member, values, residuals)
            lowest, highest = min(values.min(), cells.min()), max(values.max(), cells.max())
            means = np.clip(means, lowest, highest)
        return {"shifts": (unit * means - average)[:, None], "errors": unit * errors[:, None]}

    def _from_few_experts(
        self, cells: Floats, member: Floats, values: Floats, others: Floats, average: float
    ) -> tuple[Floats, Floats]:
        """Estimate the cells beside one or two experts, which show no covariance of cells."""
        if cells.shape[1] < 2:
            # One expert shows no variance between experts; that of the new one's probes serves.
            spread = np.nanstd(values) * np.array([-0.5, 0.5])
            cells = np.full((len(cells), 2), average) + spread
            others = np.full((len(values), 2), np.nan)
        return new_expert_cells(cells, member, values[:, 0], others, len(self.sizes_))

    def _prepare(self) -> None:
        self._wide: dict[str, WideCells] = {}
        wide = 2 * len(self.targets_) * len(self.experts_) >= _WIDE
        if wide and all(WideCells.holds(a["shifts"], a["errors"]) for a in self.fitted_.values()):
            self._pack()
            return
        # One product with all targets' moments, concatenated, serves every target.
        parts = []
        for arrays in self.fitted_.values():
            shifts, errors = (np.asarray(arrays[n], dtype=np.float64) for n in ("shifts", "errors"))
            parts += [shifts, np.square(shifts) + np.square(errors)]
        self._moments = np.hstack(parts)  # (cells, targets * 2 * n_experts)

    def _pack(self) -> None:
        """Keep the cells packed, and only so: those of 200,000 experts take much memory."""
        order = None
        for target in self.targets_:
            others = dict(self.fitted_[target])
            parts = (self.averages_[target], others.pop("shifts"), others.pop("errors"))
            cells = WideCells(*parts, order=order)
            order = cells.order
            self._wide[target] = cells
            self.fitted_[target] = cast("Targets", PackedArrays(cells, others))

    def membership(self, vectors: Vectors) -> Floats:
        """Return how much each cell counts for each vector, (n, cells), rows summing to 1."""
        weight = self._closeness(vectors)
        total = np.add.reduceat(weight, self._starts, axis=1) * len(self.sizes_)
        weight /= total[:, self._clustering]
        return weight

    def _closeness(self, vectors: Vectors) -> Floats:
        """Return the softmax's numerators of each vector and cell, (n, cells)."""
        weight = by_row(vectors, self.centres_.T).astype(np.float64)  # (n, cells), cosines
        weight -= 1.0  # not above 0 then, and above -2, whose exponential does not underflow
        weight /= _SOFTNESS
        np.exp(weight, out=weight)
        return weight

    def predict_vectors(self, vectors: Vectors) -> Prediction:
        """Like `predict`, from the prompts' vectors, shape (n_prompts, dim)."""
        if not self._wide or not self._cells_are_all():
            return super().predict_vectors(vectors)
        likeness = self.novelty_.likeness(self._compared(vectors))
        return self._wide_prediction(vectors, likeness < self.novelty_.threshold, likeness)

    def _cells_are_all(self) -> bool:
        """Whether nothing is added to what the cells say."""
        return True

    def _wide_prediction(self, vectors: Vectors, ood: Any, likeness: Any) -> WidePrediction:
        shares = [Shares.of(row) for row in self.membership(vectors)]
        return WidePrediction(self._wide, shares, shares, ood, likeness)

    def _predict(self, vectors: Vectors) -> tuple[Targets, Targets]:
        if self._wide:
            nothing = np.zeros(len(vectors), dtype=bool)
            wide = self._wide_prediction(vectors, nothing, nothing)
            return wide.mean, wide.std
        moments = by_row(self.membership(vectors), self._moments)
        mean, std = {}, {}
        m = len(self.experts_)
        for number, target in enumerate(self.targets_):
            start = 2 * m * number
            shift, square = moments[:, start : start + m], moments[:, start + m : start + 2 * m]
            mean[target] = self.averages_[target] + shift
            std[target] = np.sqrt(np.maximum(square - shift * shift, 0.0))
        return mean, std

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        # Early folders lack `coarse` and may have no `k`.
        k = max(config["sizes"]) if config["k"] is None else config["k"]
        coarse = config.get("coarse", 1)
        settings = {"k": int(k), "coarse": int(coarse), "clusterings": int(config["clusterings"])}
        if "prompts_per_cluster" in config:
            settings["prompts_per_cluster"] = int(config["prompts_per_cluster"])
        return settings

    def _config(self) -> dict[str, Any]:
        config = {
            "k": self.k,
            "coarse": self.coarse,
            "clusterings": self.clusterings,
            "sizes": self.sizes_.tolist(),
        }
        if self.prompts_per_cluster is not None:
            config["prompts_per_cluster"] = self.prompts_per_cluster
        return config

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | {"centres": self.centres_}

    def _restore_space(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        sizes = np.array(config["sizes"], dtype=np.int64)
        self._set_space(sizes, np.asarray(arrays["centres"], dtype=np.float32))


def nearest_centres(vectors: Vectors, centres: Vectors) -> NDArray[np.intp]:
    """Return the cluster of each vector, (n,)."""
    nearest: NDArray[np.intp] = (vectors @ centres.T).argmax(axis=1)
    return nearest
