"""Random ReLU features, which make a ridge regression on them non-linear."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tryage.predictors.products import by_row
from tryage.predictors.targets import Floats, Vectors


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
        return self._joined(vectors, by_row(vectors, self.directions))

    def of_many(self, vectors: Vectors) -> Vectors:
        """Return what a call does, in a fraction of the time; last bits depend on the others."""
        return self._joined(vectors, vectors @ self.directions)

    def _joined(self, vectors: Vectors, projected: Vectors) -> Vectors:
        return np.hstack([vectors, np.maximum(projected, 0.0)])


class Inputs:
    """Inputs of a regression: vectors, and features of them that are made block by block.

    The features of many vectors together would fill the memory.

    Args:
        vectors: shape (n, dim).
        features: appended to the vectors; None appends none.
    """

    WHOLE: ClassVar[int] = 32_768
    """Vectors up to which all are one block."""

    BLOCK: ClassVar[int] = 8192

    def __init__(
        self,
        vectors: NDArray[np.floating[Any]],
        features: RandomReluFeatures | None = None,
    ) -> None:
        self._vectors = vectors
        self._features = features
        self._whole = self._made(slice(None)) if len(vectors) <= self.WHOLE else None

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def dim(self) -> int:
        """Length of an input."""
        count = 0 if self._features is None else self._features.directions.shape[1]
        return int(self._vectors.shape[1]) + count

    @property
    def is_whole(self) -> bool:
        """Whether all inputs are one block."""
        return self._whole is not None

    def take(self, rows: NDArray[Any]) -> Inputs:
        """Return some rows: indices, or a boolean mask."""
        if self._whole is not None:
            return Inputs(self._whole[rows])
        return Inputs(self._vectors[rows], self._features)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.floating[Any]]]]:
        """Yield the rows of each block, and its inputs (rows, dim)."""
        if self._whole is not None:
            yield slice(None), self._whole
            return
        for start in range(0, len(self), self.BLOCK):
            rows = slice(start, start + self.BLOCK)
            yield rows, self._made(rows)

    def times(self, weights: Floats) -> Floats:
        """Return the products with weights (dim, m), shape (n, m)."""
        return np.concatenate([inputs @ weights for _, inputs in self.blocks()])

    def _made(self, rows: slice) -> NDArray[np.floating[Any]]:
        vectors = self._vectors[rows]
        return vectors if self._features is None else self._features.of_many(vectors)
