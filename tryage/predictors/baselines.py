"""Predictors that ignore the prompt: the best single expert, and chance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.predictors.base import Predictor
from tryage.predictors.shrinkage import standard_error
from tryage.predictors.targets import LOSS, Floats, Prediction, Targets, stored_targets
from tryage.prompts import prompt_list
from tryage.scores import ScoreTable


class BestSinglePredictor(Predictor):
    """Predicts each expert's averages for every prompt."""

    kind: ClassVar[str] = "best-single"

    def __init__(self, encoder: Encoder | None = None, *, seed: int = 0) -> None:
        super().__init__(None, seed=seed)

    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Average what was measured of each expert.

        Raises:
            PredictorError: there is nothing to learn from, or an expert was never measured.
        """
        measured = self._learn_averages(len(prompts), table)
        self.average_std_ = {name: standard_error(values) for name, values in measured.items()}
        return self

    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return the averages and their standard errors; no prompt is out of distribution.

        Raises:
            NotFittedError: `fit` was not called.
        """
        self._check_fitted()
        prompts = prompt_list(prompts)
        shape = (len(prompts), len(self.experts_))
        mean = {name: np.broadcast_to(row, shape).copy() for name, row in self.averages_.items()}
        std = {name: np.broadcast_to(row, shape).copy() for name, row in self.average_std_.items()}
        return Prediction(mean, std, np.zeros(len(prompts), dtype=bool))

    def _add_expert(self, prompts: Sequence[str], measured: Targets, others: Targets) -> None:
        new = {name: standard_error(values) for name, values in measured.items()}
        self.average_std_ = {
            name: np.append(row, new[name]) for name, row in self.average_std_.items()
        }

    def _keep_columns(self, columns: list[int]) -> None:
        self.average_std_ = {name: row[columns] for name, row in self.average_std_.items()}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {f"{target}.average_std": row for target, row in self.average_std_.items()}

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.average_std_ = stored_targets(arrays, "average_std", self.targets_)


class RandomPredictor(Predictor):
    """Predicts at random; equal prompts get equal draws, since their hash seeds them."""

    kind: ClassVar[str] = "random"

    def __init__(self, encoder: Encoder | None = None, *, seed: int = 0) -> None:
        super().__init__(None, seed=seed)

    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Learn the range of the draws: the mean, plus or minus the standard deviation.

        Raises:
            PredictorError: there is nothing to learn from, or an expert was never measured.
        """
        measured = self._learn_averages(len(prompts), table)
        self.spreads_ = {name: float(np.nanstd(values)) or 1.0 for name, values in measured.items()}
        return self

    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return random targets, equal for equal prompts and seeds.

        Raises:
            NotFittedError: `fit` was not called.
        """
        self._check_fitted()
        prompts = prompt_list(prompts)
        shape = (len(prompts), len(self.targets_), len(self.experts_))
        draws = np.array([self._draw(prompt) for prompt in prompts]).reshape(shape)
        mean, std = {}, {}
        for number, (target, spread) in enumerate(self.spreads_.items()):
            lowest = max(0.0, float(self.averages_[target].mean()) - spread)
            mean[target] = lowest + 2.0 * spread * draws[:, number]
            std[target] = np.full(mean[target].shape, spread)
        return Prediction(mean, std, np.zeros(len(prompts), dtype=bool))

    def _draw(self, prompt: str) -> Floats:
        text = f"{self.seed}\0{prompt}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(text, digest_size=16).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        return rng.random((len(self.targets_), len(self.experts_)))

    def _add_expert(self, prompts: Sequence[str], measured: Targets, others: Targets) -> None:
        """Do nothing: draws come from the spread of all experts."""

    def _keep_columns(self, columns: list[int]) -> None:
        """Do nothing: no array has a column per expert."""

    def _config(self) -> dict[str, Any]:
        return {"spreads": self.spreads_}

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        # Early folders hold the spread of the loss alone.
        spreads = config["spreads"] if "spreads" in config else {LOSS: config["spread"]}
        self.spreads_ = {target: float(spreads[target]) for target in self.targets_}
