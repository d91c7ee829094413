"""`Gate`: holds calls until a test lets them go on."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class Gate:
    """Holds the calls of a scripted expert until `open`: one that hangs, or is slow.

    No call is held for longer than `seconds`, so that a test that fails ends too.

    Args:
        seconds: after which a call goes on although nobody opened the gate.

    Attributes:
        waiting: calls that are held now.
        cancelled: awaited calls that were cancelled while they were held.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds = seconds
        self.waiting = 0
        self.cancelled = 0
        self._opened = threading.Event()
        self._arrived = threading.Condition()
        self._futures: set[asyncio.Future[None]] = set()

    def open(self) -> None:
        """Let every call go on, those that come later too."""
        with self._arrived:
            self._opened.set()
            futures = list(self._futures)
        for future in futures:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                future.get_loop().call_soon_threadsafe(_end, future)

    def wait(self) -> None:
        """Block until the gate is open."""
        self._count(1)
        try:
            self._opened.wait(self.seconds)
        finally:
            self._count(-1)

    async def wait_async(self) -> None:
        """Wait until the gate is open, without blocking the event loop."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._arrived:
            if self._opened.is_set():
                return
            self._futures.add(future)
        self._count(1)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(future, self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            with self._arrived:
                self._futures.discard(future)
            self._count(-1)

    def wait_for_calls(self, number: int = 1) -> None:
        """Block until so many calls are held.

        Raises:
            TimeoutError: fewer came within `seconds`.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: self.waiting >= number, self.seconds):
                raise TimeoutError(f"{self.waiting} of {number} calls came")

    def _count(self, change: int) -> None:
        with self._arrived:
            self.waiting += change
            self._arrived.notify_all()


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
