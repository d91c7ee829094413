"""Counts how often keys have occurred, exactly, in memory that does not grow with them."""

from __future__ import annotations

import tempfile

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_RECENT = 1 << 15
"""Keys that are counted in a dict before they are sorted away."""

_LONGEST_RUN = 1 << 20
"""Keys of a sorted run that is merged no further; such a run moves to disk."""

_BITS = 1 << 25
"""Bits that tell most new keys from those in the runs: 4 MB."""


class Occurrences:
    """Counts the occurrences of 64-bit keys.

    The latest keys are in a dict, older ones in sorted runs of 8 bytes a key, repetitions among
    them. Runs of a million keys are on disk, in temporary files without a name.
    """

    def __init__(self) -> None:
        self._recent: dict[int, int] = {}
        self._unsorted = 0
        self._runs: list[Keys] = []
        self._filter = bytearray(_BITS // 8)

    def number(self, key: int) -> int:
        """Count a key, 0 to 2**64 - 1; return which occurrence of it this is, from 1."""
        count = self._recent.get(key, 0) + 1
        self._recent[key] = count
        if self._runs and self._filter[(key % _BITS) >> 3] >> (key & 7) & 1:
            count += sum(_count(run, key) for run in self._runs)
        self._unsorted += 1
        if self._unsorted >= _RECENT:
            self._sort_away()
        return count

    def _sort_away(self) -> None:
        keys = np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent))
        counts = np.fromiter(self._recent.values(), dtype=np.int64, count=len(keys))
        places = keys % np.uint64(_BITS)
        bits = np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))
        marked = np.frombuffer(self._filter, dtype=np.uint8)
        np.bitwise_or.at(marked, (places >> np.uint64(3)).astype(np.intp), bits)
        run = np.sort(np.repeat(keys, counts))
        self._recent, self._unsorted = {}, 0
        while self._runs and len(self._runs[-1]) <= len(run) < _LONGEST_RUN:
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(_on_disk(run) if len(run) >= _LONGEST_RUN else run)


def _count(run: Keys, key: int) -> int:
    """Return how often a key occurs in a sorted run."""
    value = np.uint64(key)
    first = int(run.searchsorted(value))
    if first == len(run) or run[first] != value:
        return 0
    return int(run.searchsorted(value, side="right")) - first


def _on_disk(run: Keys) -> Keys:
    """Return a run whose memory the system may take back; the run itself where no disk has room."""
    try:
        with tempfile.TemporaryFile(prefix="tryage-") as file:
            run.tofile(file)
            file.flush()
            return np.memmap(file, dtype=np.uint64, mode="r", shape=run.shape)
    except OSError:
        return run
