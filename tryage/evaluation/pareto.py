"""The front of loss against goals: what every weight attains on measured results.

Loss against one weighted goal is a front of two objectives, loss against two a front of three. Both
are exact: no grid of weights, but every choice that any weights up to `MOST_WEIGHT` make (see
`tryage.evaluation.sweeps`). For two weights on large tables that would take too long; then rays of
fixed proportion of the weights are swept, each exactly, and the front says that it is not exact.
Losses and values that were not measured are estimated (`tryage.evaluation.measured`), so that every
prompt with a measured cell counts. The oracle chooses among the measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.drawing.notebook import html_table
from tryage.errors import GoalError, ScoreTableError
from tryage.evaluation.doubts import warn_of_few
from tryage.evaluation.fronts import (
    MIXTURES,
    Points,
    hull_area,
    hypervolume,
    zero_router,
)
from tryage.evaluation.goal_cells import GoalCells
from tryage.evaluation.measured import Counts
from tryage.evaluation.sweeps import Means, over_one, over_two
from tryage.scores import ScoreTable
from tryage.scores.fields import Kind

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Front:
    """What a router attains as weights rise, beside what single experts and an oracle attain.

    Means are macro averages over the groups. The AIQ (average improvement in quality) is the area
    under the non-decreasing concave hull of quality (score, or minus loss) over the goal's value,
    divided by the range of values, which for all three runs from the cheapest to the dearest
    single expert; left of a hull's first point its line to the cheapest single expert counts. The
    hypervolume is the share, that the points dominate, of the box between the best and the worst
    single expert's value and between no loss and the worst single expert's loss.

    Attributes:
        goals: the goals, one or two.
        kind: whether quality is shown as "scores" or "losses".
        prompts: how many prompts count.
        points: the router's non-dominated points, by loss from low to high.
        experts: the single experts' names.
        singles: their points.
        zero: mixtures of single experts: their hull.
        oracle: what the best measured choices attain.
        cells: how many cells the points rest on; each point tells those of its own choices.
        exact: whether the points are all that any weights attain, and no other dominates.
    """

    goals: tuple[str, ...]
    kind: Kind
    prompts: int
    points: Points = field(repr=False)
    experts: tuple[str, ...] = field(repr=False)
    singles: Points = field(repr=False)
    zero: Points = field(repr=False)
    oracle: Points = field(repr=False)
    cells: Counts
    exact: bool = True

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
        singles = self._point_rows(self.singles)
        return {
            "goal": self.goals[0] if len(self.goals) == 1 else list(self.goals),
            "prompts": self.prompts,
            "cells": self.cells.to_dict(),
            "exact": self.exact,
            "points": self._point_rows(self.points),
            "aiq": self.aiq(self.points),
            "hypervolume": self.hypervolume,
            "experts": {
                name: {key: value for key, value in point.items() if key != "weight"}
                for name, point in zip(self.experts, singles, strict=True)
            },
            "references": {
                "zero_router": {"aiq": self.aiq(self.zero), "points": self._point_rows(self.zero)},
                "oracle": {"aiq": self.aiq(self.oracle), "points": self._point_rows(self.oracle)},
            },
        }

    def plot(self, placed: PlacedFront | None = None) -> Any:
        """Draw the front as an Altair chart: router, oracle, mixtures and single experts.

        Args:
            placed: marks the place of a router on it.

        Raises:
            GoalError: the front is over two goals.
            MissingExtraError: the extra `report` is not installed.
        """
        from tryage.evaluation.front_plots import Drawn, draw

        if len(self.goals) > 1:
            raise GoalError("a picture shows one goal; draw one for each, or take the JSON")
        (goal,) = self.goals
        lines = {"oracle": self.oracle, "router": self.points, MIXTURES: self.zero}
        own: tuple[tuple[str, str, float, float], ...] = ()
        if placed is not None:
            name = f"this router, {goal}={placed.weight:g}"
            own = (("this router", name, placed.value, placed.loss),)
        scored = self.kind == "scores"
        return draw(Drawn(goal, scored, self.prompts, lines, self.experts, self.singles, own))

    def _repr_html_(self) -> str:
        measure = "score" if self.kind == "scores" else "loss"
        rows = zip(
            self.experts,
            self.quality(self.singles).tolist(),
            self.singles.values.tolist(),
            strict=True,
        )
        return html_table(
            f"A front of {len(self.points)} points over {' and '.join(self.goals)} on "
            f"{self.prompts:,} prompts, hypervolume {self.hypervolume:.4f}; the single experts:",
            ["", f"mean {measure}", *(f"mean {goal}" for goal in self.goals)],
            [
                (name, f"{quality:.4f}", *(f"{value:.4g}" for value in values))
                for name, quality, values in rows
            ],
        )

    def quality(self, points: Points) -> Array:
        """Return scores, or losses, as the table was measured, (points,)."""
        return 1.0 - points.losses if self.kind == "scores" else points.losses

    def _point_rows(self, points: Points) -> list[dict[str, Any]]:
        measure = "score" if self.kind == "scores" else "loss"
        rows = zip(
            points.weights.tolist(),
            self.quality(points).tolist(),
            points.values.tolist(),
            points.cells.tolist(),
            strict=True,
        )
        return [
            {
                "weight": self._by_goal(weight),
                measure: quality,
                "value": self._by_goal(value),
                "cells": cells,
            }
            for weight, quality, value, cells in rows
        ]

    def _by_goal(self, numbers: list[float]) -> Any:
        if len(self.goals) == 1:
            return numbers[0]
        return dict(zip(self.goals, numbers, strict=True))


@dataclass(frozen=True)
class PlacedFront:
    """A front, and the place on it of the router as it is.

    Attributes:
        front: of one goal.
        weight: the policy's weight on the goal.
        loss: mean measured loss of the router's choices on the front's prompts.
        value: mean value of the goal of its choices.
    """

    front: Front
    weight: float
    loss: float
    value: float

    def plot(self) -> Any:
        """Draw it as an Altair chart."""
        return self.front.plot(self)


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
        ScoreTableError: an expert has no measured cell, or there are three goals or more.
    """
    if not 1 <= len(goals) <= 2:
        raise ScoreTableError(f"a front is drawn over one goal or two, not {len(goals)}")
    cells = GoalCells.of(table, goals, values)
    warn_of_few(cells.few)
    shape, rows, shares = table.losses.shape, cells.rows, cells.shares

    def wide(arrays: Sequence[Array]) -> list[Array]:
        return [np.broadcast_to(array, shape)[rows] for array in arrays]

    singles = Points(
        np.zeros((shape[1], len(goals))),
        shares @ cells.losses,
        np.einsum("n,nmg->mg", shares, cells.values),
        cells.measured.sum(axis=0),
    )
    means = Means(cells.losses, cells.values, shares, cells.measured)
    points, exact = _swept(predicted[rows], wide(penalties), means)
    best = Means(
        cells.among_measured(cells.measured_losses),
        cells.among_measured(cells.measured_values),
        shares,
    )
    oracle, exact_oracle = _swept(
        cells.among_measured(cells.measured_losses),
        [cells.among_measured(array) for array in wide(realised)],
        best,
    )
    return Front(
        goals=tuple(goals),
        kind=table.kind,
        prompts=len(rows),
        points=points,
        experts=table.experts,
        singles=singles,
        zero=zero_router(singles),
        oracle=oracle,
        cells=cells.counts,
        exact=exact and exact_oracle,
    )


def _swept(scores: Array, penalties: Sequence[Array], means: Means) -> tuple[Points, bool]:
    """Return the non-dominated points that any weights attain, and whether they are all."""
    if len(penalties) == 1:
        return over_one(scores, penalties[0], means), True
    return over_two(scores, penalties, means)
