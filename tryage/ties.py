"""The tie-break: of experts with equal values the cheaper one comes first, then the first name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tryage.library import Library

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

TIE = 1e-9
"""Values closer than this are equal."""

_UNRANKED = np.iinfo(np.int64).max


def price_ranks(library: Library) -> NDArray[np.int64]:
    """Return the place of every expert by price, then name: shape (m,), lowest first.

    The price is that of one token in and one token out; experts without a price come last.
    """

    def price_and_name(column: int) -> tuple[float, str]:
        price = library.experts[column].price
        cost = (price.input + price.output) / price.per if price else float("inf")
        return cost, library.experts[column].name

    ranks = np.empty(len(library), dtype=np.int64)
    ranks[sorted(range(len(library)), key=price_and_name)] = np.arange(len(library))
    return ranks


def name_ranks(names: Sequence[str]) -> Indices:
    """Return the place of every expert by name alone, for tables without a library: shape (m,)."""
    return np.argsort(np.argsort(np.array(names)))


def lowest(values: Array, ranks: NDArray[np.integer]) -> Indices:
    """Return the column of the lowest value of each row; ties go to the first by rank.

    Args:
        values: (n, m), NaN counts as infinitely high.
        ranks: (m,) place of each expert where values tie, not necessarily 0 to m - 1.

    Returns:
        (n,) columns; -1 where no value is finite.
    """
    if len(values) == 1:  # a single decision, mostly without a tie
        (row,) = values
        best = row.argmin()
        if np.count_nonzero(row <= row[best] + TIE) == 1:
            return np.array([best if row[best] < np.inf else -1])
    minima = np.fmin.reduce(values, axis=1)
    columns = first_ranked(values <= minima[:, None] + TIE, ranks)
    return np.where(minima < np.inf, columns, -1)


def first_ranked(tied: NDArray[np.bool_], ranks: NDArray[np.integer]) -> Indices:
    """Return the column that comes first by rank among those tied in each row: shape (n,)."""
    columns: Indices = np.where(tied, ranks, _UNRANKED).argmin(axis=1)
    return columns
