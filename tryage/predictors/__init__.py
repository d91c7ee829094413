"""Predictors: expected targets of every expert on a prompt, with standard errors."""

from __future__ import annotations

from typing import Any

from tryage.encoders import Encoder
from tryage.errors import PredictorError, did_you_mean
from tryage.predictors.base import Predictor
from tryage.predictors.baselines import BestSinglePredictor, RandomPredictor
from tryage.predictors.clusters import ClustersPredictor
from tryage.predictors.embedding_bag import EmbeddingBagPredictor
from tryage.predictors.groups import GroupsPredictor
from tryage.predictors.hybrid import HybridPredictor
from tryage.predictors.linear import LinearPredictor
from tryage.predictors.nearest import NearestPredictor
from tryage.predictors.targets import Prediction
from tryage.predictors.transformer import TransformerPredictor
from tryage.predictors.unmeasured import UnmeasuredPredictor

__all__ = [
    "PREDICTORS",
    "STORED",
    "BestSinglePredictor",
    "ClustersPredictor",
    "EmbeddingBagPredictor",
    "GroupsPredictor",
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

PREDICTORS: dict[str, type[Predictor]] = {
    predictor.kind: predictor
    for predictor in (
        BestSinglePredictor,
        ClustersPredictor,
        EmbeddingBagPredictor,
        GroupsPredictor,
        HybridPredictor,
        LinearPredictor,
        NearestPredictor,
        RandomPredictor,
        TransformerPredictor,
    )
}
"""Kind → class."""

STORED: dict[str, type[Predictor]] = {
    **PREDICTORS,
    UnmeasuredPredictor.kind: UnmeasuredPredictor,
}
"""Kind → class, of all kinds that a router folder may hold."""


def make_predictor(kind: str, encoder: Encoder | None, seed: int = 0, **settings: Any) -> Predictor:
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
            "'auto' chooses among predictors by a table; call Router.fit or "
            "tryage.training.fit_predictor"
        )
    if kind not in PREDICTORS:
        hint = did_you_mean(kind, PREDICTORS)
        raise PredictorError(
            f"unknown predictor {kind!r}; there are: {', '.join(PREDICTORS)}.{hint}"
        )
    return PREDICTORS[kind](encoder, seed=seed, **settings)
