"""The front of loss against goals: what every weight attains on measured results.

For one goal the front is exact. As its weight λ rises from 0, the choice for a prompt changes only
where two lines ``predicted loss + λ · penalty`` cross, so every choice that any λ makes is found
from those crossings. For two goals the same is done along rays of fixed proportion of the weights.
Only prompts on which every expert was measured count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.errors import ScoreTableError
from tryage.evaluation.fronts import (
    Points,
    hull_area,
    hypervolume,
    non_dominated,
    zero_router,
)
from tryage.evaluation.metrics import NO_GROUP
from tryage.scores import ScoreTable
from tryage.scores.fields import Kind

Array = NDArray[np.float64]

RAYS = 17
"""Proportions of two goals' weights that are swept."""


@dataclass(frozen=True)
class Front:
    """What a router attains as weights rise, beside what single experts and an oracle attain.

    Means are over groups of the group's mean. The AIQ (average improvement in quality) is the area
    under the non-decreasing concave hull of quality (score, or minus loss) over the goal's value,
    divided by the range of values, which for all three runs from the cheapest to the dearest
    single expert; left of a hull's first point its line to the cheapest single expert counts. The
    hypervolume is the share, that the points dominate, of the box between the best and the worst
    single expert's value and between no loss and the worst single expert's loss.

    Attributes:
        goals: the goals, one or two.
        kind: whether quality is told as "scores" or "losses".
        prompts: how many prompts count.
        points: the router's non-dominated points, by loss from low to high.
        experts: the single experts' names.
        singles: their points.
        zero: mixtures of single experts: their hull.
        oracle: what choosing with the results known attains.
    """

    goals: tuple[str, ...]
    kind: Kind
    prompts: int
    points: Points = field(repr=False)
    experts: tuple[str, ...] = field(repr=False)
    singles: Points = field(repr=False)
    zero: Points = field(repr=False)
    oracle: Points = field(repr=False)

    def aiq(self, points: Points) -> float | None:
        """Return the AIQ of some points; None for two goals, or where all experts cost the same."""
        if len(self.goals) > 1:
            return None
        area = hull_area(points, self.singles)
        return None if area is None else float(area + (self.kind == "scores"))

    @property
    def hypervolume(self) -> float:
        """The share of the box that the router's points dominate, 0 to 1."""
        return hypervolume(self.points, self.singles)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``tryage pareto --json`` prints."""
        singles = self._told(self.singles)
        return {
            "goal": self.goals[0] if len(self.goals) == 1 else list(self.goals),
            "prompts": self.prompts,
            "points": self._told(self.points),
            "aiq": self.aiq(self.points),
            "hypervolume": self.hypervolume,
            "experts": {
                name: {key: value for key, value in point.items() if key != "weight"}
                for name, point in zip(self.experts, singles, strict=True)
            },
            "references": {
                "zero_router": {"aiq": self.aiq(self.zero), "points": self._told(self.zero)},
                "oracle": {"aiq": self.aiq(self.oracle), "points": self._told(self.oracle)},
            },
        }

    def quality(self, points: Points) -> Array:
        """Return scores, or losses, as the table was measured, (points,)."""
        return 1.0 - points.losses if self.kind == "scores" else points.losses

    def _told(self, points: Points) -> list[dict[str, Any]]:
        measure = "score" if self.kind == "scores" else "loss"
        rows = zip(
            points.weights.tolist(),
            self.quality(points).tolist(),
            points.values.tolist(),
            strict=True,
        )
        return [
            {"weight": self._named(weight), measure: quality, "value": self._named(value)}
            for weight, quality, value in rows
        ]

    def _named(self, numbers: list[float]) -> Any:
        if len(self.goals) == 1:
            return numbers[0]
        return dict(zip(self.goals, numbers, strict=True))


def pareto(
    table: ScoreTable,
    goals: Sequence[str],
    *,
    predicted: Array,
    penalties: Sequence[Array],
    values: Sequence[Array],
    realised: Sequence[Array],
) -> Front:
    """Sweep the weights of one or two goals over a table of measured results.

    Args:
        table: n prompts and m experts.
        goals: their names.
        predicted: (n, m) predicted losses.
        penalties: for each goal what weight 1 adds to every predicted loss, (m,) or (n, m).
        values: for each goal its measured values in its unit, (m,) or (n, m), lower is better.
        realised: as `penalties`, from the measured values: what the oracle goes by.

    Raises:
        ScoreTableError: no prompt has every expert measured, or there are three goals or more.
    """
    if not 1 <= len(goals) <= 2:
        raise ScoreTableError(f"a front is drawn over one goal or two, not {len(goals)}")
    shape = table.losses.shape
    cells = [np.broadcast_to(array, shape) for array in values]
    complete = ~np.isnan(np.stack([table.losses, *cells])).any(axis=(0, 2))
    if not complete.any():
        raise ScoreTableError(
            f"no prompt has the loss and {' and '.join(goals)} of every expert measured; there is "
            "nothing to draw a front from"
        )
    rows = np.flatnonzero(complete)
    shares = _shares([table.groups[row] or NO_GROUP for row in rows.tolist()])
    losses = table.losses[rows]
    held = np.stack([array[rows] for array in cells], axis=-1)  # (n, m, goals)

    def wide(arrays: Sequence[Array]) -> list[Array]:
        return [np.broadcast_to(array, shape)[rows] for array in arrays]

    singles = Points(
        np.zeros((shape[1], len(goals))), shares @ losses, np.einsum("n,nmg->mg", shares, held)
    )
    return Front(
        goals=tuple(goals),
        kind=table.kind,
        prompts=len(rows),
        points=_swept(predicted[rows], wide(penalties), losses, held, shares),
        experts=table.experts,
        singles=singles,
        zero=zero_router(singles),
        oracle=_swept(losses, wide(realised), losses, held, shares),
    )


def _shares(groups: Sequence[str]) -> Array:
    """Return what each prompt counts in a mean over groups of the group's mean, (n,), sum 1."""
    _, position, counts = np.unique(groups, return_inverse=True, return_counts=True)
    shares: Array = 1.0 / (len(counts) * counts[position])
    return shares


def _swept(
    scores: Array, penalties: Sequence[Array], losses: Array, held: Array, shares: Array
) -> Points:
    """Return the non-dominated points that any weights attain.

    Args:
        scores: (n, m) what is minimised at weight 0.
        penalties: for each goal (n, m).
        losses: (n, m) measured.
        held: (n, m, goals) measured values.
        shares: (n,) what each prompt counts.
    """
    if len(penalties) == 1:
        weights, found, values = _sweep(scores, penalties[0], losses, held, shares)
        return non_dominated(Points(weights[:, None], found, values))
    parts = []
    for angle in np.linspace(0.0, np.pi / 2, RAYS):
        direction = np.array([np.cos(angle), np.sin(angle)])
        mixed = direction[0] * penalties[0] + direction[1] * penalties[1]
        weights, found, values = _sweep(scores, mixed, losses, held, shares)
        parts.append(Points(weights[:, None] * direction, found, values))
    return non_dominated(
        Points(
            np.concatenate([part.weights for part in parts]),
            np.concatenate([part.losses for part in parts]),
            np.concatenate([part.values for part in parts]),
        )
    )


def _sweep(
    scores: Array, penalty: Array, losses: Array, held: Array, shares: Array
) -> tuple[Array, Array, Array]:
    """Return every point that some weight ≥ 0 attains: weights, losses (k,), values (k, goals)."""
    row = np.arange(len(scores))
    current = _start(scores, penalty)
    changed: list[Array] = []
    steps: list[Array] = []
    start_loss = shares @ losses[row, current]
    start_value = shares @ held[row, current]
    while True:
        at, following = _next_crossing(scores, penalty, current)
        moving = np.flatnonzero(np.isfinite(at))
        if not len(moving):
            break
        before, after = current[moving], following[moving]
        part = shares[moving]
        gain = part * (losses[moving, after] - losses[moving, before])
        shift = part[:, None] * (held[moving, after] - held[moving, before])
        changed.append(at[moving])
        steps.append(np.column_stack([gain, shift]))
        current = current.copy()
        current[moving] = after
    if not steps:
        return np.zeros(1), np.array([start_loss]), start_value[None, :]
    when, step = np.concatenate(changed), np.concatenate(steps)
    order = np.argsort(when, kind="stable")
    when, total = when[order], np.cumsum(step[order], axis=0)
    last = np.append(when[1:] > when[:-1], True)  # crossings at one weight happen together
    total = total[last]
    # Just above a crossing, so that the weight that is told makes the choices that are told.
    found = np.append(0.0, np.nextafter(when[last] * (1.0 + 1e-12), np.inf))
    return (
        found,
        np.append(start_loss, start_loss + total[:, 0]),
        np.vstack([start_value, start_value + total[:, 1:]]),
    )


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
    np.divide(lost, saved, out=at, where=saved > 0)
    first = at.min(axis=1)
    # Of those that cross at the same weight the steepest lies lowest beyond it.
    near = at <= first[:, None] * (1.0 + 1e-12)
    following: NDArray[np.intp] = np.where(near, penalty, np.inf).argmin(axis=1)
    return np.where(np.isfinite(first), np.maximum(first, 0.0), np.inf), following
