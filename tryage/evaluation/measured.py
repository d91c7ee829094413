"""What is measured, and the one estimate of what is not: every figure takes its cells from here.

Where each cell of a table was measured, a figure is a mean of cells. Where some are missing, a mean
of the prompts that are left would be one of other prompts. So a missing cell is estimated, and a
measured one corrected, such that sums of cells have the right expectation (a doubly robust or
augmented inverse-propensity estimate; Robins, Rotnitzky and Zhao, 1994; for choices Dudik, Langford
and Li, 2011)::

    cell = model + measured / share * (value - model)

`share` is the share of the prompts of the cell's group on which its expert was measured, and
`model` what the other cells say of this one: the mean of its expert in its group, without its own
prompt, plus how much better or worse other experts did on its prompt than elsewhere. A router's
predictions have no part in it.

The assumption is that within a group a cell is missing by chance, or by which expert it is, and not
by its value. Then, given how many cells were measured, each estimate has the expectation of the
cell, whatever the model says. It is no figure to be read alone: it may lie outside the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

NO_GROUP = "(no group)"
"""Group of the prompts without one in a table with groups."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many cells figures rest on.

    Attributes:
        measured: cells that were measured.
        possible: cells that could have been.
    """

    measured: int
    possible: int

    @classmethod
    def of(cls, measured: Mask, open_cells: Mask) -> Counts:
        """Count cells, both (n, m)."""
        return cls(int((measured & open_cells).sum()), int(open_cells.sum()))

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.measured == self.possible

    def to_dict(self) -> dict[str, int]:
        """Return the object that `--json` holds as `cells`."""
        return {"measured": self.measured, "possible": self.possible}

    def __str__(self) -> str:
        return f"{self.measured:,} of {self.possible:,} cells measured"


def is_measured(*arrays: Array) -> Mask:
    """Mask of the cells that have a value in each of some arrays of one shape."""
    measured: Mask = np.logical_and.reduce([~np.isnan(values) for values in arrays])
    return measured


def group_places(groups: Sequence[str | None]) -> tuple[Indices, tuple[str, ...]]:
    """Return each prompt's group as a position, (n,), and the groups' names."""
    names = [group or NO_GROUP for group in groups]
    order = tuple(dict.fromkeys(names))
    position = {name: number for number, name in enumerate(order)}
    return np.array([position[name] for name in names], dtype=np.intp), order


def group_sums(values: Array, groups: Indices, count: int) -> Array:
    """Return the sums of the columns within each group: (n, m) gives (count, m)."""
    columns = [np.bincount(groups, weights=column, minlength=count) for column in values.T]
    return np.stack(columns, axis=1)


def measured_shares(measured: Mask, groups: Indices, count: int, open_cells: Mask) -> Array:
    """Return the share of a cell's expert and group that was measured, (n, m), 0 to 1.

    Args:
        measured: (n, m) or (n, 1).
        groups: (n,) group of each prompt.
        count: number of groups.
        open_cells: of the shape of `measured`, the cells that could have been measured.
    """
    numbers = group_sums((measured & open_cells).astype(np.float64), groups, count)
    all_cells = group_sums(open_cells.astype(np.float64), groups, count)
    shares: Array = (numbers / np.maximum(all_cells, 1.0))[groups]
    return shares


def measured_weights(
    measured: Mask, groups: Indices, count: int, open_cells: Mask | None = None
) -> Array:
    """Return 1 / share for measured cells and 0 for the others; arguments as `measured_shares`."""
    cells = np.ones_like(measured) if open_cells is None else open_cells
    shares = measured_shares(measured, groups, count, cells)
    return np.divide(1.0, shares, out=np.zeros_like(shares), where=measured & cells)


def estimated(
    values: Array, groups: Indices, count: int, *, open_cells: Mask | None = None
) -> Array:
    """Return the estimate of every cell; the values themselves where nothing is missing.

    Args:
        values: (n, m) measured values of any unit, NaN where not measured.
        groups: (n,) group of each prompt.
        count: number of groups.
        open_cells: (n, m) cells that could have been measured; None means all.

    Returns:
        (n, m); NaN where a cell is not open, and for experts without any measured cell.
    """
    measured = is_measured(values)
    open_cells = np.ones_like(measured) if open_cells is None else open_cells
    if (measured | ~open_cells).all() or not (measured & open_cells).any():
        return np.where(open_cells, values, np.nan)
    weights = measured_weights(measured, groups, count, open_cells)
    model = modelled(np.where(open_cells, values, np.nan), groups, count)
    corrected = model + weights * (np.where(measured, values, model) - model)
    # Exactly the value where a group's cells were all measured.
    cells: Array = np.where(weights == 1.0, values, corrected)
    cells[~open_cells | ~(measured & open_cells).any(axis=0)] = np.nan
    return cells


def modelled(values: Array, groups: Indices, count: int) -> Array:
    """Return what the other cells say of each cell, (n, m); arguments as `estimated`.

    It is the mean of the expert's other cells in the group, plus the prompt's difficulty: the mean
    standardised residual of the other experts on the prompt, shrunk as if any two experts'
    residuals had the same correlation. A cell's own value has no part in it. An expert with less
    than two cells in the group gets what it is better or worse elsewhere, added to the group's
    level.
    """
    measured = is_measured(values)
    filled = np.where(measured, values, 0.0)
    numbers = group_sums(measured.astype(np.float64), groups, count)
    sums = group_sums(filled, groups, count)
    # With one measured cell the other prompts would have a mean and its own prompt none.
    several = numbers[groups] > 1
    means = (sums[groups] - filled) / np.maximum(numbers[groups] - measured, 1.0)
    model: Array = np.where(several, means, _elsewhere(sums, numbers)[groups])
    residual = np.where(measured & several, values - model, 0.0)
    model += _difficulty(residual, measured & several)
    return np.clip(model, np.nanmin(values), np.nanmax(values))


def _elsewhere(sums: Array, numbers: Array) -> Array:
    """Return each expert's level in each group by the other groups and experts, (groups, m).

    Args:
        sums: (groups, m) sums of the measured values.
        numbers: (groups, m) how many they are.
    """
    present = numbers > 0
    means = sums / np.maximum(numbers, 1.0)
    overall = sums.sum() / max(numbers.sum(), 1.0)

    def without_own(values: Array, axis: int) -> Array:
        """Mean of the other present values along an axis; NaN where there is none."""
        number: Array = present.sum(axis=axis, keepdims=True) - present.astype(np.float64)
        filled: Array = np.where(present, values, 0.0)
        total: Array = filled.sum(axis=axis, keepdims=True) - filled
        mean: Array = np.where(number > 0, total / np.maximum(number, 1), np.nan)
        return mean

    level = np.nan_to_num(without_own(means, 1), nan=overall)  # of the group, by the others
    better = np.nan_to_num(without_own(means - level, 0), nan=0.0)  # of the expert, elsewhere
    rest = np.nan_to_num(without_own(means - better, 1), nan=overall)
    return rest + better


def _difficulty(residual: Array, measured: Mask) -> Array:
    """Return what the other experts' residuals on a prompt add to each cell, (n, m).

    Args:
        residual: (n, m) value minus mean, 0 where there is none.
        measured: (n, m) where there is one.
    """
    spread = np.sqrt(np.square(residual).sum(axis=0) / np.maximum(measured.sum(axis=0), 1))
    scaled = np.divide(residual, spread, out=np.zeros_like(residual), where=spread > 1e-12)
    number = measured.sum(axis=1, keepdims=True)
    total = scaled.sum(axis=1, keepdims=True)
    pairs = float((number * (number - 1)).sum())
    # The mean product of two experts' residuals on one prompt.
    alike = float((np.square(total) - np.square(scaled).sum(axis=1, keepdims=True)).sum())
    correlation = min(alike / pairs, 1.0) if pairs else 0.0
    if correlation <= 0.0:
        return np.zeros_like(residual)
    rest = number - measured
    shrunk = (total - scaled) / (np.maximum(rest, 1) - 1.0 + 1.0 / correlation)
    added: Array = spread * np.where(rest > 0, shrunk, 0.0)
    return added
