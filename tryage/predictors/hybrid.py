"""Cluster means plus a bagged ridge ensemble on the residuals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.clusters import ClustersPredictor
from tryage.predictors.features import Inputs, RandomReluFeatures
from tryage.predictors.products import by_row
from tryage.predictors.ridge import PENALTIES, Ridge
from tryage.predictors.targets import LOSS, Floats, Targets, Vectors

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Candidate shares of the predicted residual."""


class HybridPredictor(ClustersPredictor):
    """Adds a share of a bagged ridge ensemble's residual to the cluster means.

    Each member is a ridge regression, on the vector and random ReLU features of it, of the
    residuals of the cluster means on a bootstrap sample of the prompts. Out-of-bag prompts set the
    share: for the loss the one whose choices have the lowest loss (a better fit does not mean
    better choices), if it gains more than a standard error; for other targets the one with the
    least squared error. With share 0 it is `clusters`. The standard error combines that of the
    cell means with the disagreement of the members.

    Args:
        encoder: turns prompts into vectors.
        seed: drives clusterings, features and samples.
        k: clusters, as in `ClustersPredictor`; `coarse` likewise.
        clusterings: how many clusterings are averaged.
        members: regressions in the ensemble.
        features: number of random ReLU features beside the vector.
    """

    kind: ClassVar[str] = "hybrid"
    TARGET_ARRAYS: ClassVar[tuple[str, ...]] = (
        *ClustersPredictor.TARGET_ARRAYS,
        "weights",
        "offsets",
        "share",
        "lowest",
        "highest",
    )
    SHARED_ARRAYS: ClassVar[tuple[str, ...]] = ("share",)

    def __init__(
        self,
        encoder: Encoder | None = None,
        *,
        seed: int = 0,
        k: int = 40,
        coarse: int = 8,
        clusterings: int = 5,
        members: int = 5,
        features: int = 64,
    ) -> None:
        super().__init__(encoder, seed=seed, k=k, coarse=coarse, clusterings=clusterings)
        self.members = members
        self.features = features

    def _fit_space(self, vectors: Vectors, losses: Floats) -> None:
        super()._fit_space(vectors, losses)
        rng = np.random.default_rng([self.seed, 6])
        self.features_ = RandomReluFeatures.draw(vectors.shape[1], self.features, rng)

    def _fit_target(self, target: str, vectors: Vectors, values: Floats) -> Targets:
        cells = super()._fit_target(target, vectors, values)
        inputs = Inputs(vectors, self.features_)
        shifts = [self.membership(part) @ cells["shifts"] for part in _parts(vectors)]
        prior = np.nanmean(values, axis=0) + np.concatenate(shifts)
        measured = ~np.isnan(values)
        # Unmeasured residuals count as zero; dividing by the measured share corrects for it.
        residuals = np.where(measured, values - prior, 0.0) / measured.mean(axis=0)
        weights = np.empty((self.members, inputs.dim, values.shape[1]))
        offsets = np.empty((self.members, values.shape[1]))
        total = np.zeros_like(residuals)
        counts = np.zeros((len(vectors), 1))
        rng = np.random.default_rng([self.seed, 7])
        for member in range(self.members):
            rows = rng.integers(len(vectors), size=len(vectors))
            weights[member], offsets[member] = _regress(inputs.take(rows), residuals[rows])
            out_of_bag = np.ones(len(vectors), dtype=bool)
            out_of_bag[rows] = False
            total[out_of_bag] += inputs.take(out_of_bag).times(weights[member]) + offsets[member]
            counts[out_of_bag] += 1
        out_of_bag = counts[:, 0] > 0
        predicted = total[out_of_bag] / counts[out_of_bag]
        choose_share = _share_by_choice if target == LOSS else _share_by_error
        share = choose_share(values[out_of_bag], prior[out_of_bag], predicted)
        return cells | {
            "weights": weights,
            "offsets": offsets,
            "share": np.array([share]),
            "lowest": np.nanmin(values, axis=0),
            "highest": np.nanmax(values, axis=0),
        }

    def _fit_new_expert(
        self, target: str, vectors: Vectors, values: Floats, others: Floats
    ) -> Targets:
        """Learn the cells alone: a few probes are too few for the residuals of cells."""
        fitted = self.fitted_[target]
        blank = {name: np.zeros_like(fitted[name][..., :1]) for name in ("weights", "offsets")}
        # A few probes do not show the range of values; the measurements of all experts do.
        lowest = np.minimum(np.nanmin(values, axis=0), fitted["lowest"].min())
        highest = np.maximum(np.nanmax(values, axis=0), fitted["highest"].max())
        limits = {"lowest": lowest, "highest": highest}
        return super()._fit_new_expert(target, vectors, values, others) | blank | limits

    def _inputs(self, vectors: Vectors) -> Floats:
        """Return the vectors and their random features, (n, dim + features)."""
        return self.features_(vectors).astype(np.float64)

    def _prepare(self) -> None:
        super()._prepare()
        # All members of all targets, concatenated, so that one product serves them.
        self._weights = np.hstack([w for a in self.fitted_.values() for w in a["weights"]])
        self._offsets = np.hstack([o for a in self.fitted_.values() for o in a["offsets"]])
        self._adds_residuals = any(a["share"][0] > 0 for a in self.fitted_.values())

    def _cells_are_all(self) -> bool:
        return not self._adds_residuals

    def _predict(self, vectors: Vectors) -> tuple[Targets, Targets]:
        mean, std = super()._predict(vectors)
        if not self._adds_residuals:
            return mean, std
        residuals = by_row(self._inputs(vectors), self._weights) + self._offsets
        shape = (len(vectors), len(self.targets_), self.members, len(self.experts_))
        for number, (target, arrays) in enumerate(self.fitted_.items()):
            members = residuals.reshape(shape)[:, number]  # (n, members, n_experts)
            share = float(arrays["share"][0])
            total = mean[target] + share * members.mean(axis=1)
            mean[target] = np.clip(total, arrays["lowest"], arrays["highest"])
            std[target] = np.hypot(std[target], share * members.std(axis=1))
        return mean, std

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        settings = {"members": int(config["members"]), "features": int(config["features"])}
        return super()._settings(config) | settings

    def _config(self) -> dict[str, Any]:
        return super()._config() | {"members": self.members, "features": self.features}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | {"directions": self.features_.directions}

    def _restore_space(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        super()._restore_space(config, arrays)
        self.features_ = RandomReluFeatures(np.asarray(arrays["directions"], dtype=np.float32))


def _parts(vectors: Vectors) -> Iterator[Vectors]:
    """Yield vectors (n, dim) in parts, whose cells fit into memory."""
    return (block for _, block in Inputs(vectors).blocks())


def _regress(inputs: Inputs, residuals: Floats) -> tuple[Floats, Floats]:
    """Return the weights (dim, n_experts) and offsets (n_experts,) of a ridge regression."""
    ridge = Ridge(inputs, residuals)
    penalty = PENALTIES[int(ridge.leave_one_out_errors().argmin())]
    weights, _ = ridge.solve(penalty)
    return weights, ridge.target_mean - ridge.centre @ weights


def _share_by_choice(losses: Floats, prior: Floats, residuals: Floats) -> float:
    """Return the share whose choices have the lowest loss; arrays (n, n_experts).

    Zero, unless another share gains more than a standard error over it.
    """
    row = np.arange(len(losses))
    totals = [prior + share * residuals for share in SHARES]
    chosen = np.stack([losses[row, total.argmin(axis=1)] for total in totals])
    gains = chosen[0] - chosen
    gains = gains[:, ~np.isnan(gains).any(axis=0)]  # (shares, n)
    if gains.shape[1] < 2:
        return 0.0
    best = int(gains.mean(axis=1).argmax())
    error = gains[best].std() / np.sqrt(gains.shape[1])
    return SHARES[best] if gains[best].mean() > error else 0.0


def _share_by_error(values: Floats, prior: Floats, residuals: Floats) -> float:
    """Return the share with the least squared error; arrays (n, n_experts)."""
    measured = ~np.isnan(values)
    actual = np.where(measured, values - prior, 0.0)
    predicted = np.where(measured, residuals, 0.0)
    size = float(np.square(predicted).sum())
    return float(np.clip((predicted * actual).sum() / size, 0.0, 1.0)) if size > 0 else 0.0
