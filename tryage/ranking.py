"""The order of a decision's experts: the chosen one, the others by total and name, the excluded."""

from __future__ import annotations

import itertools
import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tryage.deferred import Deferred

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


def is_wide(names: tuple[str, ...]) -> bool:
    """Whether there are so many experts that arrays are sorted instead of lists."""
    return len(names) >= _WIDE


def first_columns(deferred: Deferred, names: tuple[str, ...], top: int) -> list[int] | None:
    """Return the first `top` columns of a decision's ranking, those of the excluded included.

    None where more are needed than are known.
    """
    first = deferred.first
    if top <= len(first):
        return list(first[:top])
    if not deferred.complete:
        return None
    excluded = (column for column in name_order(names).columns if column not in first)
    return [*first, *itertools.islice(excluded, top - len(first))]


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
        eligible = np.flatnonzero(totals < np.inf)
        most = None if top is None else top + 1
        places = lowest_first(totals[eligible], order.ranks[eligible], most)
        columns = eligible[places].tolist()
        first = order.column_of[chosen]
    return [first, *(column for column in columns if column != first)][:top]


def excluded_columns(totals: Array, names: tuple[str, ...], most: int | None) -> list[int]:
    """Return the columns of experts that are not eligible, by name, `most` at most."""
    order = name_order(names)
    if len(names) < _WIDE:
        listed = totals.tolist()
        return [column for column in order.columns if not listed[column] < math.inf][:most]
    excluded = np.flatnonzero(~(totals < np.inf))
    ordered: list[int] = _by_rank(excluded, order.ranks, most).tolist()
    return ordered


def lowest_first(totals: Array, ranks: NDArray[np.int64], most: int | None) -> NDArray[np.intp]:
    """Return the places of totals in order, those that are equal by rank, `most` at most."""
    places = np.arange(len(totals))
    if most is not None and 0 < most < len(totals):
        last = np.partition(totals, most - 1)[most - 1]
        below, tied = np.flatnonzero(totals < last), np.flatnonzero(totals == last)
        places = np.concatenate([below, _by_rank(tied, ranks, most - len(below))])
    order: NDArray[np.intp] = places[np.lexsort((ranks[places], totals[places]))]
    return order


def _by_rank(
    columns: NDArray[np.intp], ranks: NDArray[np.int64], most: int | None
) -> NDArray[np.intp]:
    """Return columns in order of their ranks, `most` at most."""
    if most is not None and 0 < most < len(columns):
        columns = columns[np.argpartition(ranks[columns], most - 1)[:most]]
    return columns[np.argsort(ranks[columns])][:most]
