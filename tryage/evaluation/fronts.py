"""Points of loss against goals: which are dominated, their hull, the areas below and between."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MIXTURES = "mixtures of single experts"
"""What plots call the zero router's line."""


@dataclass(frozen=True, eq=False)
class Points:
    """Points of a front, all lower is better.

    Attributes:
        weights: (k, goals) the weights that attain them; 0 for single experts and their mixtures.
        losses: (k,) mean measured loss.
        values: (k, goals) mean value of each goal in its unit.
        cells: (k,) how many of the cells that a point is a mean of were measured.
    """

    weights: Array
    losses: Array
    values: Array
    cells: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.losses)

    def take(self, rows: NDArray[np.intp]) -> Points:
        """Return some of the points."""
        return Points(self.weights[rows], self.losses[rows], self.values[rows], self.cells[rows])


def non_dominated(points: Points) -> Points:
    """Return the non-dominated points of one or two goals, by loss; of equal points the first.

    A point dominates another if it is better on one axis and no worse on all.
    """
    order = np.lexsort((*points.values.T[::-1], points.losses))
    # In order of loss, a point is dominated if an earlier one is no worse in the goals.
    stairs = _Staircase()
    rows = [
        row
        for row, place in zip(order.tolist(), points.values[order].tolist(), strict=True)
        if stairs.add(place[0], place[-1])
    ]
    return points.take(np.array(rows, dtype=np.intp))


class Gathered:
    """Collects the non-dominated of many points of two goals in little memory."""

    _CELLS = 256
    _MOST = 200_000

    def __init__(self) -> None:
        self._parts: list[Points] = []
        self._count = 0
        self._limit = self._MOST
        self._low, self._width = np.zeros(2), np.ones(2)
        self._floor = np.full((self._CELLS, self._CELLS), np.inf)

    def add(self, points: Points) -> None:
        """Add points; those that an earlier front is known to dominate are dropped at once."""
        a, b = self._cells(points).T
        rows = np.flatnonzero(points.losses < self._floor[a, b])
        self._parts.append(points.take(rows))
        self._count += len(rows)
        if self._count > self._limit:
            front = self.points()
            self._parts, self._count = [front], len(front)
            # A front may itself be large; filtering again pays only after as many new points.
            self._limit = max(self._MOST, 2 * len(front))
            self._raise(front)

    def points(self) -> Points:
        """Return the non-dominated of all points that were added."""
        return non_dominated(
            Points(
                np.concatenate([part.weights for part in self._parts]),
                np.concatenate([part.losses for part in self._parts]),
                np.concatenate([part.values for part in self._parts]),
                np.concatenate([part.cells for part in self._parts]),
            )
        )

    def _cells(self, points: Points) -> NDArray[np.intp]:
        place = (points.values - self._low) / self._width * self._CELLS
        cells: NDArray[np.intp] = np.clip(place, 0, self._CELLS - 1).astype(np.intp)
        return cells

    def _raise(self, front: Points) -> None:
        """Note for every cell the least loss among points that are lower in both goals."""
        self._low = front.values.min(axis=0)
        width = front.values.max(axis=0) - self._low
        self._width = np.where(width > 0, width, 1.0)
        least = np.full((self._CELLS, self._CELLS), np.inf)
        a, b = self._cells(front).T
        np.minimum.at(least, (a, b), front.losses)
        least = np.minimum.accumulate(np.minimum.accumulate(least, axis=0), axis=1)
        self._floor = np.full_like(least, np.inf)
        self._floor[1:, 1:] = least[:-1, :-1]


class _Staircase:
    """Non-dominated points of a plane, and the area that they dominate.

    Attributes:
        area: share of the unit square that points dominate; valid where all points lie in it.
    """

    def __init__(self) -> None:
        self._x: list[float] = []  # rising
        self._y: list[float] = []  # falling
        self.area = 0.0

    def add(self, x: float, y: float) -> bool:
        """Add a point; return False if an earlier one is no higher on both axes."""
        at = bisect.bisect_right(self._x, x)
        if at and self._y[at - 1] <= y:
            return False
        start = bisect.bisect_left(self._x, x)
        end = start
        left, top = x, (self._y[start - 1] if start else 1.0)
        while end < len(self._x) and self._y[end] >= y:
            self.area += (self._x[end] - left) * (top - y)
            left, top = self._x[end], self._y[end]
            end += 1
        right = self._x[end] if end < len(self._x) else 1.0
        self.area += (right - left) * (top - y)
        self._x[start:end], self._y[start:end] = [x], [y]
        return True


def zero_router(singles: Points) -> Points:
    """Return the single experts that mixtures of single experts are made of: the lower hull.

    For two goals the non-dominated ones.
    """
    front = non_dominated(singles)
    if front.values.shape[1] > 1:
        return front
    return front.take(_lower_hull(front.values[:, 0], front.losses))


def hull_area(points: Points, singles: Points) -> float | None:
    """Return the mean of minus the loss along the lower hull of some points, for one goal.

    The mean is over values from the cheapest to the dearest single expert. Left of the hull's
    first point counts its line to the cheapest single expert, right of its last the lowest loss.

    Returns:
        The mean, or None where all single experts have the same value.
    """
    low, high = float(singles.values.min()), float(singles.values.max())
    if not high > low:
        return None
    front = non_dominated(points)
    front = front.take(_lower_hull(front.values[:, 0], front.losses))
    order = np.argsort(front.values[:, 0])
    x, y = front.values[order, 0], front.losses[order]
    if x[0] > low:
        cheapest = np.lexsort((singles.losses, singles.values[:, 0]))[0]
        x, y = np.append(low, x), np.append(singles.losses[cheapest], y)
    inside = x[(x > low) & (x < high)]
    grid = np.concatenate([[low], inside, [high]])
    heights = np.interp(grid, x, y)
    areas = np.diff(grid) * (heights[1:] + heights[:-1]) / 2.0
    return float(-areas.sum() / (high - low))


def hypervolume(points: Points, singles: Points) -> float:
    """Return the share of a box that points dominate, 0 to 1.

    The box lies between the best and worst single value of each goal, and between loss 0 and the
    worst single expert's loss. Values below the best single count as the best.
    """
    low = np.append(0.0, singles.values.min(axis=0))
    high = np.append(singles.losses.max(), singles.values.max(axis=0))
    width = np.where(high > low, high - low, 1.0)
    axes = np.column_stack([points.losses, points.values])
    unit = np.clip((axes - low) / width, 0.0, None)
    unit = np.where(high > low, unit, 0.0)
    return float(_dominated(unit[(unit < 1.0).all(axis=1)]))


def _dominated(unit: Array) -> float:
    """Return the volume of the unit square or cube that points in it dominate, (k, 2 or 3)."""
    if not len(unit):
        return 0.0
    if unit.shape[1] == 2:
        unit = np.column_stack([np.zeros(len(unit)), unit])
    ordered = unit[np.argsort(unit[:, 0], kind="stable")]
    edges = np.append(ordered[1:, 0], 1.0)
    stairs = _Staircase()
    volume = 0.0
    for (low, x, y), high in zip(ordered.tolist(), edges.tolist(), strict=True):
        stairs.add(x, y)
        volume += (high - low) * stairs.area
    return volume


def _lower_hull(x: Array, y: Array) -> NDArray[np.intp]:
    """Return the points of the lower convex hull (monotone chain; Andrew, 1979), by x."""
    hull: list[int] = []
    for row in np.lexsort((y, x)).tolist():
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            cross = (x[b] - x[a]) * (y[row] - y[a]) - (y[b] - y[a]) * (x[row] - x[a])
            if cross > 0:
                break
            hull.pop()
        hull.append(row)
    return np.array(hull, dtype=np.intp)
