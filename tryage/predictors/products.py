"""Matrix products whose rows do not depend on each other, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating[Any]]


def by_row(rows: Numbers, matrix: Numbers) -> Numbers:
    """Return ``rows @ matrix``, each row multiplied by itself.

    Libraries add up in another order for several rows than for one, so the last bits of a row
    would depend on how many there are. Small matrices cost a microsecond a row more.

    Args:
        rows: (n, d).
        matrix: (d, k).

    Returns:
        (n, k).
    """
    if len(rows) == 1:
        return rows @ matrix
    product: Numbers = np.matmul(rows[:, None, :], matrix)[:, 0]
    return product
