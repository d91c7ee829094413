"""The order of a decision's experts: the chosen one, the others by total and name, the excluded."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_WIDE = 512
"""Experts from which arrays are sorted instead of lists."""

_MOST_KEPT = 16


class NameOrder:
    """The places of experts by name, which all decisions over one library share.

    Args:
        names: in library order.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    @cached_property
    def columns(self) -> list[int]:
        """The columns in order of their names."""
        return sorted(range(len(self.names)), key=self.names.__getitem__)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """The place of every column by name, (m,)."""
        ranks = np.empty(len(self.names), dtype=np.int64)
        ranks[self.columns] = np.arange(len(self.names))
        return ranks

    @cached_property
    def column_of(self) -> dict[str, int]:
        """Name → column."""
        return {name: column for column, name in enumerate(self.names)}


_orders: dict[int, NameOrder] = {}


def name_order(names: tuple[str, ...]) -> NameOrder:
    """Return the order of a library's names, cached by the tuple's identity.

    Libraries are large but few, and hashing the names of a large one takes longer than a decision.
    """
    order = _orders.get(id(names))
    if order is None or order.names is not names:
        if len(_orders) >= _MOST_KEPT:
            _orders.clear()
        order = _orders[id(names)] = NameOrder(names)
    return order


def ranked_columns(
    totals: Array, names: tuple[str, ...], chosen: str, top: int | None = None
) -> list[int]:
    """Return the columns of the eligible experts: the chosen one, then by total and name.

    Args:
        totals: (m,), inf where not eligible.
        names: of the experts.
        chosen: comes first, even where another is as good up to rounding.
        top: most columns; None returns all.
    """
    order = name_order(names)
    if len(names) < _WIDE:
        listed = totals.tolist()
        columns = [column for column in order.columns if listed[column] < math.inf]
        columns.sort(key=listed.__getitem__)
        first = names.index(chosen)
    else:
        # One more, since the chosen one may stand among the first.
        columns = _lowest(totals, order.ranks, None if top is None else top + 1)
        first = order.column_of[chosen]
    return [first, *(column for column in columns if column != first)][:top]


def excluded_columns(totals: Array, names: tuple[str, ...], most: int | None) -> list[int]:
    """Return the columns of experts that are not eligible, by name, `most` at most."""
    order = name_order(names)
    if len(names) < _WIDE:
        listed = totals.tolist()
        return [column for column in order.columns if not listed[column] < math.inf][:most]
    excluded = np.flatnonzero(~(totals < np.inf))
    return _by_rank(excluded, order.ranks, most)


def _lowest(totals: Array, ranks: NDArray[np.int64], most: int | None) -> list[int]:
    """Return the eligible columns by total, then by rank, `most` at most."""
    columns = np.flatnonzero(totals < np.inf)
    if most is not None and most < len(columns):
        values = totals[columns]
        last = np.partition(values, most - 1)[most - 1]
        below = columns[values < last]
        ties = _by_rank(columns[values == last], ranks, most - len(below))
        columns = np.concatenate([below, np.array(ties, dtype=np.intp)])
    ordered: list[int] = columns[np.lexsort((ranks[columns], totals[columns]))].tolist()
    return ordered


def _by_rank(columns: NDArray[np.intp], ranks: NDArray[np.int64], most: int | None) -> list[int]:
    """Return columns in order of their ranks, `most` at most."""
    if most is not None and 0 < most < len(columns):
        columns = columns[np.argpartition(ranks[columns], most - 1)[:most]]
    ordered: list[int] = columns[np.argsort(ranks[columns])][:most].tolist()
    return ordered
