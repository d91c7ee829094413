"""The out-of-distribution test: is a prompt unlike everything in the training table?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tryage.predictors.kmeans import spherical_kmeans
from tryage.predictors.products import by_row
from tryage.predictors.targets import Vectors


@dataclass(frozen=True, slots=True, eq=False)
class NoveltyTest:
    """Flags vectors that are unlike all training vectors.

    Attributes:
        centres: centres of a random half of the training vectors, shape (k, dim).
        threshold: a vector whose largest cosine to a centre is below it is flagged; set so
            that 1 % of the other half would be. Minus infinity: nothing is flagged.
    """

    FEWEST: ClassVar[int] = 100
    CENTRES: ClassVar[int] = 64
    SHARE: ClassVar[float] = 0.01

    centres: Vectors
    threshold: float

    @classmethod
    def fit(cls, vectors: Vectors, *, seed: int = 0) -> NoveltyTest:
        """Fit on training vectors, shape (n, dim).

        Fewer than 100 give a test that never flags: they do not show the rarest 1 %.
        """
        rng = np.random.default_rng([seed, 1])
        order = rng.permutation(len(vectors))
        half = vectors[order[: (len(vectors) + 1) // 2]]
        held_out = vectors[order[len(half) :]]
        k = max(1, min(cls.CENTRES, len(half) // 10))
        centres = spherical_kmeans(half, k, rng)
        if len(vectors) < cls.FEWEST:
            return cls(centres, -np.inf)
        nearest = (held_out @ centres.T).max(axis=1)
        # Slightly below the quantile, so that rounding never flags a training prompt.
        return cls(centres, float(np.quantile(nearest, cls.SHARE, method="lower")) - 1e-5)

    def likeness(self, vectors: Vectors) -> NDArray[np.floating[Any]]:
        """Return the largest cosine of vectors, shape (n, dim), to a centre, shape (n,)."""
        nearest: NDArray[np.floating[Any]] = np.maximum.reduce(
            by_row(vectors, self.centres.T), axis=1
        )
        return nearest

    def flag(self, vectors: Vectors) -> NDArray[np.bool_]:
        """Return which vectors, shape (n, dim), are unlike training, shape (n,)."""
        flags: NDArray[np.bool_] = self.likeness(vectors) < self.threshold
        return flags
