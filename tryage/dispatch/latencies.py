"""What calls took of late: a moving average per expert, for the goal latency."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from tryage.dispatch.records import Attempt


class Latencies:
    """Moving averages of the seconds that experts took to answer; safe from many threads.

    Only calls that answered count. A snapshot goes into `Router.route(..., observed=)`; an expert
    that was never called is not in it, and the goal then guesses from what is predicted or from
    the expert's size.

    Args:
        share: what the newest call counts in the average, above 0 and at most 1.
    """

    def __init__(self, *, share: float = 0.2) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}; it is above 0 and at most 1")
        self._share = share
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_share": self._share, "_seconds": self.snapshot()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def observe(self, tried: Iterable[Attempt]) -> None:
        """Take in the calls of a dispatch."""
        with self._lock:
            for attempt in tried:
                if attempt.error is None:
                    before = self._seconds.get(attempt.expert, attempt.seconds)
                    self._seconds[attempt.expert] = before + self._share * (
                        attempt.seconds - before
                    )

    def snapshot(self) -> dict[str, float]:
        """Return expert → seconds, a copy."""
        with self._lock:
            return dict(self._seconds)
