"""Chances that several experts are right on the same prompt: they tend to fail together.

The model. Prompts with equal predictions still differ in a difficulty that was not
predicted. It has `LEVELS` equally likely levels. A share s of an expert's successes falls on the
easiest levels first; the rest falls on all levels alike. With p the predicted chance of success
and h(q) the share of level q that lies below p, an expert is right on level q with chance

    s h(q) + (1 - s) p,    h(q) = min(max(LEVELS p - q, 0), 1),

whose mean over the levels is p for every s. Within a level, experts fail independently. With
s = 0 failures are unrelated; with s = 1 for all experts, a weaker expert never succeeds where a
better one fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVELS = 10
"""Levels of difficulty; more would change a plan's expected score by less than 0.002."""

_STEPS = np.arange(LEVELS, dtype=np.float64)
_PRIOR_PROMPTS = 50.0
"""Measured prompts that the mean over all experts counts like, in the share of one expert."""

_ROUNDS = 20
_BLOCK = 32_768
"""Prompts whose levels are in memory at once."""


@dataclass(frozen=True, slots=True, eq=False)
class JointSuccess:
    """Chances of several experts being right together.

    Attributes:
        shared: (m,) share of each expert's successes that follows the common difficulty, in
            [0, 1].
    """

    shared: Array

    @classmethod
    def cautious(cls, m: int) -> JointSuccess:
        """Return the model for unmeasured tasks: experts fail together."""
        return cls(np.ones(m))

    @classmethod
    def fit(cls, chances: Array, scores: Array) -> JointSuccess:
        """Learn the shares from measured scores.

        The covariance of two experts' surprises (score minus chance) is s_i s_j times what it
        would be if both followed the difficulty alone. The shares are fitted to all pairs by
        weighted least squares, each shrunk to the value that fits all experts best.

        Args:
            chances: (n, m) predicted chances of success on prompts that the prediction has not
                seen, in [0, 1].
            scores: (n, m) measured scores in [0, 1], NaN where not measured.
        """
        measured = ~np.isnan(scores)
        surprise = np.where(measured, scores - chances, 0.0)
        observed = surprise.T @ surprise  # (m, m), sums over prompts
        full = np.zeros_like(observed)
        for start in range(0, len(scores), _BLOCK):
            rows = slice(start, start + _BLOCK)
            swings = _easiest_first(chances[rows]) - chances[rows][..., None]
            swing = np.where(measured[rows][..., None], swings, 0.0)
            flat = np.moveaxis(swing, 2, 1).reshape(-1, scores.shape[1])  # (rows * LEVELS, m)
            full += flat.T @ flat / LEVELS
        np.fill_diagonal(observed, 0.0)
        np.fill_diagonal(full, 0.0)
        if full.sum() <= 0.0:
            return cls.cautious(scores.shape[1])
        common = float(np.sqrt(np.clip(observed.sum() / full.sum(), 0.0, 1.0)))
        prompts = np.maximum(measured.sum(axis=0), 1.0)
        prior = _PRIOR_PROMPTS * common**2 * full.sum(axis=1) / prompts
        shared = np.full(scores.shape[1], common)
        for _ in range(_ROUNDS):
            weight = full @ shared**2 + prior
            estimate = (observed @ shared + prior * common) / np.maximum(weight, 1e-12)
            shared = np.clip(np.where(weight > 0.0, estimate, common), 0.0, 1.0)
        return cls(shared)

    def by_level(self, chances: Array) -> Array:
        """Return the chance of success on every level of difficulty, (..., m, LEVELS).

        Args:
            chances: (..., m) predicted chances of success.
        """
        shared = self.shared[:, None]
        mixed: Array = shared * _easiest_first(chances) + (1.0 - shared) * chances[..., None]
        return mixed


def _easiest_first(chances: Array) -> Array:
    """Return the share of each level that lies below a chance, (..., LEVELS)."""
    shares: Array = np.clip(chances[..., None] * LEVELS - _STEPS, 0.0, 1.0)
    return shares
