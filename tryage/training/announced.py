"""Announces the steps of a fit before it begins, so that the time left can be told."""

from __future__ import annotations

from tryage.encoders import Encoder
from tryage.scores import ScoreTable
from tryage.steps import Steps
from tryage.training.auto import BEST_OF_FOLD
from tryage.training.candidates import (
    AUTO,
    CLUSTERS,
    EMBEDDING_BAG,
    NEAREST,
    Candidate,
    candidates_for,
)
from tryage.training.folds import FOLDS, INNER_FOLDS
from tryage.training.network_trial import why_not_tried

ENCODING = "encoding"
"""Kind of the step that turns prompts into vectors."""

LAST_FIT = "last fit"
"""Kind of the step that fits what was chosen on all prompts."""

JOINT = "failing together"
"""Kind of the step that learns how experts fail together."""

COSTS = {
    ENCODING: 0.8,
    JOINT: 3.0,
    "clusters(prompts_per_cluster=25, clusterings=3)": 3.0,
    "groups": 1.0,
    "nearest": 1.3,
    "nearest(k=320)": 1.6,
    "linear": 0.25,
    "hybrid": 2.0,
    "linear(features=1024)": 2.7,
    "embedding-bag": 20.0,
    LAST_FIT: 2.0,
    BEST_OF_FOLD: 2.0,
}
"""Seconds of a step for each prompt, relative to those of `clusters`, on 20,000 prompts under 11
experts. They count until a kind's first step has ended."""


def announce(
    table: ScoreTable, kind: str, encoder: Encoder | None, steps: Steps, choose_on: int
) -> None:
    """Announce the steps of `fit_tasks` for one task's table.

    Args:
        table: n prompts.
        kind: "auto", or one of `tryage.predictors.PREDICTORS`.
        encoder: of the router.
        steps: what they are announced to.
        choose_on: different prompts that `auto` compares kinds on.
    """
    different = len(set(table.prompts))
    outer, inner = _folds(FOLDS, different), _folds(INNER_FOLDS, different)
    steps.expect(ENCODING, size=len(table))
    rows = len(table) * (outer - 1) // max(outer, 1)  # of a table without one outer fold
    if kind != AUTO:
        candidate = Candidate(kind)
        steps.expect(kind, 1 if candidate.slow else outer, rows)
        steps.expect(kind, size=len(table))
        return
    compared = len(table) * min(choose_on, different) // max(different, 1)
    rows = rows * compared // len(table)
    for count, size in ((1, compared), (outer, rows)):
        for candidate in candidates_for(table, size):
            steps.expect(str(candidate), count * inner, size * (inner - 1) // max(inner, 1))
    for plain in (CLUSTERS, NEAREST):
        steps.expect(str(plain), outer, rows)
    steps.expect(BEST_OF_FOLD, outer, rows)
    if why_not_tried(compared, encoder) is None:
        steps.expect(str(EMBEDDING_BAG), 1, rows)
    steps.expect(LAST_FIT, size=len(table))


def _folds(most: int, different: int) -> int:
    """Return how many folds different prompts are split into."""
    return min(most, different) if different > 1 else 0
