"""Streams that fail over until their first chunk, and never after it."""

from __future__ import annotations

import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from time import perf_counter
from typing import Any, Generic, TypeVar

from tryage.decision import Decision
from tryage.dispatch.records import Attempt
from tryage.dispatch.walking import Failures, Walk
from tryage.errors import ExpertError

T = TypeVar("T")

_END: Any = object()


def dispatch_stream(
    decision: Decision,
    call: Callable[[str], Iterable[T]],
    *,
    max_attempts: int | None = None,
    errors: Failures = (Exception,),
) -> Stream[T]:
    """Stream from the best eligible expert whose first chunk arrives.

    An expert that ends without a chunk has failed too. The first expert is called when the first
    chunk is asked for.

    Args:
        decision: whose `order` is walked.
        call: expert name → its chunks.
        max_attempts: how many experts to try at most; None tries every eligible one.
        errors: exceptions that count as a failure of the expert, or a function that tells whether
            one does; others are raised at once.
    """
    return Stream(Walk(decision, max_attempts, errors), call)


def adispatch_stream(
    decision: Decision,
    call: Callable[[str], AsyncIterator[T] | Awaitable[AsyncIterator[T]]],
    *,
    max_attempts: int | None = None,
    errors: Failures = (Exception,),
) -> AsyncStream[T]:
    """Do what `dispatch_stream` does, with asynchronous iterators or coroutines that return one."""
    return AsyncStream(Walk(decision, max_attempts, errors), call)


class _Dispatched:
    """What both kinds of stream tell about their calls."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    @property
    def answered_by(self) -> str | None:
        """Name of the expert whose chunks these are; None before the first chunk."""
        return self._walk.answered_by

    @property
    def tried(self) -> tuple[Attempt, ...]:
        """Every call so far, in order; an expert that died after its first chunk has an error."""
        return tuple(self._walk.tried)


class Stream(_Dispatched, Generic[T]):
    """Chunks of one expert, an iterator; `close` ends the expert's own iterator."""

    def __init__(self, walk: Walk, call: Callable[[str], Iterable[T]]) -> None:
        super().__init__(walk)
        self._call = call
        self._chunks = self._generate()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return next(self._chunks)

    def close(self) -> None:
        """End the stream, and the expert's iterator with it."""
        self._chunks.close()

    def _generate(self) -> Generator[T, None, None]:
        walk = self._walk
        for name in walk.names:
            started = perf_counter()
            chunks: Iterator[T] | None = None
            try:
                chunks = iter(self._call(name))
                first = next(chunks, _END)
                if first is _END:
                    raise _no_chunk(name)
            except BaseException as error:
                _close(chunks)
                if not walk.is_failure(error):
                    raise
                walk.failed(name, started, error)
                continue
            walk.answered(name, started)
            try:
                yield first
                yield from chunks
            except GeneratorExit:
                raise
            except BaseException as error:
                walk.died(started, error)
                raise
            finally:
                _close(chunks)
            return
        raise walk.error() from walk.last


class AsyncStream(_Dispatched, Generic[T]):
    """Chunks of one expert, an asynchronous iterator; `aclose` ends the expert's own."""

    def __init__(
        self,
        walk: Walk,
        call: Callable[[str], AsyncIterator[T] | Awaitable[AsyncIterator[T]]],
    ) -> None:
        super().__init__(walk)
        self._call = call
        self._chunks = self._generate()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """End the stream, and the expert's iterator with it."""
        await self._chunks.aclose()

    async def _generate(self) -> AsyncGenerator[T, None]:
        walk = self._walk
        for name in walk.names:
            started = perf_counter()
            chunks: AsyncIterator[T] | None = None
            try:
                called = self._call(name)
                chunks = await called if inspect.isawaitable(called) else called
                first = await anext(chunks, _END)
                if first is _END:
                    raise _no_chunk(name)
            except BaseException as error:
                await _aclose(chunks)
                if not walk.is_failure(error):
                    raise
                walk.failed(name, started, error)
                continue
            walk.answered(name, started)
            try:
                yield first
                async for chunk in chunks:
                    yield chunk
            except GeneratorExit:
                raise
            except BaseException as error:
                walk.died(started, error)
                raise
            finally:
                await _aclose(chunks)
            return
        raise walk.error() from walk.last


def _no_chunk(name: str) -> ExpertError:
    return ExpertError(f"the stream of {name} ended without a chunk")


def _close(chunks: Iterator[Any] | None) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        close()


async def _aclose(chunks: AsyncIterator[Any] | None) -> None:
    aclose = getattr(chunks, "aclose", None)
    if aclose is not None:
        await aclose()
