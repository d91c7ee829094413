"""Health of a runtime's experts: calls, failures and average times."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tryage.dispatch import describe_error, is_request_fault
from tryage.errors import ExpertError

_NEW_SHARE = 0.2
"""Weight of the newest answer in the moving average of seconds."""


@dataclass(frozen=True, slots=True)
class ExpertHealth:
    """Health of one expert of a runtime.

    Attributes:
        state: ``"ready"`` if it can answer at once (an endpoint always can, as far as anybody
            knows), ``"not loaded"``, or ``"failing"`` if its last call or load failed.
        calls: finished calls, failed ones included.
        failures: calls that failed in a row.
        error: the last failure, without secrets; None after an answer.
        seconds: moving average of the time per answer; None before the first.
        bytes: estimated memory of its model; 0 if it is not loaded.
    """

    state: Literal["ready", "not loaded", "failing"] = "not loaded"
    calls: int = 0
    failures: int = 0
    error: str | None = None
    seconds: float | None = None
    bytes: int = 0


class HealthLog:
    """Records how calls of experts end; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._health: dict[str, ExpertHealth] = {}

    def get(self, name: str, *, ready: bool, size: int) -> ExpertHealth:
        """Return an expert's record, completed by what its runtime knows.

        Args:
            name: the expert.
            ready: whether it can answer at once.
            size: bytes that its model takes.
        """
        health = self._health.get(name, ExpertHealth())
        if health.error is not None:
            return replace(health, state="failing", bytes=size)
        return replace(health, state="ready" if ready else "not loaded", bytes=size)

    @contextlib.contextmanager
    def recording(self, name: str, *, is_call: bool = True) -> Iterator[None]:
        """Record how a block ends. A wrong request or a caller that gave up does not count.

        Args:
            name: the expert that works in the block.
            is_call: whether success is a finished call; a mere load is not.
        """
        started = time.perf_counter()
        try:
            yield
        except ExpertError as error:
            if not is_request_fault(error):
                self._failed(name, error)
            raise
        if is_call:
            self._answered(name, time.perf_counter() - started)

    def _failed(self, name: str, error: ExpertError) -> None:
        with self._lock:
            health = self._health.get(name, ExpertHealth())
            self._health[name] = replace(
                health,
                calls=health.calls + 1,
                failures=health.failures + 1,
                error=describe_error(error),
            )

    def _answered(self, name: str, seconds: float) -> None:
        with self._lock:
            health = self._health.get(name, ExpertHealth())
            average = seconds if health.seconds is None else health.seconds
            average += _NEW_SHARE * (seconds - average)
            self._health[name] = replace(
                health, calls=health.calls + 1, failures=0, error=None, seconds=average
            )
