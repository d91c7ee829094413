"""Spherical k-means: centres of unit length, compared by their cosine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_ROUNDS = 50


def spherical_kmeans(
    vectors: NDArray[np.float32], k: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Find centres by k-means++ seeding and Lloyd's rounds on the cosine.

    Args:
        vectors: shape (n, dim), rows of unit length or zero.
        k: number of centres; fewer are returned when there are fewer distinct vectors.
        rng: drives the seeding; the rest is deterministic.

    Returns:
        Centres of unit length (zero for a cluster of zero vectors), shape (at most k, dim).
    """
    centres = _seed_centres(vectors, k, rng)
    assigned = np.full(len(vectors), -1)
    for _ in range(MAX_ROUNDS):
        similarity = vectors @ centres.T  # (n, k)
        nearest = similarity.argmax(axis=1)
        if np.array_equal(nearest, assigned):
            break
        assigned = nearest
        member = (assigned == np.arange(len(centres))[:, None]).astype(np.float32)  # (k, n)
        sums = member @ vectors
        # An empty cluster restarts at the vector farthest from its centre.
        empty = np.flatnonzero(np.bincount(assigned, minlength=len(centres)) == 0)
        if len(empty):
            worst = np.argsort(similarity.max(axis=1), kind="stable")[: len(empty)]
            sums[empty] = vectors[worst]
        centres = unit_rows(sums)
    return centres


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to unit length; zero rows stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = np.zeros_like(vectors)
    np.divide(vectors, lengths, out=scaled, where=lengths > 0)
    return scaled


def _seed_centres(
    vectors: NDArray[np.float32], k: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw k-means++ seeds, each with a probability proportional to its squared distance."""
    chosen = [int(rng.integers(len(vectors)))]
    distance = np.full(len(vectors), np.inf)
    while len(chosen) < k:
        last = vectors[chosen[-1]]
        distance = np.minimum(distance, np.square(vectors - last).sum(axis=1, dtype=np.float64))
        distance[distance < 1e-9] = 0.0
        total = distance.sum()
        if total == 0.0:
            break
        chosen.append(int(rng.choice(len(vectors), p=distance / total)))
    return vectors[chosen]
