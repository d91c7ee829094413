"""Short names of experts and groups, for tables and plots."""

from __future__ import annotations

from collections.abc import Sequence

from tryage.drawing.beginnings import beginning

_LONGEST_NAME = 28


def short_names(names: Sequence[str], longest: int = _LONGEST_NAME) -> list[str]:
    """Return names that fit beside a plot, distinct where the names are.

    What stands before the last slash is left out where the rest tells the names apart.
    """
    tails = [name.rstrip("/").rpartition("/")[2] or name for name in names]
    if len(set(tails)) < len(set(names)):
        tails = list(names)
    tails = [beginning(tail, 4 * longest) for tail in tails]
    cut = [
        tail if len(tail) <= longest else f"{tail[: longest // 2]}…{tail[-(longest // 2) :]}"
        for tail in tails
    ]
    counts: dict[str, int] = {}
    distinct = []
    for name in cut:
        counts[name] = counts.get(name, 0) + 1
        distinct.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return distinct
