"""Keys that nobody reads but that look like one that somebody does: `cost` for `costs`."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Mapping

from tryage.errors import TryageWarning

_CLOSE = 0.8
"""Least similarity of two names, 0 to 1, from which one may be meant by the other."""

_LONGEST = 40
"""Characters of a name from which nothing is compared any more."""

_MEANT = {
    "cost": "costs",
    "costs": "cost",
    "id": "prompt_id",
    "loss": "losses",
    "losses": "loss",
    "latencies": "latency",
    "price": "costs",
    "probability": "probabilities",
    "probabilities": "probability",
    "prompt_id": "id",
    "score": "scores",
    "scores": "score",
}
"""What names of other places, in the plural or without it, mean here."""


def near_miss(key: str, names: Iterable[str]) -> str | None:
    """Return the name that a key is probably meant for; None where it is like none.

    Args:
        key: one that is not among the names.
        names: those that are read.
    """
    if not isinstance(key, str) or len(key) > _LONGEST:
        return None
    plain = key.strip().lower().replace("-", "_").replace(" ", "_")
    known_names = list(names)
    if plain in known_names:
        return plain
    meant = _MEANT.get(plain)
    if meant in known_names:
        return meant
    close = difflib.get_close_matches(plain, known_names, n=1, cutoff=_CLOSE)
    return close[0] if close else None


def warn_of_near_misses(
    keys: Iterable[str], names: Iterable[str], source: str, *, stacklevel: int = 2
) -> None:
    """Warn of keys that are not read, but that look like names which are and do not occur.

    Args:
        keys: all keys that occur.
        names: those that are read.
        source: where they stand.
        stacklevel: as in `warnings.warn`.
    """
    names = tuple(names)
    present = dict.fromkeys(keys)
    meant: dict[str, str] = {}
    for key in present:
        name = None if key in names else near_miss(key, names)
        if name is not None and name not in present:
            meant[key] = name
    if meant:
        warnings.warn(_sentence(source, meant), TryageWarning, stacklevel=stacklevel + 1)


def _sentence(source: str, meant: Mapping[str, str]) -> str:
    pairs = ", ".join(f"{key!r} (did you mean {name!r}?)" for key, name in meant.items())
    return f"{source}: not read: {pairs}"
