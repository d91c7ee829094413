"""The best of thousands of experts, found without looking at most of them.

Experts are stored in blocks of similar ones (`tryage.predictors.wide`). A lower bound of a block's
losses, and what goals add to them at least, bound its totals. Blocks are computed from the lowest
bound up, until no other can hold one of the first experts: the result is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tryage.deferred import Deferred
from tryage.eligibility import excluded_by_prompt, too_long
from tryage.forecast import WideForecast
from tryage.goals import GoalInputs
from tryage.limits import ON_GOALS
from tryage.objective import Objective
from tryage.policy import ResolvedGoals
from tryage.predictors.targets import LOSS
from tryage.predictors.wide import Columns
from tryage.ranking import lowest_first, name_order
from tryage.ties import TIE

Array = NDArray[np.float64]

FIRST = 10
"""Experts of a ranking that a decision knows without computing the others."""

_BLOCKS = 16
"""Blocks that are computed at first."""

_MOST_KEPT = 8
"""Bounds the memory of what goals add, which is 1.6 MB for 200,000 experts."""


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
        predicted: WideForecast,
        task: str,
        resolved: ResolvedGoals,
        inputs: GoalInputs,
        values: Mapping[str, Array],
    ) -> Deferred:
        """Return the first experts of one prompt's ranking, and how to compute the others.

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

        added = self._added_to(predicted, task, resolved)
        if added is None:
            # Prompts change what goals add, so that nothing bounds it.
            every = totals()
            columns = np.flatnonzero(every < np.inf)
            sums = every[columns]
            make = {"totals": lambda: every}
        else:
            columns, sums = self._candidates(predicted, added, inputs)
            make = {"totals": totals}
        places = self._first(columns, sums)
        first = columns[places].tolist()
        totals_of = dict(zip(first, sums[places].tolist(), strict=True))
        make |= {"losses": lambda: predicted.losses[0], "std": lambda: predicted.std[0]}
        some = {
            "losses": lambda shown: predicted.losses_of(0, shown),
            "std": lambda shown: predicted.std_of(0, shown),
            # Beside the first, only experts that are not eligible are shown without the others.
            "totals": lambda shown: np.array([totals_of.get(c, np.inf) for c in shown.tolist()]),
        }
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

    def _candidates(
        self, predicted: WideForecast, added: _Added, inputs: GoalInputs
    ) -> tuple[Columns, Array]:
        """Return the columns of all that may be among the first, and their totals."""
        library, cells = self.objective.library, predicted.prediction.cells[LOSS]
        columns_of = predicted.columns.placed(cells)
        may_be_long = inputs.longest > library.fits_everywhere
        (shares,) = predicted.prediction.shares
        floors = cells.floors(shares) + added.floors
        waiting = np.flatnonzero(floors < np.inf)
        columns, totals = np.empty(0, dtype=np.intp), np.empty(0)
        highest, count = np.inf, _BLOCKS
        while len(waiting := waiting[floors[waiting] <= highest]):
            if count < len(waiting):
                waiting = waiting[np.argpartition(floors[waiting], count)]
            blocks, waiting = np.sort(waiting[:count]), waiting[count:]
            places, sums = columns_of[blocks], cells.means(shares, blocks) + added.totals[blocks]
            if may_be_long:
                sums[too_long(library, inputs, places)] = np.inf
            near = sums <= highest if highest < np.inf else sums < np.inf
            columns = np.concatenate([columns, places[near]])
            totals = np.concatenate([totals, sums[near]])
            if len(totals) > FIRST:
                last = np.partition(totals, FIRST)[FIRST]
                highest = max(float(last), float(totals.min()) + TIE)
            count *= 4
        return columns, totals

    def _added_to(
        self, predicted: WideForecast, task: str, resolved: ResolvedGoals
    ) -> _Added | None:
        """Return what goals add, whatever the prompt; None where that depends on the prompt."""
        if not _fixed(resolved):
            return None
        cells = predicted.prediction.cells[LOSS]
        key = (id(cells), task, tuple(resolved.weights.items()), resolved.limits)
        if key not in self._added:
            added = self._add(predicted.columns.placed(cells), task, resolved)
            if len(self._added) >= _MOST_KEPT:
                self._added.clear()
            self._added[key] = added
        return self._added[key]

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


def _fixed(resolved: ResolvedGoals) -> bool:
    """Whether prompts make no difference to what goals add and exclude."""
    on_goals = [limit.attribute for limit in resolved.limits if limit.attribute in ON_GOALS]
    names = {*resolved.weights, *on_goals}
    return not resolved.goals and all(resolved.goal(name).fixed for name in names)
