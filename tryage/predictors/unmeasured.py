"""The predictor of a library without measurements: it knows names and no losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tryage.errors import PredictorError
from tryage.predictors.base import Predictor
from tryage.predictors.targets import LOSS, Prediction, Targets
from tryage.prompts import prompt_list
from tryage.scores import ScoreTable


class UnmeasuredPredictor(Predictor):
    """Predicts the loss 0 for every expert, so that goals and limits alone decide."""

    kind: ClassVar[str] = "unmeasured"

    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Learn the experts' names; measurements are ignored."""
        return self.learn_names(table.experts)

    def learn_names(self, names: Sequence[str]) -> Self:
        """Learn the experts' names, the columns of predictions."""
        self.experts_ = tuple(names)
        self.targets_ = (LOSS,)
        self.averages_ = {LOSS: np.zeros(len(names))}
        return self

    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return zeros.

        Raises:
            NotFittedError: no names were learned.
        """
        self._check_fitted()
        prompts = prompt_list(prompts)
        zeros = np.zeros((len(prompts), len(self.experts_)))
        return Prediction({LOSS: zeros}, {LOSS: zeros}, np.zeros(len(prompts), dtype=bool))

    def with_expert(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Refuse: a measured expert cannot be compared with unmeasured ones.

        Raises:
            PredictorError: always.
        """
        raise PredictorError(
            "nothing is measured in this library yet; measure all its experts and fit a router, "
            "or add the expert to the library"
        )

    def _add_expert(self, prompts: Sequence[str], measured: Targets, others: Targets) -> None:
        """Do nothing: `with_expert` refuses."""

    def _keep_columns(self, columns: list[int]) -> None:
        """Do nothing: the caller selects names and averages."""

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Do nothing: the caller restores names and averages."""
