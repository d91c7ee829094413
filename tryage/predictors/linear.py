"""Ridge regression of each expert's targets on the prompt's vector."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tryage.predictors.base import Floats, Targets, VectorPredictor, Vectors
from tryage.predictors.ridge import PENALTIES, Ridge


class LinearPredictor(VectorPredictor):
    """Predicts an expert's loss, or another target, as a linear function of the vector.

    One penalty per target serves all experts: the one of `PENALTIES` with the least
    leave-one-out error, computed in closed form and summed over experts in units of their
    variance. Each expert is fitted on the prompts it was measured on. Predictions stay within
    the values measured.
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

    def _fit_target(self, target: str, vectors: Vectors, values: Floats) -> Targets:
        columns = np.arange(values.shape[1])
        measured = ~np.isnan(values)
        _, pattern = np.unique(measured, axis=1, return_inverse=True)
        # Experts measured on the same prompts share one decomposition.
        blocks = [columns[pattern == number] for number in range(pattern.max() + 1)]
        parts = [
            Ridge(vectors[measured[:, block[0]]], values[measured[:, block[0]]][:, block])
            for block in blocks
        ]
        errors = np.sum([part.left_out_errors() for part in parts], axis=0)
        penalty = PENALTIES[int(errors.argmin())]
        dim, n_experts = vectors.shape[1], values.shape[1]
        coefficients = np.empty((dim, n_experts))
        intercepts, noise = np.empty(n_experts), np.empty(n_experts)
        for block, part in zip(blocks, parts, strict=True):
            coefficients[:, block], noise[block] = part.solve(penalty)
            intercepts[block] = part.target_mean - part.centre @ coefficients[:, block]
        whole = Ridge(vectors, np.zeros((len(vectors), 1)))
        return {
            "coefficients": coefficients,
            "intercepts": intercepts,
            "noise": noise,
            "counts": measured.sum(axis=0).astype(np.float64),
            "lowest": np.nanmin(values, axis=0),
            "highest": np.nanmax(values, axis=0),
            "centre": whole.centre,
            "spread": whole.directions / np.sqrt(whole.shrunk(penalty)),
        }

    def _predict(self, vectors: Vectors) -> tuple[Targets, Targets]:
        exact = vectors.astype(np.float64)
        mean, std = {}, {}
        for target, own in self.fitted_.items():
            line = exact @ own["coefficients"] + own["intercepts"]
            mean[target] = np.clip(line, own["lowest"], own["highest"])
            leverage = np.square((exact - own["centre"]) @ own["spread"]).sum(axis=1, keepdims=True)
            # An expert measured on a part of the prompts knows that much less of each direction.
            n_prompts = own["counts"].max()
            std[target] = np.sqrt(own["noise"] * (1.0 + n_prompts * leverage) / own["counts"])
        return mean, std
