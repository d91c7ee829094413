"""Multinomial logistic regression: how likely a vector belongs to each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tryage.predictors.targets import Floats, Vectors

_PENALTY = 0.1
"""Weight of the squared coefficients beside the summed negative log-likelihood."""

_ROUNDS = 100
_LEAST_ROUNDS = 10
_TOLERANCE = 1e-5
"""The search ends where a round lowers the objective by less than this share of it."""

_SAMPLE = 10_000
"""Vectors that a fit reads at most, evenly from the classes."""


def fit_softmax(
    vectors: Vectors, labels: NDArray[np.intp], classes: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Fit a multinomial logistic regression by accelerated gradient descent.

    Nesterov's momentum with backtracking and restarts (Beck and Teboulle, 2009; O'Donoghue and
    Candès, 2015). Large classes are sampled; their offsets are then corrected for it, as in
    case-control studies (Prentice and Pyke, 1979).

    Args:
        vectors: shape (n, dim), rows of unit length or zero.
        labels: class of each, shape (n,); every class occurs.
        classes: how many there are.
        rng: draws the sample.

    Returns:
        Coefficients (dim, classes) and offsets (classes,): the logits of vectors are
        ``vectors @ coefficients + offsets``.
    """
    rows, correction = _sample(labels, classes, rng)
    centre = vectors[rows].mean(axis=0, dtype=np.float64)
    inputs = np.hstack([vectors[rows] - centre, np.ones((len(rows), 1))])
    weights = _descend(inputs, labels[rows], classes)
    coefficients = weights[:-1]
    return coefficients, weights[-1] - centre @ coefficients + correction


def softmax(logits: Floats) -> Floats:
    """Return the probabilities of logits, (n, classes), rows summing to 1."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _sample(
    labels: NDArray[np.intp], classes: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], Floats]:
    """Draw at most `_SAMPLE` rows, small classes whole; return the correction of the offsets."""
    counts = np.bincount(labels, minlength=classes)
    if len(labels) <= _SAMPLE:
        return np.arange(len(labels)), np.zeros(classes)
    room = _SAMPLE
    for smaller, count in enumerate(np.sort(counts).tolist()):
        limit = max(1, room // (classes - smaller))
        if count > limit:
            break
        room -= count
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = np.minimum(counts, limit)
    return np.sort(order[place < drawn[labels[order]]]), np.log(counts / drawn)


def _descend(inputs: Floats, labels: NDArray[np.intp], classes: int) -> Floats:
    """Minimise the mean negative log-likelihood plus the penalty; return (dim + 1, classes)."""
    n, width = inputs.shape
    penalty = np.full((width, 1), _PENALTY / n)
    penalty[-1] = 0.0  # offsets are free
    row = np.arange(n)

    def likelihood(weights: Floats) -> tuple[float, Floats]:
        logits = inputs @ weights
        logits -= logits.max(axis=1, keepdims=True)
        likely = logits[row, labels].mean()
        np.exp(logits, out=logits)
        total = logits.sum(axis=1)
        value = np.log(total).mean() - likely + 0.5 * (penalty * np.square(weights)).sum()
        logits /= total[:, None]
        return float(value), logits

    def gradient(weights: Floats, chance: Floats) -> Floats:
        chance[row, labels] -= 1.0
        slope: Floats = inputs.T @ chance / n + penalty * weights
        return slope

    # The curvature is at most half of this, and far less among many classes, so longer steps are
    # tried first.
    curvature = float(np.linalg.eigvalsh(inputs.T @ inputs / n)[-1])
    step = 2.0 * max(1.0, classes / 4) / curvature
    weights = ahead = np.zeros((width, classes))
    momentum, last = 1.0, np.inf
    for done in range(_ROUNDS):
        value, chance = likelihood(ahead)
        slope = gradient(ahead, chance)
        square = float(np.square(slope).sum())
        while True:
            moved = ahead - step * slope
            reached, _ = likelihood(moved)
            if reached <= value - 0.5 * step * square or step * curvature < 1e-6:
                break
            step /= 2
        if reached > last:
            momentum, ahead, last = 1.0, weights, np.inf
            continue
        grown = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = moved + (momentum - 1.0) / grown * (moved - weights)
        weights, momentum = moved, grown
        if done >= _LEAST_ROUNDS and last - reached < _TOLERANCE * abs(reached):
            break
        last = reached
        step *= 1.1
    return weights
