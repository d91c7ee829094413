"""The kinds of predictor, with settings, that `auto` chooses among."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tryage.errors import PredictorError, did_you_mean
from tryage.predictors import PREDICTORS, Predictor, make_predictor
from tryage.scores import ScoreTable
from tryage.steps import Steps
from tryage.training.encoded import EncodedTable

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind of predictor with its settings.

    Attributes:
        kind: one of `tryage.predictors.PREDICTORS`.
        settings: keyword arguments of its class.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.kind}({settings})" if settings else self.kind

    @property
    def slow(self) -> bool:
        """Whether a fit takes minutes."""
        return PREDICTORS[self.kind].slow

    def fit(self, encoded: EncodedTable, seed: int, steps: Steps | None = None) -> Predictor:
        """Fit such a predictor on one task's table; `steps` tell of the epochs of a network."""
        predictor = make_predictor(self.kind, encoded.encoder, seed, **self.settings)
        if steps is None:
            return encoded.fit(predictor)
        predictor.on_epoch = functools.partial(steps.part, "epoch")
        try:
            return encoded.fit(predictor)
        finally:
            del predictor.on_epoch  # a fitted predictor can be pickled


CLUSTERS, NEAREST = Candidate("clusters"), Candidate("nearest")

CANDIDATES = (
    CLUSTERS,
    NEAREST,
    Candidate("nearest", {"k": 320}),
    Candidate("linear"),
    Candidate("hybrid"),
)
"""What `auto` chooses among; the first is chosen unless another is better by more than a standard
error of the difference."""

RANDOM_RELU = Candidate("linear", {"features": 1024})
"""A further candidate for large tables: fewer than `_RANDOM_RELU_PROMPTS` prompts are too few to
fit it, and each pattern of missing cells is a regression of its own."""

EMBEDDING_BAG = Candidate("embedding-bag")
"""Tried last and by itself, because a fit takes as long as all others together."""

_RANDOM_RELU_PROMPTS, _RANDOM_RELU_PATTERNS = 2000, 8

GROUPS = Candidate("groups")
"""A further candidate for tables that name two groups or more."""

MORE_CLUSTERS = Candidate("clusters", {"prompts_per_cluster": 25, "clusterings": 3})
"""A further candidate for large tables: fewer than `_MORE_CLUSTERS_PROMPTS` have hardly more
clusters than usual. It grows with the table by itself."""

_MORE_CLUSTERS_PROMPTS = 2000


def candidates_for(table: ScoreTable, prompts: int | None = None) -> tuple[Candidate, ...]:
    """Return what `auto` tries on a table, or on so many prompts of it."""
    candidates = list(CANDIDATES)
    count = len(table) if prompts is None else prompts
    if len(set(table.groups)) > 1:
        candidates.append(GROUPS)
    if count >= _MORE_CLUSTERS_PROMPTS:
        candidates.append(MORE_CLUSTERS)
    patterns = np.unique(np.isnan(table.losses), axis=1).shape[1]
    if count >= _RANDOM_RELU_PROMPTS and patterns <= _RANDOM_RELU_PATTERNS:
        candidates.append(RANDOM_RELU)
    return tuple(candidates)


def check_kind(kind: str) -> None:
    """Check that a kind of predictor exists, `auto` included.

    Raises:
        PredictorError: there is no such kind.
    """
    kinds = (AUTO, *PREDICTORS)
    if kind not in kinds:
        hint = did_you_mean(kind, kinds)
        raise PredictorError(f"unknown predictor {kind!r}; there are: {', '.join(kinds)}.{hint}")
