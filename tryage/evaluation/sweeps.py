"""Every choice that some weights make: the sweep over one goal's weight, and over two goals'.

A prompt's choice is the expert with the least ``predicted loss + Σ λ · penalty``, so it changes
only where two experts' totals are equal. Over one weight these are points on a line, and a sweep
from crossing to crossing meets every choice. Over two weights they are segments, which cut the
quadrant of weights into cells, and each cell has segments on its border: sweeping along both sides
of every segment meets every cell. Cells thinner than `_BESIDE` are beyond the numbers' precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tryage.evaluation.fronts import Gathered, Points, non_dominated
from tryage.goals.base import MOST_WEIGHT

Array = NDArray[np.float64]

RAYS = 17
"""Proportions of two goals' weights that are swept where sweeping them all would take too long."""

MOST_WORK = 200_000_000
"""Segments × prompts × experts up to which two weights are swept exactly: about a minute."""

_BESIDE = 1e-9
"""How far beside a segment its sides are swept, as a share of 1 + the weights."""

_ABOVE = 1e-6
"""How far above a crossing one goal's weight is given, as a share of 1 + the weight."""

_TIED = 1e-13
"""A difference of penalties that no allowed weight makes matter."""


class Means:
    """The measured means that choices attain, over n prompts and m experts.

    Args:
        losses: (n, m) measured losses.
        values: (n, m, goals) measured values of the goals.
        shares: (n,) what each prompt counts in a mean.
        measured: (n, m) which cells were measured; None means all.
    """

    def __init__(
        self,
        losses: Array,
        values: Array,
        shares: Array,
        measured: NDArray[np.bool_] | None = None,
    ) -> None:
        self._axes = np.concatenate([losses[..., None], values], axis=-1)
        self._shares = shares
        self._measured = np.ones(losses.shape) if measured is None else measured.astype(np.float64)

    def start(self, chosen: NDArray[np.intp]) -> Array:
        """Return the means of a choice, (2 + goals,): loss, values, number of measured cells."""
        row = np.arange(len(chosen))
        mean: Array = self._shares @ self._axes[row, chosen]
        return np.append(mean, self._measured[row, chosen].sum())

    def step(
        self, rows: NDArray[np.intp], before: NDArray[np.intp], after: NDArray[np.intp]
    ) -> Array:
        """Return what the means change by where some prompts change, (rows, 2 + goals)."""
        change: Array = self._axes[rows, after] - self._axes[rows, before]
        measured = self._measured[rows, after] - self._measured[rows, before]
        return np.column_stack([self._shares[rows, None] * change, measured])


def over_one(scores: Array, penalty: Array, means: Means) -> Points:
    """Return the non-dominated points that any weight on one goal attains.

    Args:
        scores: (n, m) what is minimised at weight 0.
        penalty: (n, m) what weight 1 adds.
        means: what choices attain.
    """
    when, axes = _sweep(scores, penalty, means, MOST_WEIGHT)
    # Above a crossing by enough that a router with this weight sees no tie there, and makes the
    # choices of the point; halfway to the next crossing at most.
    room = np.diff(when[1:], append=np.inf) / 2
    when[1:] += np.minimum(room, _ABOVE * (1.0 + when[1:]))
    weights = np.minimum(when, MOST_WEIGHT)
    return non_dominated(_points(weights[:, None], axes))


def over_two(
    scores: Array, penalties: Sequence[Array], means: Means, *, most_work: float = MOST_WORK
) -> tuple[Points, bool]:
    """Return the non-dominated points that any weights on two goals attain.

    Args:
        scores: (n, m) what is minimised at weight 0.
        penalties: of both goals, (n, m) each.
        means: what choices attain.
        most_work: segments × prompts × experts that are swept exactly; above, `RAYS` rays are.

    Returns:
        The points, and whether they are all there are.
    """
    slopes = np.stack(penalties, axis=-1)  # (n, m, 2)
    lines = list(_axes())
    segments = _segments(scores, slopes, stop=most_work / scores.size)
    exact = segments is not None
    lines += _rays() if segments is None else _sides(segments)
    gathered = Gathered()
    for start, direction, length in lines:
        when, axes = _sweep(scores + slopes @ start, slopes @ direction, means, length)
        # Halfway to the next crossing: well inside the cell.
        middle = (when + np.append(when[1:], max(when[-1], length))) / 2
        middle[-1] = min(middle[-1], when[-1] + 1.0)
        weights = start + middle[:, None] * direction
        # A line beside a segment from large weights to none may leave the quadrant at its end. What
        # it meets there also lies on an axis, which has a sweep of its own.
        allowed = (weights >= 0).all(axis=1)
        gathered.add(_points(weights[allowed], axes[allowed]))
    return gathered.points(), exact


def _points(weights: Array, means: Array) -> Points:
    """Return points of means as `Means` tells them, (k, 2 + goals)."""
    cells = np.rint(means[:, -1]).astype(np.intp)
    return Points(weights, means[:, 0], means[:, 1:-1], cells)


Line = tuple[Array, Array, float]
"""Where a sweep starts, (2,) weights; its direction, (2,) of length 1; how far it goes."""


def _axes() -> Iterator[Line]:
    for direction in np.eye(2):
        yield np.zeros(2), direction, MOST_WEIGHT


def _rays() -> Iterator[Line]:
    for angle in np.linspace(0.0, np.pi / 2, RAYS)[1:-1]:
        yield np.zeros(2), np.array([np.cos(angle), np.sin(angle)]), MOST_WEIGHT


def _sides(segments: Array) -> Iterator[Line]:
    """Return lines along both sides of segments, given as rows of start, direction and length."""
    for row in segments:
        start, direction, length = row[:2], row[2:4], float(row[4])
        beside = _BESIDE * (1.0 + np.abs(start).max()) * np.array([-direction[1], direction[0]])
        yield start + beside, direction, length
        yield start - beside, direction, length


def _segments(scores: Array, slopes: Array, *, stop: float) -> Array | None:
    """Return where the prompts' choices change.

    Args:
        scores: (n, m).
        slopes: (n, m, 2) penalties.
        stop: number of segments above which None is returned.

    Returns:
        (k, 5): start (2), direction (2) and length, each once.
    """
    segments: list[Array] = []
    count = 0
    for row in range(len(scores)):
        segments.append(_segments_of(scores[row], slopes[row]))
        count += len(segments[-1])
        if count > stop:
            return None
    return np.unique(np.concatenate(segments), axis=0)


def _segments_of(scores: Array, slopes: Array) -> Array:
    """Return one prompt's segments; arguments (m,) and (m, 2), result (k, 5)."""
    first, second = np.triu_indices(len(scores), 1)
    constant, normal = scores[first] - scores[second], slopes[first] - slopes[second]
    norm = np.linalg.norm(normal, axis=1)
    apart = norm > _TIED
    first, second = first[apart], second[apart]
    constant, normal, norm = constant[apart] / norm[apart], normal[apart] / norm[apart, None], norm
    origin = -constant[:, None] * normal  # the line's point next to no weights at all
    direction = np.column_stack([-normal[:, 1], normal[:, 0]])
    low, high = np.full(len(first), -np.inf), np.full(len(first), np.inf)
    # Along a line, origin + t · direction, every condition reads offset + rate · t <= 0.
    conditions = [(-origin + 4 * _BESIDE * (1 + np.abs(origin).max(axis=1))[:, None], -direction)]
    conditions.append((origin - MOST_WEIGHT, direction))
    rise = slopes[first][:, None, :] - slopes[None, :, :]  # (pairs, m, 2)
    offset = scores[first][:, None] - scores[None, :] + np.einsum("pmg,pg->pm", rise, origin)
    rate = np.einsum("pmg,pg->pm", rise, direction)
    pairs = np.arange(len(first))
    offset[pairs, second] = rate[pairs, second] = 0.0
    conditions.append((offset, rate))
    for offsets, rates in conditions:
        level = np.abs(rates) <= _TIED
        edge = np.divide(-offsets, rates, out=np.zeros_like(rates), where=~level)
        low = np.maximum(low, np.where(~level & (rates < 0), edge, -np.inf).max(axis=1))
        high = np.minimum(high, np.where(~level & (rates > 0), edge, np.inf).min(axis=1))
        high[(level & (offsets > _TIED)).any(axis=1)] = -np.inf
    valid = high > low
    start = origin[valid] + low[valid, None] * direction[valid]
    return np.column_stack([start, direction[valid], (high - low)[valid]])


def _sweep(scores: Array, penalty: Array, means: Means, length: float) -> tuple[Array, Array]:
    """Return what a weight that rises from 0 attains.

    Args:
        scores: (n, m) what is minimised at weight 0.
        penalty: (n, m) what weight 1 adds; may be negative.
        means: what choices attain.
        length: the greatest weight.

    Returns:
        The weights from which on something new is attained, (k,), the first of them 0; and the
        means, (k, 2 + goals).
    """
    current = _start(scores, penalty)
    beginning = means.start(current)
    rows = np.arange(len(scores))
    changed: list[Array] = []
    steps: list[Array] = []
    while len(rows):
        before = current[rows]
        at, after = _next_crossing(scores[rows], penalty[rows], before)
        moving = at <= length
        rows, after = rows[moving], after[moving]
        changed.append(at[moving])
        steps.append(means.step(rows, before[moving], after))
        current[rows] = after
    when, step = np.concatenate(changed), np.concatenate(steps)
    order = np.argsort(when, kind="stable")
    when, total = when[order], beginning + np.cumsum(step[order], axis=0)
    last = np.append(when[1:] > when[:-1], True)[: len(when)]  # those at one weight are one change
    return np.append(0.0, when[last]), np.vstack([beginning, total[last]])


def _start(scores: Array, penalty: Array) -> NDArray[np.intp]:
    """Return the choice at weight 0, the lower penalty among equals, (n,)."""
    tied = scores <= scores.min(axis=1, keepdims=True)
    choice: NDArray[np.intp] = np.where(tied, penalty, np.inf).argmin(axis=1)
    return choice


def _next_crossing(
    scores: Array, penalty: Array, current: NDArray[np.intp]
) -> tuple[Array, NDArray[np.intp]]:
    """Return where each prompt's choice next changes, inf where never, and to what, each (n,)."""
    row = np.arange(len(scores))
    saved = penalty[row, current][:, None] - penalty
    lost = scores - scores[row, current][:, None]
    at = np.full(scores.shape, np.inf)
    np.divide(lost, saved, out=at, where=saved > _TIED)
    first = at.min(axis=1)
    # Of those that cross at the same weight the steepest lies lowest beyond it.
    near = at <= first[:, None] * (1.0 + 1e-12)
    following: NDArray[np.intp] = np.where(near, penalty, np.inf).argmin(axis=1)
    return np.where(np.isfinite(first), np.maximum(first, 0.0), np.inf), following
