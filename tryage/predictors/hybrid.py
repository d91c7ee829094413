"""Cluster means, and what an ensemble learns of what they leave over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.base import LOSS, Floats, Targets, Vectors
from tryage.predictors.clusters import ClustersPredictor
from tryage.predictors.features import RectifiedFeatures
from tryage.predictors.ridge import PENALTIES, Ridge

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the residual tried."""


class HybridPredictor(ClustersPredictor):
    """Adds to the means of clusters a residual that an ensemble learned, as far as it helps.

    Each member is a ridge regression, on the vector and on random features of it, of what the
    cluster means leave over on its own bootstrap sample of the prompts. Prompts outside a sample
    tell how large a share of the residual to add: for the loss the share whose choices lose least
    (a better fit does not mean better choices), if it gains more than a standard error; for other
    targets the one with the least squared error. With a share of zero it is `clusters`. The
    standard error joins that of the cell means with the disagreement of the members.

    Args:
        encoder: turns prompts into vectors.
        seed: drives clusterings, features and samples.
        k: clusters, as `ClustersPredictor` takes them, and `coarse` too.
        clusterings: how many are averaged.
        members: regressions in the ensemble.
        features: random features beside the vector itself.
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
        self.bend_ = RectifiedFeatures.draw(vectors.shape[1], self.features, rng)

    def _fit_target(self, target: str, vectors: Vectors, values: Floats) -> Targets:
        cells = super()._fit_target(target, vectors, values)
        prior = np.nanmean(values, axis=0) + self._membership(vectors) @ cells["shifts"]
        seen = self._features(vectors)
        measured = ~np.isnan(values)
        # Where nothing was measured the residual counts as zero; dividing by the share that was
        # measured makes up for it.
        residuals = np.where(measured, values - prior, 0.0) / measured.mean(axis=0)
        weights = np.empty((self.members, seen.shape[1], values.shape[1]))
        offsets = np.empty((self.members, values.shape[1]))
        total = np.zeros_like(residuals)
        counts = np.zeros((len(vectors), 1))
        rng = np.random.default_rng([self.seed, 7])
        for member in range(self.members):
            rows = rng.integers(len(vectors), size=len(vectors))
            weights[member], offsets[member] = _regress(seen[rows], residuals[rows])
            outside = np.ones(len(vectors), dtype=bool)
            outside[rows] = False
            total[outside] += seen[outside] @ weights[member] + offsets[member]
            counts[outside] += 1
        outside = counts[:, 0] > 0
        left_out = total[outside] / counts[outside]
        weigh = _share_by_choice if target == LOSS else _share_by_error
        share = weigh(values[outside], prior[outside], left_out)
        return cells | {
            "weights": weights,
            "offsets": offsets,
            "share": np.array([share]),
            "lowest": np.nanmin(values, axis=0),
            "highest": np.nanmax(values, axis=0),
        }

    def _fit_newcomer(
        self, target: str, vectors: Vectors, values: Floats, beside: Floats
    ) -> Targets:
        """Learn the cells alone: a few probes tell nothing of what cells leave over."""
        own = self.fitted_[target]
        blank = {name: np.zeros_like(own[name][..., :1]) for name in ("weights", "offsets")}
        # A few probes do not show how low or high a value can be; those of all experts do.
        lowest = np.minimum(np.nanmin(values, axis=0), own["lowest"].min())
        highest = np.maximum(np.nanmax(values, axis=0), own["highest"].max())
        ends = {"lowest": lowest, "highest": highest}
        return super()._fit_newcomer(target, vectors, values, beside) | blank | ends

    def _features(self, vectors: Vectors) -> Floats:
        """Return the vectors and their random features, (n, dim + features)."""
        return self.bend_(vectors).astype(np.float64)

    def _prepare(self) -> None:
        super()._prepare()
        # All members of all targets on end, so that one product serves them.
        self._weights = np.hstack([w for own in self.fitted_.values() for w in own["weights"]])
        self._offsets = np.hstack([o for own in self.fitted_.values() for o in own["offsets"]])
        self._helps = any(own["share"][0] > 0 for own in self.fitted_.values())

    def _predict(self, vectors: Vectors) -> tuple[Targets, Targets]:
        mean, std = super()._predict(vectors)
        if not self._helps:
            return mean, std
        found = self._features(vectors) @ self._weights + self._offsets
        shape = (len(vectors), len(self.targets_), self.members, len(self.experts_))
        for number, (target, own) in enumerate(self.fitted_.items()):
            members = found.reshape(shape)[:, number]  # (n, members, n_experts)
            share = float(own["share"][0])
            raised = mean[target] + share * members.mean(axis=1)
            mean[target] = np.clip(raised, own["lowest"], own["highest"])
            std[target] = np.hypot(std[target], share * members.std(axis=1))
        return mean, std

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        own = {"members": int(config["members"]), "features": int(config["features"])}
        return super()._settings(config) | own

    def _config(self) -> dict[str, Any]:
        return super()._config() | {"members": self.members, "features": self.features}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | {"directions": self.bend_.directions}

    def _restore_space(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        super()._restore_space(config, arrays)
        self.bend_ = RectifiedFeatures(np.asarray(arrays["directions"], dtype=np.float32))


def _regress(seen: Floats, residuals: Floats) -> tuple[Floats, Floats]:
    """Return the weights (dim, n_experts) and offsets (n_experts,) of a ridge regression."""
    ridge = Ridge(seen, residuals)
    penalty = PENALTIES[int(ridge.left_out_errors().argmin())]
    weights, _ = ridge.solve(penalty)
    return weights, ridge.target_mean - ridge.centre @ weights


def _share_by_choice(losses: Floats, prior: Floats, residuals: Floats) -> float:
    """Return the share of the residuals whose choices lose least; arrays (n, n_experts).

    Zero, unless another gains more than a standard error over it.
    """
    row = np.arange(len(losses))
    totals = [prior + share * residuals for share in SHARES]
    found = np.stack([losses[row, total.argmin(axis=1)] for total in totals])
    gains = found[0] - found
    gains = gains[:, ~np.isnan(gains).any(axis=0)]  # (shares, n)
    if gains.shape[1] < 2:
        return 0.0
    best = int(gains.mean(axis=1).argmax())
    error = gains[best].std() / np.sqrt(gains.shape[1])
    return SHARES[best] if gains[best].mean() > error else 0.0


def _share_by_error(values: Floats, prior: Floats, residuals: Floats) -> float:
    """Return the share of the residuals with the least squared error; arrays (n, n_experts)."""
    measured = ~np.isnan(values)
    left = np.where(measured, values - prior, 0.0)
    given = np.where(measured, residuals, 0.0)
    size = float(np.square(given).sum())
    return float(np.clip((given * left).sum() / size, 0.0, 1.0)) if size > 0 else 0.0
