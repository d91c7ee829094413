"""Predictors that do not look at the prompt: the best single expert, and chance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.base import LOSS, FittedPredictor, Floats, Prediction
from tryage.scores import ScoreTable


class BestSinglePredictor(FittedPredictor):
    """Predicts each expert's average loss for every prompt."""

    kind: ClassVar[str] = "best-single"

    def __init__(self, encoder: Encoder | None = None, *, seed: int = 0) -> None:
        super().__init__(None, seed=seed)

    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Average the measured losses of each expert.

        Raises:
            PredictorError: there is nothing to learn from, or an expert was never measured.
        """
        losses = self._learn_averages(len(prompts), table)
        counts = (~np.isnan(losses)).sum(axis=0)
        self.average_std_ = np.nanstd(losses, axis=0) / np.sqrt(counts)
        return self

    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return the averages and their standard errors; no prompt is out of distribution.

        Raises:
            NotFittedError: `fit` was not called.
        """
        self._check_fitted()
        shape = (len(prompts), len(self.experts_))
        mean = np.broadcast_to(self.average_loss_, shape).copy()
        std = np.broadcast_to(self.average_std_, shape).copy()
        return Prediction({LOSS: mean}, {LOSS: std}, np.zeros(len(prompts), dtype=bool))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {f"{LOSS}.average_std": self.average_std_}

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.average_std_ = np.asarray(arrays[f"{LOSS}.average_std"], dtype=np.float64)


class RandomPredictor(FittedPredictor):
    """Predicts chance: losses drawn from the prompt's hash, so that a prompt keeps its draw."""

    kind: ClassVar[str] = "random"

    def __init__(self, encoder: Encoder | None = None, *, seed: int = 0) -> None:
        super().__init__(None, seed=seed)

    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Learn the range that draws come from: mean loss give or take its deviation.

        Raises:
            PredictorError: there is nothing to learn from, or an expert was never measured.
        """
        losses = self._learn_averages(len(prompts), table)
        self.spread_ = float(np.nanstd(losses)) or 1.0
        return self

    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return random losses, equal for equal prompts and seeds.

        Raises:
            NotFittedError: `fit` was not called.
        """
        self._check_fitted()
        shape = (len(prompts), len(self.experts_))
        draws = np.array([self._draw(prompt) for prompt in prompts]).reshape(shape)
        lowest = max(0.0, float(self.average_loss_.mean()) - self.spread_)
        mean = lowest + 2.0 * self.spread_ * draws
        std = np.full(shape, self.spread_)
        return Prediction({LOSS: mean}, {LOSS: std}, np.zeros(len(prompts), dtype=bool))

    def _draw(self, prompt: str) -> Floats:
        text = f"{self.seed}\0{prompt}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=16).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        return rng.random(len(self.experts_))

    def _config(self) -> dict[str, Any]:
        return {"spread": self.spread_}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.spread_ = float(config["spread"])
