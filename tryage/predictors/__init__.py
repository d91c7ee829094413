"""Predictors: prompts → expected targets of every expert, with their uncertainty."""

from __future__ import annotations

from tryage.encoders import Encoder
from tryage.errors import PredictorError, did_you_mean
from tryage.predictors.base import FittedPredictor, Prediction, Predictor
from tryage.predictors.baselines import BestSinglePredictor, RandomPredictor
from tryage.predictors.clusters import ClustersPredictor
from tryage.predictors.hybrid import HybridPredictor
from tryage.predictors.linear import LinearPredictor
from tryage.predictors.nearest import NearestPredictor

__all__ = [
    "PREDICTORS",
    "BestSinglePredictor",
    "ClustersPredictor",
    "FittedPredictor",
    "HybridPredictor",
    "LinearPredictor",
    "NearestPredictor",
    "Prediction",
    "Predictor",
    "RandomPredictor",
    "make_predictor",
]

PREDICTORS: dict[str, type[FittedPredictor]] = {
    predictor.kind: predictor
    for predictor in (
        BestSinglePredictor,
        ClustersPredictor,
        HybridPredictor,
        LinearPredictor,
        NearestPredictor,
        RandomPredictor,
    )
}
"""Kind → class."""


def make_predictor(kind: str, encoder: Encoder | None, seed: int = 0) -> FittedPredictor:
    """Return an unfitted predictor with its default settings.

    Args:
        kind: one of `PREDICTORS`.
        encoder: turns prompts into vectors; kinds that do not look at prompts take None.
        seed: drives everything random in it.

    Raises:
        PredictorError: there is no such kind.
    """
    if kind == "auto":
        raise PredictorError(
            "predictor 'auto' does not exist yet; use 'clusters', which is the default"
        )
    if kind not in PREDICTORS:
        hint = did_you_mean(kind, PREDICTORS)
        raise PredictorError(
            f"unknown predictor {kind!r}; there are: {', '.join(PREDICTORS)}.{hint}"
        )
    return PREDICTORS[kind](encoder, seed=seed)
