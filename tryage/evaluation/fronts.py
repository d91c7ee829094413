"""Points of loss against goals: which are dominated, their hull, the areas below and between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Points:
    """Points of a front, all lower is better.

    Attributes:
        weights: (k, goals) the weights that attain them; 0 for single experts and their mixtures.
        losses: (k,) mean measured loss.
        values: (k, goals) mean value of each goal in its unit.
    """

    weights: Array
    losses: Array
    values: Array

    def __len__(self) -> int:
        return len(self.losses)

    def take(self, rows: NDArray[np.intp]) -> Points:
        """Return some of the points."""
        return Points(self.weights[rows], self.losses[rows], self.values[rows])


def non_dominated(points: Points) -> Points:
    """Return the points that no other is better than on one axis and no worse on all, by loss.

    Of equal points the first stays.
    """
    axes = np.column_stack([points.losses, points.values])
    order = np.lexsort((*points.values.T[::-1], points.losses))
    kept: list[int] = []
    if axes.shape[1] == 2:
        least = np.inf
        for row in order.tolist():
            if axes[row, 1] < least:
                kept.append(row)
                least = axes[row, 1]
    else:
        for row in order.tolist():
            if not kept or not (axes[kept] <= axes[row]).all(axis=1).any():
                kept.append(row)
    return points.take(np.array(kept, dtype=np.intp))


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
    """Return the volume of the unit cube that points dominate, slice by slice of the last axis."""
    if not len(unit):
        return 0.0
    if unit.shape[1] == 2:
        by_first = unit[np.argsort(unit[:, 0])]
        widths = np.diff(np.append(by_first[:, 0], 1.0))
        return float((widths * (1.0 - np.minimum.accumulate(by_first[:, 1]))).sum())
    order = np.argsort(unit[:, -1])
    edges = np.append(unit[order, -1], 1.0)
    volume = 0.0
    for count in range(1, len(order) + 1):
        thickness = edges[count] - edges[count - 1]
        if thickness > 0:
            volume += thickness * _dominated(unit[order[:count], :-1])
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
