"""Cells of thousands of experts: read only where they are needed, in single precision.

Nearly all of the time of a decision among thousands of experts is spent on reading numbers, so this
stores them in blocks of similar experts, with a lower bound of every block's losses in each cell.
Sums are made number by number in the order of the cells, not by a matrix product: an expert gets
the same bits whichever others are computed beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.predictors.targets import LOSS, Floats, Prediction, Targets

BLOCK = 64
"""Experts whose losses are bounded together."""

_AT_ONCE = 256
"""Blocks that a core's cache holds: so many are summed at once."""

_LEAST_WEIGHT = 1e-7
"""Cells with at most this weight are left out; the weights of a prompt sum to 1."""

_LARGEST = 1e18
"""Numbers whose squares fit in single precision."""

_DIRECTIONS = 8
_SAMPLE = 2000

Singles = NDArray[np.float32]
Columns = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """How much each cell counts for a prompt, without the cells that hardly do.

    Attributes:
        cells: (k,) numbers of cells; none where the experts' averages count instead.
        share: (k,) their weights.
    """

    cells: Columns
    share: Singles

    @classmethod
    def of(cls, weights: Floats) -> Shares:
        """Return the shares of all cells' weights, (cells,)."""
        near = np.flatnonzero(weights > _LEAST_WEIGHT)
        return cls(near, weights[near].astype(np.float32))


_AVERAGES = Shares(np.empty(0, dtype=np.intp), np.empty(0, dtype=np.float32))


class WideCells:
    """The shifts and errors of one target's cells under m experts.

    A place is where an expert is stored: (block, number in the block). The last block is filled up
    with places of nobody, whose values are infinite.

    Args:
        averages: (m,) of the experts.
        shifts: (cells, m) cell means minus averages.
        errors: (cells, m) standard errors of the cell means.
        order: (m,) experts in the order of their places; None puts similar ones side by side.

    Attributes:
        order: as above.
        shape: blocks, and places in each.
    """

    def __init__(
        self,
        averages: Floats,
        shifts: NDArray[np.floating[Any]],
        errors: NDArray[np.floating[Any]],
        order: Columns | None = None,
    ) -> None:
        m = len(averages)
        shifts = np.asarray(shifts, dtype=np.float32)
        self.order = similar_first(averages, shifts) if order is None else order
        self.shape = (-(-m // BLOCK), BLOCK)
        self._places = np.empty(m, dtype=np.intp)
        self._places[self.order] = np.arange(m)
        self._averages = np.full(self.shape, np.inf)
        self._averages.reshape(-1)[:m] = averages[self.order]
        self._shifts = self._packed(shifts)
        self._errors = self._packed(errors)
        self._floor_of_averages: Floats = self._averages.min(axis=1)
        self._floors = np.empty((len(shifts), self.shape[0]), dtype=np.float32)
        for floors, shift in zip(self._floors, self._shifts, strict=True):
            floors[:] = (self._averages + shift).min(axis=1)
        self._scale = max(1.0, *(float(np.abs(a).max()) for a in (averages, self._floors)))

    @staticmethod
    def holds(*arrays: NDArray[np.floating[Any]]) -> bool:
        """Whether numbers and their squares fit in single precision."""
        # Row by row, since the arrays are large.
        return all(bool((np.abs(row) < _LARGEST).all()) for array in arrays for row in array)

    def _packed(self, values: NDArray[np.floating[Any]]) -> Singles:
        packed = np.zeros((len(values), self.shape[0] * BLOCK), dtype=np.float32)
        for row, unordered in zip(packed, values, strict=True):
            row[: len(self.order)] = unordered[self.order]
        return packed.reshape(len(values), *self.shape)

    def unpacked(self) -> dict[str, Singles]:
        """Return shifts and errors, each (cells, m), in the order of the experts."""
        flat = {"shifts": self._shifts, "errors": self._errors}
        return {
            name: values.reshape(len(values), -1)[:, self._places] for name, values in flat.items()
        }

    def floors(self, shares: Shares) -> Floats:
        """Return a number that no value of a block is below, (blocks,)."""
        if not len(shares.cells):
            return self._floor_of_averages
        # Rounding, and the cells that are left out.
        slack = 1e-5 + abs(1.0 - float(shares.share.sum()))
        floors: Floats = (shares.share @ self._floors[shares.cells]).astype(np.float64)
        floors -= slack * self._scale
        return floors

    def means(self, shares: Shares, blocks: NDArray[np.intp]) -> Floats:
        """Return the expected values of blocks, (n, BLOCK).

        Args:
            shares: of the prompt.
            blocks: (n,) their numbers, ascending.
        """
        means = self._averages[blocks]
        for start in range(0, len(blocks), _AT_ONCE):
            end = min(start + _AT_ONCE, len(blocks))
            first, last = blocks[start], blocks[end - 1]
            if last - first < 2 * (end - start):  # faster to read than to pick
                shift = self._shift(shares, slice(first, last + 1))[blocks[start:end] - first]
            else:
                shift = self._shift(shares, blocks[start:end])
            means[start:end] += shift
        return means

    def all_means(self, shares: Shares) -> Floats:
        """Return the expected value of every expert, (m,)."""
        return self._of_all(self._averages, lambda blocks: self._shift(shares, blocks))

    def all_deviations(self, shares: Shares) -> Floats:
        """Return the standard error of every expert's value, (m,)."""
        return self._of_all(0.0, lambda blocks: self._deviation(shares, blocks))

    def means_of(self, shares: Shares, experts: Columns) -> Floats:
        """Return the expected values of some experts, (n,)."""
        means: Floats = self._averages.reshape(-1)[self._places[experts]]
        return means + _sum(self._picked(self._shifts, shares, experts) * shares.share[:, None])

    def deviations_of(self, shares: Shares, experts: Columns) -> Floats:
        """Return the standard errors of some experts' values, (n,)."""
        share = shares.share[:, None]
        one = self._picked(self._shifts, shares, experts)
        error = self._picked(self._errors, shares, experts)
        square = _sum(share * (one * one + error * error))
        return np.asarray(_deviation(_sum(one * share), square), dtype=np.float64)

    def _picked(self, stored: Singles, shares: Shares, experts: Columns) -> Singles:
        """Return what is stored of some experts in the cells that count, (k, n)."""
        picked: Singles = stored.reshape(len(stored), -1)[
            shares.cells[:, None], self._places[experts]
        ]
        return picked

    def _of_all(self, base: Any, part: Callable[[slice], Singles]) -> Floats:
        values = np.empty(self.shape)
        values[:] = base
        for start in range(0, len(values), _AT_ONCE):
            blocks = slice(start, start + _AT_ONCE)
            values[blocks] += part(blocks)
        return values.reshape(-1)[self._places]

    def _shift(self, shares: Shares, blocks: Any) -> Singles:
        """Return what the cells add to the averages of blocks, (n, BLOCK)."""
        shift = np.zeros((1, 1), dtype=np.float32)
        for cell, share in zip(shares.cells, shares.share, strict=True):
            part = self._shifts[cell][blocks] * share
            shift = np.add(shift, part, out=part)
        return shift if len(shares.cells) else np.zeros_like(self._shifts[0][blocks])

    def _deviation(self, shares: Shares, blocks: slice) -> Singles:
        square = np.zeros((1, 1), dtype=np.float32)
        for cell, share in zip(shares.cells, shares.share, strict=True):
            one, error = self._shifts[cell][blocks], self._errors[cell][blocks]
            square = square + share * (one * one + error * error)
        return _deviation(self._shift(shares, blocks), square)


def _sum(parts: Singles) -> Singles:
    """Return the sum of rows, in their order whatever the number of columns, (n,)."""
    if not len(parts):
        return np.zeros(parts.shape[1], dtype=np.float32)
    total: Singles = np.add.accumulate(parts, axis=0)[-1]
    return total


def _deviation(shift: Singles, square: Singles) -> Singles:
    """Combine the errors of the cells with their disagreement."""
    deviation: Singles = np.sqrt(np.maximum(square - shift * shift, np.float32(0)))
    return deviation


class PackedArrays(Mapping[str, NDArray[Any]]):
    """The fitted arrays of a target, of which shifts and errors are unpacked when asked for.

    Args:
        cells: hold shifts and errors.
        others: name → array.
    """

    def __init__(self, cells: WideCells, others: Mapping[str, NDArray[Any]]) -> None:
        self.cells = cells
        self._others = dict(others)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._others[name] if name in self._others else self.cells.unpacked()[name]

    def __iter__(self) -> Any:
        return iter(("shifts", "errors", *self._others))

    def __len__(self) -> int:
        return 2 + len(self._others)


class WidePrediction(Prediction):
    """A prediction whose values are computed when they are looked at.

    Attributes:
        cells: target → its cells.
        shares: of every prompt, for the expected values.
        error_shares: of every prompt, for the standard errors.
    """

    __slots__ = ("_mean", "_std", "cells", "error_shares", "shares")

    cells: Mapping[str, WideCells]
    shares: tuple[Shares, ...]
    error_shares: tuple[Shares, ...]

    def __init__(
        self,
        cells: Mapping[str, WideCells],
        shares: Sequence[Shares],
        error_shares: Sequence[Shares],
        ood: NDArray[np.bool_],
        likeness: NDArray[np.floating[Any]],
    ) -> None:
        parts: dict[str, Any] = {"ood": ood, "likeness": likeness, "cells": cells}
        parts |= {"shares": tuple(shares), "error_shares": tuple(error_shares)}
        parts |= {"_mean": None, "_std": None}
        for name, value in parts.items():
            object.__setattr__(self, name, value)

    @property
    def mean(self) -> Targets:
        """As of any prediction."""
        return self._targets("_mean", self.shares, WideCells.all_means)

    @property
    def std(self) -> Targets:
        """As of any prediction."""
        return self._targets("_std", self.error_shares, WideCells.all_deviations)

    def _targets(self, slot: str, shares: Sequence[Shares], whole: Any) -> Targets:
        targets: Targets | None = getattr(self, slot)
        if targets is None:
            targets = {
                name: np.stack([whole(cells, row) for row in shares])
                for name, cells in self.cells.items()
            }
            object.__setattr__(self, slot, targets)
        return targets

    def row(self, number: int) -> WidePrediction:
        """Return the prediction of one prompt."""
        part = slice(number, number + 1)
        likeness = self.likeness[part]
        shares, error_shares = self.shares[part], self.error_shares[part]
        return WidePrediction(self.cells, shares, error_shares, self.ood[part], likeness)

    def other_means(self) -> Targets:
        """Return the expected values of the targets other than the loss."""
        return {
            name: np.stack([cells.all_means(row) for row in self.shares])
            for name, cells in self.cells.items()
            if name != LOSS
        }

    def with_averages(self, averages: Targets) -> WidePrediction:
        """As of any prediction; `averages` are those of the cells."""
        shares = [_AVERAGES if out else row for out, row in zip(self.ood, self.shares, strict=True)]
        return WidePrediction(self.cells, shares, self.error_shares, self.ood, self.likeness)

    def with_ood(self, ood: NDArray[np.bool_]) -> WidePrediction:
        """As of any prediction."""
        return WidePrediction(self.cells, self.shares, self.error_shares, ood, self.likeness)

    def with_rows(self, rows: Mapping[int, tuple[Prediction, int]]) -> Prediction:
        """As of any prediction."""
        shares, error_shares = list(self.shares), list(self.error_shares)
        for row, (other, place) in rows.items():
            if not isinstance(other, WidePrediction):
                return super().with_rows(rows)
            shares[row], error_shares[row] = other.shares[place], other.error_shares[place]
        ood = self.ood.copy()
        ood[list(rows)] = False
        return WidePrediction(self.cells, shares, error_shares, ood, self.likeness)


def similar_first(averages: Floats, shifts: Singles) -> Columns:
    """Return the experts in an order in which each block of `BLOCK` holds similar ones.

    All experts are halved again and again, each time along that one of the main directions of
    their cell means in which they differ most.

    Args:
        averages: (m,) of the experts.
        shifts: (cells, m) cell means minus averages.
    """
    m = len(averages)
    some = np.random.default_rng(0).permutation(m)[:_SAMPLE]
    sample = averages[some] + shifts[:, some]
    centred = sample - sample.mean(axis=1, keepdims=True)
    _, directions = np.linalg.eigh(centred @ centred.T)
    main = directions[:, -_DIRECTIONS:].T.astype(np.float32)  # (d, cells)
    views = main @ shifts + main.sum(axis=1, keepdims=True) * averages.astype(np.float32)
    order = np.arange(m)
    parts = [(0, m)]
    while parts:
        start, end = parts.pop()
        if end - start <= BLOCK:
            continue
        own = order[start:end]
        part = views[:, own]
        view = part[int((part.max(axis=1) - part.min(axis=1)).argmax())]
        half = (-(-(end - start) // BLOCK) // 2) * BLOCK
        order[start:end] = own[np.argpartition(view, half - 1)]
        parts += [(start, start + half), (start + half, end)]
    return order
