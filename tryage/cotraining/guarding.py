"""The guard against forgetting: whether an expert's update made it too much worse somewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST = 5
"""Prompts of a group below which it is judged together with other small ones."""

_OTHERS = "small groups"


def forgotten(
    groups: Sequence[str], judged: NDArray[np.bool_], before: Floats, after: Floats, bound: float
) -> str | None:
    """Return why an update is rolled back, or None.

    The mean loss of each group may rise by the share `bound` of what it was. Groups of fewer than
    five judged prompts are put together, and judged if they are five then.

    Args:
        groups: of n prompts that the expert was not trained on.
        judged: (n,) prompts that count.
        before: (n,) losses of the expert without the update, NaN where not measured.
        after: (n,) losses with it.
        bound: as a share, such as 0.05.
    """
    lost = int((np.isnan(after) & ~np.isnan(before)).sum())
    if lost:
        return f"it can no longer be measured on {lost} of {len(after)} prompts"
    counts = judged & ~np.isnan(before)
    names = np.array(groups, dtype=object)
    sizes = {group: int((counts & (names == group)).sum()) for group in dict.fromkeys(groups)}
    small = [group for group, size in sizes.items() if size < _LEAST]
    names[np.isin(names.astype(str), small)] = _OTHERS
    for group in dict.fromkeys(names.tolist()):
        rows = counts & (names == group)
        if rows.sum() < _LEAST:
            continue
        old, new = float(before[rows].mean()), float(after[rows].mean())
        if new > old * (1 + bound):
            return (
                f"its loss on {group!r} rose from {old:.4f} to {new:.4f}, more than "
                f"{bound:.1%}, over {int(rows.sum())} prompts"
            )
    return None
