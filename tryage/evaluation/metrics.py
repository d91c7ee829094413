"""Figures per prompt of choices, and their macro averages over groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tryage.errors import ScoreTableError
from tryage.evaluation.measured import (
    NO_GROUP,
    Mask,
    estimated,
    group_places,
    is_measured,
    measured_weights,
)
from tryage.scores import ScoreTable
from tryage.ties import TIE, name_ranks

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Measured:
    """What was measured on n prompts under m experts, ready to judge choices by.

    Attributes:
        losses: (n, m), lower is better, NaN where not measured; every row has a measured cell.
        penalties: (n, m) what goals add to each loss, in units of loss.
        objective: (n, m) loss plus penalty, NaN where not measured.
        costs: (n, m) USD per prompt, NaN where not measured; None where no cost was.
        groups: (n,) group of each prompt, as a position in `names`.
        names: names of the groups; one, of all prompts, where the table has none.
        grouped: whether the table has groups.
        ranks: (m,) place of each expert, which settles ties whatever the column order.
        scored: whether the losses are 1 - score.
        open_cells: (n, m) which experts may answer which prompts; the others' cells are not
            missing, and no choice.
    """

    losses: Array
    penalties: Array
    objective: Array
    costs: Array | None
    groups: Indices
    names: tuple[str, ...]
    grouped: bool
    ranks: Indices
    scored: bool
    open_cells: Mask

    @cached_property
    def measured(self) -> Mask:
        """(n, m) whether a cell's loss was measured."""
        return is_measured(self.losses)

    @cached_property
    def several(self) -> Mask:
        """(n,) whether two experts or more were measured: else there is nothing to choose."""
        many: Mask = self.measured.sum(axis=1) > 1
        return many

    @cached_property
    def is_best(self) -> Mask:
        """(n, m) whether a cell is among the best measured of its prompt; ties within 1e-9."""
        lowest = np.nanmin(self.objective, axis=1, keepdims=True)
        best: Mask = self.objective <= lowest + TIE
        return best

    @property
    def complete(self) -> bool:
        """Whether the loss of every open cell was measured."""
        return bool((self.measured | ~self.open_cells).all())

    @cached_property
    def estimated_losses(self) -> Array:
        """(n, m) estimates of all losses; see `tryage.evaluation.measured`."""
        return self._estimated(self.losses)

    @cached_property
    def estimated_objective(self) -> Array:
        """(n, m) estimates of loss plus penalty."""
        return self._estimated(self.objective)

    @cached_property
    def estimated_costs(self) -> Array | None:
        """(n, m) estimates of all costs, USD; None where no cost was measured."""
        return None if self.costs is None else self._estimated(self.costs)

    @cached_property
    def compared_objective(self) -> Array:
        """(n, m) as `estimated_objective`, by and of the prompts with several measured experts."""
        if self.several.all():
            return self.estimated_objective
        return self._of_several(lambda rows: self._estimated(self.objective, rows))

    @cached_property
    def compared_weights(self) -> Array:
        """(n, m) weights of measured cells among the prompts with several; 1 where complete."""

        def weights(rows: Indices) -> Array:
            return measured_weights(
                self.measured[rows], self.groups[rows], len(self.names), self.open_cells[rows]
            )

        return self._of_several(weights)

    def _estimated(self, values: Array, rows: Indices | None = None) -> Array:
        part = np.arange(len(values)) if rows is None else rows
        return estimated(
            values[part], self.groups[part], len(self.names), open_cells=self.open_cells[part]
        )

    def _of_several(self, of: Callable[[Indices], Array]) -> Array:
        rows = np.flatnonzero(self.several)
        cells = np.full(self.losses.shape, np.nan)
        if len(rows):
            cells[rows] = of(rows)
        return cells


@dataclass(frozen=True)
class Outcomes:
    """Figures of choices on each of n prompts; NaN where the choice has none.

    Where a single expert was measured there was nothing to choose: regret and hits are NaN there.
    Losses, costs and regrets are estimates where the table is incomplete, of use in means alone.

    Attributes:
        loss: (n,) loss of the choice, lower is better.
        regret: (n,) its objective minus that of the best measured expert, in units of loss.
        hit: (n,) 1 where the choice is among the measured best, 0 where it is not; NaN where it
            was not measured.
        strict: (n,) the same, NaN on prompts with several best.
        cost: (n,) USD of the choice; None where the table holds no costs.
        measured: (n,) share of the choice that was measured: 1 or 0 for a single choice.
        weights: (n,) what a prompt's hit counts for in a mean: 1 where nothing is missing.
        cells: how many measured cells the figures rest on.
    """

    loss: Array
    regret: Array
    hit: Array
    strict: Array
    cost: Array | None
    measured: Array
    weights: Array
    cells: int


def measured_cells(
    table: ScoreTable,
    penalties: ArrayLike | None,
    ranks: ArrayLike | None = None,
    open_cells: Mask | None = None,
) -> tuple[Measured, Indices]:
    """Prepare a table for judging choices.

    Args:
        table: one task's table.
        penalties: what goals add to each loss, in units of loss: (m,), (n, m) or None.
        ranks: (m,) place of each expert where totals tie, lowest first; None is by name.
        open_cells: (n, m) which experts may answer which prompts; the others count as not measured,
            and are not estimated. None means all.

    Returns:
        The measured cells, and the rows of the table that have any, shape (n,).

    Raises:
        ScoreTableError: nothing is measured, or the penalties do not fit the table.
    """
    may = np.ones(table.losses.shape, dtype=bool) if open_cells is None else open_cells
    rows = np.flatnonzero((is_measured(table.losses) & may).any(axis=1))
    if not len(rows):
        raise ScoreTableError("the table holds no measured cell; there is nothing to evaluate")
    added = np.zeros(1) if penalties is None else np.asarray(penalties, dtype=np.float64)
    try:
        added = np.broadcast_to(added, table.losses.shape)
    except ValueError:
        raise ScoreTableError(
            f"penalties of shape {added.shape} do not fit a table of shape {table.losses.shape}; "
            "give one per expert, or one per prompt and expert"
        ) from None
    if not np.isfinite(added).all():
        raise ScoreTableError("penalties must be finite numbers; leave ineligible experts out")
    losses = np.where(may[rows], table.losses[rows], np.nan)
    costs = table.targets.get("cost")
    groups, names = group_places([table.groups[row] for row in rows.tolist()])
    if ranks is None:
        ranks = name_ranks(table.experts)
    cells = Measured(
        losses=losses,
        penalties=added[rows],
        objective=losses + added[rows],
        costs=None if costs is None else costs[rows],
        groups=groups,
        names=names,
        grouped=any(table.groups),
        ranks=np.asarray(ranks),
        scored=table.kind == "scores",
        open_cells=may[rows],
    )
    return cells, rows


def outcomes(cells: Measured, choices: Indices, *, estimate: bool = True) -> Outcomes:
    """The figures of one chosen expert per prompt.

    Args:
        cells: the measured cells.
        choices: (n,) column of the chosen expert; a negative one has no figures.
        estimate: whether choices that were not measured are estimated; False leaves them NaN, as
            choices must be that were made by what was measured.

    Returns:
        The figures per prompt.
    """
    row = np.arange(len(choices))
    chosen = np.where(choices < 0, 0, choices)

    def pick(values: Array) -> Array:
        return np.where(choices < 0, np.nan, values[row, chosen])

    best = cells.is_best
    measured = ~np.isnan(pick(cells.losses))
    hit = np.where(measured & cells.several, best[row, chosen], np.nan)
    costs = cells.estimated_costs if estimate else cells.costs
    objective = pick(cells.compared_objective if estimate else cells.objective)
    regret = objective - np.nanmin(cells.objective, axis=1)
    return Outcomes(
        loss=pick(cells.estimated_losses if estimate else cells.losses),
        regret=np.where(cells.several, regret, np.nan),
        hit=hit,
        strict=np.where(best.sum(axis=1) == 1, hit, np.nan),
        cost=None if costs is None else pick(costs),
        measured=measured.astype(np.float64),
        weights=pick(cells.compared_weights) if estimate else np.ones(len(choices)),
        cells=int(measured.sum()),
    )


def random_outcomes(cells: Measured) -> Outcomes:
    """The expected figures of a uniform choice among the experts that may answer, exactly.

    Args:
        cells: the measured cells.

    Returns:
        The figures per prompt; hits are among the measured experts, and `measured` is the share of
        experts that were.
    """
    best = cells.is_best
    hit = np.where(cells.several, best.sum(axis=1) / cells.measured.sum(axis=1), np.nan)
    lowest = np.nanmin(cells.objective, axis=1)
    regret = mean_over(cells.compared_objective - lowest[:, None])
    if cells.complete:  # of equal experts it is zero whatever the rounding
        regret = np.maximum(regret, 0.0)
    return Outcomes(
        loss=mean_over(cells.estimated_losses),
        regret=np.where(cells.several, regret, np.nan),
        hit=hit,
        strict=np.where(best.sum(axis=1) == 1, hit, np.nan),
        cost=None if cells.estimated_costs is None else mean_over(cells.estimated_costs),
        measured=cells.measured.mean(axis=1),
        weights=np.ones(len(hit)),
        cells=int(cells.measured.sum()),
    )


def mean_over(values: Array, axis: int = 1) -> Array:
    """The mean of what is not NaN along an axis; NaN where all of it is."""
    present = ~np.isnan(values)
    count = present.sum(axis=axis)
    total = np.where(present, values, 0.0).sum(axis=axis)
    mean: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def group_means(
    values: Array, groups: Indices, n_groups: int, weights: Array | None = None
) -> Array:
    """The mean of each group, over what is not NaN.

    Args:
        values: (n,) figures per prompt.
        groups: (n,) group of each prompt.
        n_groups: number of groups.
        weights: (n,) what each figure counts for; None means 1.

    Returns:
        (n_groups,) means; NaN where a group has none.
    """
    present = ~np.isnan(values)
    weights = np.ones(len(values)) if weights is None else weights
    weights = weights[present]
    total = np.bincount(groups[present], weights=weights * values[present], minlength=n_groups)
    count = np.bincount(groups[present], weights=weights, minlength=n_groups)
    means: Array = np.where(count > 0, total / np.where(count > 0, count, 1.0), np.nan)
    return means


def macro_shares(groups: Sequence[str | None]) -> Array:
    """The weight of each prompt in a macro average over groups: shape (n,), sum 1."""
    names = [group or NO_GROUP for group in groups]
    _, place, counts = np.unique(names, return_inverse=True, return_counts=True)
    shares: Array = 1.0 / (len(counts) * counts[place])
    return shares


def macro_mean(values: Array, cells: Measured, weights: Array | None = None) -> float:
    """The macro average: the mean of the groups' means; groups without a figure are left out.

    Args:
        values: (n,) figures per prompt, NaN where there is none.
        cells: the prompts' groups.
        weights: (n,) what each figure counts for within its group; None means 1.

    Returns:
        The mean; NaN where no prompt has a figure.
    """
    means = group_means(values, cells.groups, len(cells.names), weights)
    return float(mean_over(means, axis=0))
