"""Random ReLU features, which make a ridge regression on them non-linear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tryage.predictors.products import by_row
from tryage.predictors.targets import Vectors


@dataclass(frozen=True, slots=True, eq=False)
class RandomReluFeatures:
    """Appends the ReLU of random projections to vectors.

    With many features, ridge regression on both approximates kernel ridge regression with a
    linear plus an arc-cosine kernel of degree one (Cho and Saul, 2009), at a cost per prediction
    that does not grow with the training prompts.

    Attributes:
        directions: shape (dim, count).
    """

    directions: NDArray[np.float32]

    @classmethod
    def draw(cls, dim: int, count: int, rng: np.random.Generator) -> Self:
        """Draw `count` directions for vectors of length `dim`."""
        directions = rng.normal(size=(dim, count)) / np.sqrt(max(count, 1))
        return cls(directions.astype(np.float32))

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return vectors (n, dim) and their features, (n, dim + count)."""
        return np.hstack([vectors, np.maximum(by_row(vectors, self.directions), 0.0)])
