"""Bounds on time and size for every byte that a server sends, status line and headers included.

httpcore's time-outs hold for one read each, so a server that sends a byte now and then is waited
for without end. Here the network streams below httpcore are wrapped: each wait is cut to what is
left of the request's bounds, and every byte is counted before anything looks at it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tryage.dispatch import Scope

_POLL = 0.1
"""Seconds between two checks whether anybody still waits for the answer."""

_SLICE = 2**14
"""Bytes that are sent at once."""

_LINGER = 0.05
"""Seconds that are spent at most on what follows the end of an answer."""

_LONGEST_TRAILER = 2**12
"""Bytes that are read at most of it."""


class BoundError(Exception):
    """A server went past a bound of its request."""


class DeadlineError(BoundError):
    """The time for a request is over."""


class GivenUpError(DeadlineError):
    """Nobody waits for the answer any more."""


class SizeError(BoundError):
    """A server sent more than a request may bring."""


class Bounds(float):
    """What one request may take; httpcore hands it to the network streams as their time-out.

    Only time in which the network is waited for counts, so the reader of a stream may take its
    own. As a number it is the seconds of `idle`.

    Args:
        connect: seconds to establish a connection.
        idle: seconds without progress, see `progress`.
        total: seconds in all.
        most: bytes that may arrive until `allow` says otherwise.
        scope: of the dispatched call; its deadline holds too, and a wait ends soon after its
            caller gave up. None without one.
    """

    def __new__(
        cls, *, connect: float, idle: float, total: float, most: int, scope: Scope | None = None
    ) -> Self:
        """Make the number that it is."""
        return super().__new__(cls, idle)

    def __init__(
        self, *, connect: float, idle: float, total: float, most: int, scope: Scope | None = None
    ) -> None:
        self._connect = connect
        self._total = total
        self._most = most
        self._scope = scope
        self._idle = 0.0
        self._spent = 0.0
        self._received = 0

    @property
    def extensions(self) -> dict[str, Any]:
        """What httpcore takes with a request."""
        waits = dict.fromkeys(("connect", "read", "write"), self)
        return {"timeout": {**waits, "pool": float(self)}}

    def left(self) -> float:
        """Return the seconds that are left, above 0.

        Raises:
            DeadlineError: there are none.
        """
        left = min(float(self) - self._idle, self._total - self._spent)
        if self._scope is not None:
            if self._scope.given_up.is_set():
                raise GivenUpError
            left = min(left, self._scope.left)
        if left <= 0:
            raise DeadlineError
        return left

    def next_wait(self) -> float:
        """Return the seconds that the next read may wait; errors as `left`."""
        left = self.left()
        return left if self._scope is None else min(left, _POLL)

    def connect_wait(self) -> float:
        """Return the seconds that a connection may take; errors as `left`."""
        return min(self._connect, self.left())

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of a block in which the network is waited for."""
        started = perf_counter()
        try:
            yield
        finally:
            seconds = perf_counter() - started
            self._idle += seconds
            self._spent += seconds

    def receive(self, count: int) -> None:
        """Count bytes that arrived.

        Raises:
            SizeError: they are too many.
        """
        self._received += count
        if self._received > self._most:
            raise SizeError(f"it sent more than {self._most} bytes")

    def allow(self, count: int) -> None:
        """Let that many bytes more arrive."""
        self._most = self._received + count

    def progress(self) -> None:
        """Record progress of the server; a byte alone is no progress."""
        self._idle = 0.0

    def linger(self) -> None:
        """Leave a moment for what follows the end of an answer."""
        self._total = min(self._total, self._spent + _LINGER)
        self.allow(_LONGEST_TRAILER)


class BoundedBackend:
    """Opens connections whose streams keep to the bounds of each request."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def connect_tcp(self, host: str, port: int, timeout: Any = None, **options: Any) -> Any:
        """Open a connection."""
        with _waiting(timeout):
            seconds = _connect_wait(timeout)
            return BoundedStream(self._backend.connect_tcp(host, port, timeout=seconds, **options))

    def sleep(self, seconds: float) -> None:
        """Wait between two tries to connect."""
        self._backend.sleep(seconds)


class BoundedStream:
    """A blocking connection whose waits and bytes are bounded."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        """Return what arrives next."""
        from httpcore import ReadTimeout

        if not isinstance(timeout, Bounds):
            data: bytes = self._stream.read(max_bytes, timeout=timeout)
            return data
        while True:
            seconds = timeout.next_wait()
            # A wait that ends may be one of many; `next_wait` raises after the last.
            with contextlib.suppress(ReadTimeout), timeout.waiting():
                data = self._stream.read(max_bytes, timeout=seconds)
                timeout.receive(len(data))
                return data

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        """Send, within the time-out, to a server that may not read."""
        for part in _parts(buffer):
            with _waiting(timeout):
                self._stream.write(part, timeout=_wait(timeout))

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: Any = None
    ) -> BoundedStream:
        """Encrypt the connection."""
        with _waiting(timeout):
            seconds = _connect_wait(timeout)
            return BoundedStream(self._stream.start_tls(ssl_context, server_hostname, seconds))

    def get_extra_info(self, info: str) -> Any:
        """Return one of the connection's properties, as httpcore asks for it."""
        return self._stream.get_extra_info(info)


class AsyncBoundedBackend:
    """`BoundedBackend` for an event loop."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    async def connect_tcp(self, host: str, port: int, timeout: Any = None, **options: Any) -> Any:
        """Open a connection."""
        with _waiting(timeout):
            seconds = _connect_wait(timeout)
            opened = await self._backend.connect_tcp(host, port, timeout=seconds, **options)
        return AsyncBoundedStream(opened)

    async def sleep(self, seconds: float) -> None:
        """Wait between two tries to connect."""
        await self._backend.sleep(seconds)


class AsyncBoundedStream:
    """`BoundedStream` for an event loop; whoever gives up cancels the task."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        """Return what arrives next."""
        with _waiting(timeout):
            data: bytes = await self._stream.read(max_bytes, timeout=_wait(timeout))
        if isinstance(timeout, Bounds):
            timeout.receive(len(data))
        return data

    async def write(self, buffer: bytes, timeout: Any = None) -> None:
        """Send."""
        for part in _parts(buffer):
            with _waiting(timeout):
                await self._stream.write(part, timeout=_wait(timeout))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: Any = None
    ) -> AsyncBoundedStream:
        """Encrypt the connection."""
        with _waiting(timeout):
            seconds = _connect_wait(timeout)
            opened = await self._stream.start_tls(ssl_context, server_hostname, seconds)
        return AsyncBoundedStream(opened)

    def get_extra_info(self, info: str) -> Any:
        """Return one of the connection's properties, as httpcore asks for it."""
        return self._stream.get_extra_info(info)


def _parts(buffer: bytes) -> Iterator[bytes]:
    for start in range(0, len(buffer), _SLICE):
        yield buffer[start : start + _SLICE]


def _waiting(timeout: Any) -> contextlib.AbstractContextManager[None]:
    return timeout.waiting() if isinstance(timeout, Bounds) else contextlib.nullcontext()


def _wait(timeout: Any) -> Any:
    return timeout.left() if isinstance(timeout, Bounds) else timeout


def _connect_wait(timeout: Any) -> Any:
    return timeout.connect_wait() if isinstance(timeout, Bounds) else timeout
