"""Figures per prompt of choices, and their macro averages over groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tryage.errors import ScoreTableError
from tryage.scores import ScoreTable
from tryage.ties import TIE, name_ranks

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

NO_GROUP = "(no group)"
"""Group of the prompts without one in a table with groups."""


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

    @property
    def several(self) -> NDArray[np.bool_]:
        """(n,) whether two experts or more were measured: else there is nothing to choose."""
        many: NDArray[np.bool_] = (~np.isnan(self.losses)).sum(axis=1) > 1
        return many

    @property
    def is_best(self) -> NDArray[np.bool_]:
        """(n, m) whether a cell is among the best measured of its prompt; ties within 1e-9."""
        lowest = np.nanmin(self.objective, axis=1, keepdims=True)
        best: NDArray[np.bool_] = self.objective <= lowest + TIE
        return best


@dataclass(frozen=True)
class Outcomes:
    """Figures of choices on each of n prompts; NaN where the choice was not measured.

    Where a single expert was measured there was nothing to choose: regret and hits are NaN there.

    Attributes:
        loss: (n,) measured loss of the choice, lower is better.
        regret: (n,) its objective minus the oracle's, in units of loss, 0 and above.
        hit: (n,) 1 where the choice is among the measured best, 0 where it is not.
        strict: (n,) the same, NaN on prompts with several best.
        cost: (n,) USD of the choice; None where the table holds no costs.
        measured: (n,) share of the choice that was measured: 1 or 0 for a single choice.
    """

    loss: Array
    regret: Array
    hit: Array
    strict: Array
    cost: Array | None
    measured: Array


def measured_cells(
    table: ScoreTable, penalties: ArrayLike | None, ranks: ArrayLike | None = None
) -> tuple[Measured, Indices]:
    """Prepare a table for judging choices.

    Args:
        table: one task's table.
        penalties: what goals add to each loss, in units of loss: (m,), (n, m) or None.
        ranks: (m,) place of each expert where totals tie, lowest first; None is by name.

    Returns:
        The measured cells, and the rows of the table that have any, shape (n,).

    Raises:
        ScoreTableError: nothing is measured, or the penalties do not fit the table.
    """
    rows = np.flatnonzero(~np.isnan(table.losses).all(axis=1))
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
    losses = table.losses[rows]
    costs = table.targets.get("cost")
    names = [table.groups[row] or NO_GROUP for row in rows.tolist()]
    grouped = any(table.groups)
    order = tuple(dict.fromkeys(names))
    position = {name: number for number, name in enumerate(order)}
    if ranks is None:
        ranks = name_ranks(table.experts)
    cells = Measured(
        losses=losses,
        penalties=added[rows],
        objective=losses + added[rows],
        costs=None if costs is None else costs[rows],
        groups=np.array([position[name] for name in names], dtype=np.intp),
        names=order,
        grouped=grouped,
        ranks=np.asarray(ranks),
        scored=table.kind == "scores",
    )
    return cells, rows


def outcomes(cells: Measured, choices: Indices) -> Outcomes:
    """The figures of one chosen expert per prompt.

    Args:
        cells: the measured cells.
        choices: (n,) column of the chosen expert; a negative one counts as not measured.

    Returns:
        The figures per prompt.
    """
    row = np.arange(len(choices))
    chosen = np.where(choices < 0, 0, choices)

    def pick(values: Array) -> Array:
        return np.where(choices < 0, np.nan, values[row, chosen])

    loss, objective = pick(cells.losses), pick(cells.objective)
    best = cells.is_best
    measured = ~np.isnan(loss)
    hit = np.where(measured & cells.several, best[row, chosen], np.nan)
    regret = objective - np.nanmin(cells.objective, axis=1)
    return Outcomes(
        loss=loss,
        regret=np.where(cells.several, regret, np.nan),
        hit=hit,
        strict=np.where(best.sum(axis=1) == 1, hit, np.nan),
        cost=None if cells.costs is None else np.where(measured, pick(cells.costs), np.nan),
        measured=measured.astype(np.float64),
    )


def random_outcomes(cells: Measured) -> Outcomes:
    """The expected figures of a uniform choice among the measured experts, exactly.

    Args:
        cells: the measured cells.

    Returns:
        The figures per prompt; `measured` is the share of experts that were.
    """
    measured = ~np.isnan(cells.losses)
    best = cells.is_best
    hit = np.where(cells.several, best.sum(axis=1) / measured.sum(axis=1), np.nan)
    lowest = np.nanmin(cells.objective, axis=1)
    regret = np.maximum(mean_over(cells.objective - lowest[:, None]), 0.0)
    return Outcomes(
        loss=mean_over(cells.losses),
        regret=np.where(cells.several, regret, np.nan),
        hit=hit,
        strict=np.where(best.sum(axis=1) == 1, hit, np.nan),
        cost=None if cells.costs is None else mean_over(np.where(measured, cells.costs, np.nan)),
        measured=measured.mean(axis=1),
    )


def mean_over(values: Array, axis: int = 1) -> Array:
    """The mean of what is not NaN along an axis; NaN where all of it is."""
    present = ~np.isnan(values)
    count = present.sum(axis=axis)
    total = np.where(present, values, 0.0).sum(axis=axis)
    mean: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def group_means(values: Array, groups: Indices, n_groups: int) -> Array:
    """The mean of each group, over what is not NaN.

    Args:
        values: (n,) figures per prompt.
        groups: (n,) group of each prompt.
        n_groups: number of groups.

    Returns:
        (n_groups,) means; NaN where a group has none.
    """
    present = ~np.isnan(values)
    total = np.bincount(groups[present], weights=values[present], minlength=n_groups)
    count = np.bincount(groups[present], minlength=n_groups)
    means: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def macro_shares(groups: Sequence[str | None]) -> Array:
    """The weight of each prompt in a macro average over groups: shape (n,), sum 1."""
    names = [group or NO_GROUP for group in groups]
    _, place, counts = np.unique(names, return_inverse=True, return_counts=True)
    shares: Array = 1.0 / (len(counts) * counts[place])
    return shares


def macro_mean(values: Array, cells: Measured) -> float:
    """The macro average: the mean of the groups' means; groups without a figure are left out.

    Args:
        values: (n,) figures per prompt, NaN where there is none.
        cells: the prompts' groups.

    Returns:
        The mean; NaN where no prompt has a figure.
    """
    means = group_means(values, cells.groups, len(cells.names))
    return float(mean_over(means, axis=0))
