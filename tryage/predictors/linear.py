"""Ridge regression of each expert's targets on the prompt's vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.features import Inputs, RandomReluFeatures
from tryage.predictors.products import by_row
from tryage.predictors.ridge import PENALTIES, Ridge
from tryage.predictors.targets import LOSS, Floats, Targets, Vectors
from tryage.predictors.vectors import VectorPredictor


class LinearPredictor(VectorPredictor):
    """Predicts an expert's loss, or another target, as a linear function of the vector.

    One penalty per target serves all experts: the one of `PENALTIES` with the least
    leave-one-out error, computed in closed form and summed over experts in units of their
    variance. Each expert is fitted on the prompts it was measured on. Predictions are clipped to
    the measured values. Random ReLU features make it non-linear, for tables of thousands of
    prompts; its standard errors then use the leverage of the vector alone, scaled to the degrees
    of freedom of vector and features.

    Args:
        encoder: turns prompts into vectors.
        seed: drives the features.
        features: number of random ReLU features beside the vector.
    """

    kind: ClassVar[str] = "linear"
    TARGET_ARRAYS: ClassVar[tuple[str, ...]] = (
        "coefficients",
        "intercepts",
        "noise",
        "counts",
        "lowest",
        "highest",
        "centre",
        "spread",
    )
    SHARED_ARRAYS: ClassVar[tuple[str, ...]] = ("centre", "spread")

    def __init__(self, encoder: Encoder | None = None, *, seed: int = 0, features: int = 0) -> None:
        super().__init__(encoder, seed=seed)
        self.features = features

    def _fit_space(self, vectors: Vectors, losses: Floats) -> None:
        rng = np.random.default_rng([self.seed, 10])
        self.features_ = RandomReluFeatures.draw(vectors.shape[1], self.features, rng)

    def _fit_target(self, target: str, vectors: Vectors, values: Floats) -> Targets:
        columns = np.arange(values.shape[1])
        measured = ~np.isnan(values)
        _, pattern = np.unique(measured, axis=1, return_inverse=True)
        # Experts measured on the same prompts share one decomposition.
        blocks = [columns[pattern == number] for number in range(pattern.max() + 1)]
        inputs = Inputs(vectors, self.features_)
        parts = [
            Ridge(inputs.take(measured[:, block[0]]), values[measured[:, block[0]]][:, block])
            for block in blocks
        ]
        errors = np.sum([part.leave_one_out_errors() for part in parts], axis=0)
        penalty = PENALTIES[int(errors.argmin())]
        dim, n_experts = inputs.dim, values.shape[1]
        coefficients = np.empty((dim, n_experts))
        intercepts, noise = np.empty(n_experts), np.empty(n_experts)
        for block, part in zip(blocks, parts, strict=True):
            coefficients[:, block], noise[block] = part.solve(penalty)
            intercepts[block] = part.target_mean - part.centre @ coefficients[:, block]
        whole = Ridge(vectors, np.zeros((len(vectors), 1)))
        spread = whole.directions / np.sqrt(whole.shrunk(penalty))
        if self.features and (degrees := whole.degrees(penalty)) > 0:
            spread *= np.sqrt(max(part.degrees(penalty) for part in parts) / degrees)
        return {
            "coefficients": coefficients,
            "intercepts": intercepts,
            "noise": noise,
            "counts": measured.sum(axis=0).astype(np.float64),
            "lowest": np.nanmin(values, axis=0),
            "highest": np.nanmax(values, axis=0),
            "centre": whole.centre,
            "spread": spread,
        }

    def _predict(self, vectors: Vectors) -> tuple[Targets, Targets]:
        exact = vectors.astype(np.float64)
        inputs = self.features_(vectors).astype(np.float64)
        mean, std = {}, {}
        for target, arrays in self.fitted_.items():
            line = by_row(inputs, arrays["coefficients"]) + arrays["intercepts"]
            mean[target] = np.clip(line, arrays["lowest"], arrays["highest"])
            whitened = by_row(exact - arrays["centre"], arrays["spread"])
            leverage = np.square(whitened).sum(axis=1, keepdims=True)
            # An expert measured on part of the prompts has less evidence in every direction.
            n_prompts = arrays["counts"].max()
            std[target] = np.sqrt(arrays["noise"] * (1.0 + n_prompts * leverage) / arrays["counts"])
        return mean, std

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        # Early folders have no features.
        return {"features": int(config.get("features", 0))}

    def _config(self) -> dict[str, Any]:
        return super()._config() | {"features": self.features}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        stored = super()._arrays()
        if self.features:
            stored["directions"] = self.features_.directions
        return stored

    def _restore_space(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        dim = arrays[f"{LOSS}.centre"].shape[0]
        directions = arrays["directions"] if self.features else np.zeros((dim, 0))
        self.features_ = RandomReluFeatures(np.asarray(directions, dtype=np.float32))
