"""Health: recent latencies of experts, and a circuit breaker that skips failing ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["closed", "open", "half-open"]

ANY_CALLER: Any = object()
"""The caller of `admit` and `abandoned` where callers are not distinguished."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """When an expert that keeps failing is skipped, and for how long.

    After `failures` failed calls in a row the circuit is open: the expert is skipped at no cost.
    After `seconds` it is half open: one trial call goes through. If the expert answers, the
    circuit closes; if not, it stays open for another `seconds`. If the trial has not ended by
    then, another call goes through.

    Attributes:
        failures: failed calls in a row that open the circuit, at least 1.
        seconds: how long the expert is skipped.
    """

    failures: int = 5
    seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.failures < 1:
            raise ValueError(f"failures is {self.failures}; it is at least 1")
        if not self.seconds > 0:
            raise ValueError(f"seconds is {self.seconds}; it is above 0")


class Snapshot(Mapping[str, float]):
    """Health at one moment, immutable: a mapping of expert → recent seconds of its answers.

    For ``Router.route(..., observed=)``. Experts that have not answered yet are missing.

    Attributes:
        refused: expert whose circuit is open → the reason, with the remaining seconds.
    """

    __slots__ = ("_seconds", "refused")

    def __init__(self, seconds: Mapping[str, float], refused: Mapping[str, str]) -> None:
        self._seconds = dict(seconds)
        self.refused = dict(refused)

    def __getitem__(self, name: str) -> float:
        return self._seconds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._seconds)

    def __len__(self) -> int:
        return len(self._seconds)

    def __repr__(self) -> str:
        return f"Snapshot({self._seconds}, refused={self.refused})"


@dataclass(slots=True)
class _Record:
    seconds: float | None = None
    failures: int = 0
    until: float | None = None
    trial: object = None
    reason: str = field(default="", repr=False)


class Health:
    """Latency and failures of every expert; safe from many threads and event loops.

    Args:
        breaker: when to skip a failing expert; None never does.
        share: weight of the newest answer in the moving average, above 0 and at most 1.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        breaker: Breaker | None = None,
        *,
        share: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}; it is above 0 and at most 1")
        self.breaker = breaker
        self._share = share
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings and the averages; circuits belong to this process's clock."""
        seconds = {name: record.seconds for name, record in self._records.items()}
        return {"breaker": self.breaker, "share": self._share, "seconds": seconds}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take settings and averages; every circuit is closed."""
        Health.__init__(self, state["breaker"], share=state["share"])
        self._records = {name: _Record(seconds) for name, seconds in state["seconds"].items()}

    def admit(self, name: str, by: object = ANY_CALLER) -> str | None:
        """Return whether an expert may be called.

        A caller that may call must then report `answered`, `failed` or `abandoned`.

        Args:
            name: the expert.
            by: the caller, as in `abandoned`.

        Returns:
            None if it may; else why it is skipped.
        """
        with self._lock:
            record = self._records.get(name)
            if record is None or record.until is None or self.breaker is None:
                return None
            now = self._clock()
            if now < record.until:
                return self._refusal(record)
            record.trial, record.until = by, now + self.breaker.seconds
            return None

    def answered(self, name: str, seconds: float | None = None) -> None:
        """Record an answer, and its seconds if they are those of one answer."""
        with self._lock:
            record = self._records.setdefault(name, _Record())
            record.failures, record.until, record.trial = 0, None, None
            if seconds is not None:
                before = seconds if record.seconds is None else record.seconds
                record.seconds = before + self._share * (seconds - before)

    def failed(self, name: str, reason: str = "") -> None:
        """Record a failure; enough of them in a row open the circuit."""
        with self._lock:
            record = self._records.setdefault(name, _Record())
            record.failures += 1
            record.reason = reason
            enough = self.breaker is not None and record.failures >= self.breaker.failures
            if self.breaker is not None and enough:
                record.until, record.trial = self._clock() + self.breaker.seconds, None

    def abandoned(self, name: str, by: object = ANY_CALLER) -> None:
        """Record that a call ended without saying anything about its expert.

        If it was the trial of a half-open circuit, another call may try at once; a call from before
        the circuit opened changes nothing.
        """
        with self._lock:
            record = self._records.get(name)
            if record is not None and record.trial is by:
                record.until, record.trial = self._clock(), None

    def state(self, name: str) -> State:
        """Return the state of an expert's circuit."""
        with self._lock:
            record = self._records.get(name)
            if record is None or record.until is None:
                return "closed"
            on_trial = record.trial is not None
            return "half-open" if on_trial or self._clock() >= record.until else "open"

    def snapshot(self) -> Snapshot:
        """Return the moving averages and the experts that are skipped now."""
        with self._lock:
            now = self._clock()
            records = self._records.items()
            return Snapshot(
                {n: r.seconds for n, r in records if r.seconds is not None},
                {
                    n: self._refusal(r)
                    for n, r in records
                    if r.until is not None and r.trial is None and now < r.until
                },
            )

    def _refusal(self, record: _Record) -> str:
        remaining = max(0.0, (record.until or 0.0) - self._clock())
        times = "once" if record.failures == 1 else f"{record.failures} times in a row"
        last = f", at last with {record.reason}" if record.reason else ""
        wait = (
            "one call is trying it now"
            if record.trial is not None
            else f"next try in {remaining:.1f} s"
        )
        return f"left alone: it failed {times}{last}; {wait}"
