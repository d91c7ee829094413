"""The chunks of one expert, as long as the failover lets them take, inside the attempt's span."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from tryage.dispatch.failover import Failover
from tryage.dispatch.records import present
from tryage.dispatch.scopes import END, Puller, within
from tryage.tracing import AnySpan

T = TypeVar("T")
R = TypeVar("R")
Opening: TypeAlias = Callable[[str], AsyncIterator[T] | Awaitable[AsyncIterator[T]]]


class Source(Generic[T]):
    """The chunks of one expert, from a thread of its own where there is a time-out."""

    def __init__(
        self,
        failover: Failover[list[T]],
        name: str,
        call: Callable[[str], Iterable[T] | None],
        span: AnySpan,
    ) -> None:
        self._failover = failover
        self._open = partial(_opened, call, name)
        self._span = span
        self._chunks: Iterator[T] | None = None
        with span.current():
            timed = failover.remaining_timeout() is not None
            self._puller = Puller(name, self._open) if timed else None

    def next(self) -> T:
        """Return the next chunk, or `END`."""
        with self._span.current():
            if self._puller is not None:
                failover = self._failover
                seconds, total = failover.remaining_timeout(), failover.remaining_total()
                return self._puller.next(seconds or 0.0, total)
            if self._chunks is None:
                self._chunks = self._open()
            return next(self._chunks, END)

    def close(self, error: BaseException | None = None) -> None:
        """End the expert's iterator, and the span with an error."""
        if self._puller is not None:
            self._puller.close()
        try:
            with self._span.current():
                close(self._chunks)
        finally:
            self._span.end(error)


def _opened(call: Callable[[str], Iterable[T] | None], name: str) -> Iterator[T]:
    return iter(present(name, call(name)))


class AsyncSource(Generic[T]):
    """The awaited chunks of one expert, as long as the failover lets them take."""

    def __init__(self, failover: Failover[list[T]], name: str, span: AnySpan) -> None:
        self.span = span
        self._failover = failover
        self._name = name
        self._chunks: Any = None

    def open(self, call: Opening[T]) -> Awaitable[None]:
        """Call the expert."""
        return self._waited(self._open(call))

    def next(self) -> Awaitable[T]:
        """Return the next chunk, or `END`, once awaited."""
        return self._waited(anext(self._chunks, END))

    async def close(self, error: BaseException | None = None) -> None:
        """End the expert's iterator, and the span with an error."""
        try:
            with self.span.current():
                await aclose(self._chunks)
        finally:
            self.span.end(error)

    async def _open(self, call: Opening[T]) -> None:
        called = call(self._name)
        chunks = await called if inspect.isawaitable(called) else called
        self._chunks = present(self._name, chunks)

    async def _waited(self, work: Awaitable[R]) -> R:
        failover = self._failover
        seconds, total = failover.remaining_timeout(), failover.remaining_total()
        with self.span.current():
            return await within(self._name, seconds, work, at_most=total)


def close(chunks: Iterable[Any] | None) -> None:
    """Close an iterator, where it is one that can be closed."""
    end = getattr(chunks, "close", None)
    if end is not None:
        end()


async def aclose(chunks: AsyncIterator[Any] | None) -> None:
    """Close an iterator, where it is one that can be closed."""
    end = getattr(chunks, "aclose", None)
    if end is not None:
        await end()
