"""The best of thousands of experts, found without looking at most of them.

Experts are stored in blocks of similar ones (`tryage.predictors.wide`). A lower bound of a block's
losses, and what goals add to them at least, bound its totals. Blocks are computed from the lowest
bound up, until no other can hold one of the first experts: the result is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tryage.deferred import NOT_YET, Deferred
from tryage.eligibility import excluded_by_prompt, too_long
from tryage.forecast import Forecast, WideForecast
from tryage.goals import GoalInputs
from tryage.limits import ON_GOALS
from tryage.objective import Objective
from tryage.policy import ResolvedGoals
from tryage.predictors.targets import LOSS
from tryage.predictors.wide import BLOCK, Columns
from tryage.ranking import lowest_first, name_order
from tryage.ties import TIE

Array = NDArray[np.float64]

FIRST = 10
"""Experts of a ranking that a decision knows without computing the others."""

_BLOCKS = 16
"""Blocks that are computed at first."""

_MOST_KEPT = 8
"""Bounds the memory of what goals add, which is 1.6 MB for 200,000 experts."""


class Ranked(NamedTuple):
    """What a decision is made of: the chosen expert's column, -1 for none, and arrays, (m,)."""

    column: int
    losses: Array
    std: Array
    totals: Array
    deferred: Deferred


class _Added(NamedTuple):
    """What goals add to the losses, by place.

    Attributes:
        totals: (blocks, places), infinite where an expert is not eligible.
        floors: (blocks,) the lowest of each block.
    """

    totals: Array
    floors: Array


@dataclass(frozen=True, eq=False)
class Search:
    """Finds the first experts of rankings over one library.

    Args:
        objective: goals and limits of the library.
    """

    objective: Objective
    _added: dict[tuple[object, ...], _Added | None] = field(default_factory=dict, repr=False)

    def __call__(
        self,
        predicted: Forecast,
        task: str,
        resolved: ResolvedGoals,
        inputs: GoalInputs,
        values: Mapping[str, Array],
    ) -> Ranked:
        """Return what a decision for one prompt is made of.

        Args:
            predicted: of the prompt.
            task: what it asks for.
            resolved: weights and limits.
            inputs: of the prompt.
            values: of the goals, as `Objective.shown` returned them.

        Raises:
            GoalError: a limit or a goal cannot be computed.
        """

        def totals() -> Array:
            (row,) = self.objective.totals(predicted.losses, task, resolved, inputs, values)
            return np.asarray(row)

        if isinstance(predicted, WideForecast):
            added = self._added_to(predicted, task, resolved)
            if added is not None:
                deferred = self._bounded(predicted, added, inputs, totals)
                return Ranked(_column(deferred), NOT_YET, NOT_YET, NOT_YET, deferred)
        # Prompts change what goals add, or the predictor has no bounds.
        every = totals()
        deferred = self._of_totals(predicted, every)
        std = NOT_YET if deferred.make else predicted.std[0]
        return Ranked(_column(deferred), predicted.losses[0], std, every, deferred)

    def _bounded(
        self, wide: WideForecast, added: _Added, inputs: GoalInputs, totals: Callable[[], Array]
    ) -> Deferred:
        """Return the first experts of a ranking, of which totals and all else are deferred."""
        library, cells = self.objective.library, wide.prediction.cells[LOSS]
        columns_of = wide.columns.placed(cells)
        (shares,) = wide.prediction.shares
        may_be_long = inputs.longest > library.fits_everywhere

        def sums_of(blocks: Columns) -> tuple[Columns, Array]:
            columns, sums = columns_of[blocks], cells.means(shares, blocks) + added.totals[blocks]
            if may_be_long:
                sums[too_long(library, inputs, columns)] = np.inf
            return columns, sums

        columns, sums = _candidates(cells.floors(shares) + added.floors, sums_of)
        places = self._first(columns, sums)
        first = columns[places].tolist()
        totals_of = dict(zip(first, sums[places].tolist(), strict=True))
        make = {
            "losses": lambda: wide.losses[0],
            "std": lambda: wide.std[0],
            "totals": totals,
        }
        some: dict[str, Callable[[Columns], Array]] = {
            "losses": partial(wide.losses_of, 0),
            "std": partial(wide.std_of, 0),
            # Beside the first, only experts that are not eligible are shown without the others.
            "totals": lambda shown: np.array([totals_of.get(c, np.inf) for c in shown.tolist()]),
        }
        return Deferred(make, some, tuple(first), len(columns) <= FIRST)

    def _of_totals(self, predicted: Forecast, totals: Array) -> Deferred:
        """Return the first experts of a ranking by totals, (m,)."""
        starts = np.arange(0, len(totals), BLOCK)

        def sums_of(blocks: Columns) -> tuple[Columns, Array]:
            columns = np.minimum(starts[blocks, None] + np.arange(BLOCK), len(totals))
            inside = columns < len(totals)
            return columns, np.where(inside, totals[np.where(inside, columns, 0)], np.inf)

        columns, sums = _candidates(np.fmin.reduceat(totals, starts), sums_of)
        first = columns[self._first(columns, sums)].tolist()
        make: dict[str, Callable[[], Array]] = {}
        some: dict[str, Callable[[Columns], Array]] = {}
        if isinstance(predicted, WideForecast):
            make, some = {"std": lambda: predicted.std[0]}, {"std": partial(predicted.std_of, 0)}
        return Deferred(make, some, tuple(first), len(columns) <= FIRST)

    def _first(self, columns: Columns, totals: Array) -> list[int]:
        """Return the places of the first `FIRST` of some eligible experts, the chosen one first."""
        if not len(columns):
            return []
        tied = np.flatnonzero(totals <= totals.min() + TIE)
        chosen = int(tied[self.objective.tie_rank[columns[tied]].argmin()])
        ranks = name_order(self.objective.library.names).ranks[columns]
        # One more, since the chosen one may stand among the first.
        places = lowest_first(totals, ranks, FIRST + 1).tolist()
        return [chosen, *(place for place in places if place != chosen)][:FIRST]

    def _added_to(
        self, predicted: WideForecast, task: str, resolved: ResolvedGoals
    ) -> _Added | None:
        """Return what goals add, whatever the prompt; None where that depends on the prompt."""
        if not _fixed(resolved):
            return None
        cells = predicted.prediction.cells[LOSS]
        key = (id(cells), task, tuple(resolved.weights.items()), resolved.limits)
        if key in self._added:
            return self._added.get(key)
        added = self._add(predicted.columns.placed(cells), task, resolved)
        if len(self._added) >= _MOST_KEPT:
            self._added.clear()
        self._added[key] = added
        return added

    def _add(self, columns: Columns, task: str, resolved: ResolvedGoals) -> _Added | None:
        objective = self.objective
        inputs = GoalInputs(objective.reference, np.zeros(1))
        values = objective.shown(resolved, inputs)
        with np.errstate(over="ignore", invalid="ignore"):
            penalties = objective.penalties(resolved, task, inputs, values)
        mask = objective.eligibility(task, resolved.limits).mask
        out = excluded_by_prompt(objective.library, mask, resolved, inputs, values)
        if out is not None:
            mask = mask & ~out[0]
        stored = np.zeros(len(mask), dtype=bool)
        stored[columns[columns >= 0]] = True
        # Experts without a prediction, and sums that overflow, need `Objective.totals`.
        if (mask & ~stored).any() or not np.isfinite(penalties).all():
            return None
        eligible = (columns >= 0) & mask[columns]
        totals = np.where(eligible, penalties[columns], np.inf)
        return _Added(totals, totals.min(axis=1))


def _column(deferred: Deferred) -> int:
    """Return the column of the chosen expert, -1 where nobody is eligible."""
    return next(iter(deferred.first), -1)


def _candidates(
    floors: Array, sums_of: Callable[[Columns], tuple[Columns, Array]]
) -> tuple[Columns, Array]:
    """Return the columns of all experts that may be among the first, and their totals.

    Args:
        floors: (blocks,) a number that no total of a block is below; inf or NaN where nobody in it
            is eligible.
        sums_of: returns the columns and the totals of some blocks, each (n, BLOCK).
    """
    waiting = np.flatnonzero(floors < np.inf)
    columns, totals = np.empty(0, dtype=np.intp), np.empty(0)
    highest, count = np.inf, _BLOCKS
    while len(waiting := waiting[floors[waiting] <= highest]):
        if count < len(waiting):
            waiting = waiting[np.argpartition(floors[waiting], count)]
        blocks, waiting = np.sort(waiting[:count]), waiting[count:]
        own, sums = sums_of(blocks)
        near = sums <= highest if highest < np.inf else sums < np.inf
        columns = np.concatenate([columns, own[near]])
        totals = np.concatenate([totals, sums[near]])
        if len(totals) > FIRST:
            last = np.partition(totals, FIRST)[FIRST]
            highest = max(float(last), float(totals.min()) + TIE)
        count *= 4
    return columns, totals


def _fixed(resolved: ResolvedGoals) -> bool:
    """Whether prompts make no difference to what goals add and exclude."""
    on_goals = [limit.attribute for limit in resolved.limits if limit.attribute in ON_GOALS]
    names = {*resolved.weights, *on_goals}
    return not resolved.goals and all(resolved.goal(name).fixed for name in names)
