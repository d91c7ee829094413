"""Predictors: prompts → expected targets of every expert, with their uncertainty."""

from __future__ import annotations

from typing import Any

from tryage.encoders import Encoder
from tryage.errors import PredictorError, did_you_mean
from tryage.predictors.base import FittedPredictor, Prediction, Predictor
from tryage.predictors.baselines import BestSinglePredictor, RandomPredictor
from tryage.predictors.clusters import ClustersPredictor
from tryage.predictors.hybrid import HybridPredictor
from tryage.predictors.linear import LinearPredictor
from tryage.predictors.nearest import NearestPredictor
from tryage.predictors.transformer import TransformerPredictor
from tryage.predictors.unmeasured import UnmeasuredPredictor

__all__ = [
    "PREDICTORS",
    "STORED",
    "BestSinglePredictor",
    "ClustersPredictor",
    "FittedPredictor",
    "HybridPredictor",
    "LinearPredictor",
    "NearestPredictor",
    "Prediction",
    "Predictor",
    "RandomPredictor",
    "TransformerPredictor",
    "UnmeasuredPredictor",
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
        TransformerPredictor,
    )
}
"""Kind → class."""

STORED: dict[str, type[FittedPredictor]] = {
    **PREDICTORS,
    UnmeasuredPredictor.kind: UnmeasuredPredictor,
}
"""Kind → class, of all that a router folder may hold."""


def make_predictor(
    kind: str, encoder: Encoder | None, seed: int = 0, **settings: Any
) -> FittedPredictor:
    """Return an unfitted predictor.

    Args:
        kind: one of `PREDICTORS`.
        encoder: turns prompts into vectors; kinds that do not look at prompts take None.
        seed: drives everything random in it.
        **settings: other arguments of the kind's class.

    Raises:
        PredictorError: there is no such kind.
    """
    if kind == "auto":
        raise PredictorError(
            "'auto' chooses among predictors and needs a table for it: ask Router.fit or "
            "tryage.training.fit_predictor for it"
        )
    if kind not in PREDICTORS:
        hint = did_you_mean(kind, PREDICTORS)
        raise PredictorError(
            f"unknown predictor {kind!r}; there are: {', '.join(PREDICTORS)}.{hint}"
        )
    return PREDICTORS[kind](encoder, seed=seed, **settings)
