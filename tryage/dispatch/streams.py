"""Streams that fail over until their first chunk, and never after it."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import aclosing
from time import perf_counter
from typing import Any, Generic, TypeVar

from tryage.decision import Decision
from tryage.dispatch.checking import Checker
from tryage.dispatch.failover import Failover
from tryage.dispatch.health import Health
from tryage.dispatch.options import DEFAULT_OPTIONS, DispatchOptions
from tryage.dispatch.records import Attempt
from tryage.dispatch.scopes import END
from tryage.dispatch.sources import AsyncSource, Opening, Source
from tryage.errors import ExpertError
from tryage.masking import mask_error
from tryage.tracing import attempt_span

T = TypeVar("T")

FIRST_CHUNK = "tryage.first_chunk"
"""Event in the span of a streamed attempt."""


def dispatch_stream(
    decision: Decision,
    call: Callable[[str], Iterable[T]],
    options: DispatchOptions = DEFAULT_OPTIONS,
    *,
    health: Health | None = None,
    checker: Checker[list[T]] | None = None,
    may_be_empty: bool = False,
) -> Stream[T]:
    """Stream from the best eligible expert whose first chunk arrives.

    An expert that ends without a chunk has failed too, unless `may_be_empty`. The first expert is
    called when the first chunk is asked for. With a check no chunk goes out before the whole answer
    is accepted, unless the options say `stream_unchecked`.

    Args:
        decision: its `order` says whom to call.
        call: expert name → its chunks.
        options: attempts, errors and time-outs. With a time-out the expert's iterator runs in a
            thread of its own, as `dispatch` explains.
        health: told how every call went; experts whose circuit is open in it are passed over.
        checker: checks the chunks of an answer; by default `options.check` on the list of them.
        may_be_empty: whether a stream without a chunk is an answer.
    """
    return Stream(Failover(decision, options, health, checker), call, may_be_empty)


def adispatch_stream(
    decision: Decision,
    call: Opening[T],
    options: DispatchOptions = DEFAULT_OPTIONS,
    *,
    health: Health | None = None,
    checker: Checker[list[T]] | None = None,
    may_be_empty: bool = False,
) -> AsyncStream[T]:
    """Do what `dispatch_stream` does, with asynchronous iterators or coroutines that return one."""
    return AsyncStream(Failover(decision, options, health, checker), call, may_be_empty)


class _Dispatched:
    """What both kinds of stream report about their calls."""

    def __init__(self, failover: Failover[Any]) -> None:
        self._failover = failover

    @property
    def accepted(self) -> bool | None:
        """Whether the check accepted the answer; None where nothing was checked, or not yet."""
        return self._failover.accepted

    @property
    def is_checked_late(self) -> bool:
        """Whether the check runs only after the whole answer was sent."""
        return self._failover.checker is not None and not self._failover.holds_streams

    @property
    def answered_by(self) -> str | None:
        """Name of the expert whose chunks these are; None before the first chunk."""
        return self._failover.answered_by

    @property
    def tried(self) -> tuple[Attempt, ...]:
        """Every call so far, in order; an expert that died after its first chunk has an error."""
        return tuple(self._failover.tried)


class Stream(_Dispatched, Generic[T]):
    """Chunks of one expert, an iterator; `close` ends the expert's own iterator."""

    def __init__(
        self,
        failover: Failover[list[T]],
        call: Callable[[str], Iterable[T]],
        may_be_empty: bool = False,
    ) -> None:
        super().__init__(failover)
        self._chunks = _generate(failover, call, may_be_empty)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return next(self._chunks)

    def close(self) -> None:
        """End the stream, and the expert's iterator with it."""
        self._chunks.close()


def _generate(
    failover: Failover[list[T]], call: Callable[[str], Iterable[T]], may_be_empty: bool
) -> Generator[T, None, None]:
    """Yield the chunks; no method, so that a stream nobody holds ends at once."""
    for name in failover:
        started = perf_counter()
        span = attempt_span(name, failover.task)
        source = Source(failover, name, call, span)
        try:
            first = source.next()
            if first is END and not may_be_empty:
                raise _no_chunk(name)
            span.event(FIRST_CHUNK)
            whole = _all(first, source) if failover.holds_streams else None
        except BaseException as error:
            source.close(error)
            if not failover.goes_on(name, started, error):
                raise
            continue
        if whole is not None:
            source.close()
            if failover.judged(name, started, whole, failover.verdict(name, whole)) is None:
                continue
            yield from whole
            return
        yield from _relay(failover, name, started, first, source)
        return
    yield from failover.unaccepted().value


def _relay(
    failover: Failover[list[T]], name: str, started: float, first: T, source: Source[T]
) -> Generator[T, None, None]:
    """Yield the chunks as they come; the check runs after the last was sent."""
    failover.answered(name, started)
    report = _StreamReport(failover, name, started)
    failure: BaseException | None = None
    try:
        chunk = first
        while chunk is not END:
            report.sends(chunk)
            yield chunk
            report.resumes()
            chunk = source.next()
        report.done()
    except BaseException as error:
        report.ended(error)
        failure = mask_error(error)
        if failure is error:
            raise
    finally:
        source.close(failure)
    if failure is not None:
        # Outside of `except`: the error that it stands for would be its context.
        raise failure
    failover.judged_late(failover.verdict(name, report.sent))


def _all(first: T, source: Source[T]) -> list[T]:
    chunks, chunk = [], first
    while chunk is not END:
        chunks.append(chunk)
        chunk = source.next()
    return chunks


class _StreamReport:
    """Reports to the failover how a stream went after its first chunk.

    Attributes:
        sent: chunks that went out, where a check looks at them at the end.
    """

    def __init__(self, failover: Failover[list[T]], name: str, started: float) -> None:
        self._failover = failover
        self._name = name
        self._started = self._paused = started
        self.sent: list[Any] = []

    def sends(self, chunk: Any) -> None:
        """Note a chunk that goes to the reader, whose time does not count."""
        if self._failover.checker is not None:
            self.sent.append(chunk)
        self._paused = perf_counter()

    def resumes(self) -> None:
        """Note that the reader asks for more."""
        seconds = perf_counter() - self._paused
        self._failover.skip_time(seconds)
        self._started += seconds

    def done(self) -> None:
        self._failover.done(self._name, perf_counter() - self._started)

    def ended(self, error: BaseException) -> None:
        """Note an error, unless it is the reader's own end."""
        if isinstance(error, GeneratorExit):
            self._failover.abandoned(self._name)
        elif self._failover.is_failure(error):
            self._failover.died(self._started, error)
        else:
            self._failover.cut(self._started, error)


class AsyncStream(_Dispatched, Generic[T]):
    """Chunks of one expert, an asynchronous iterator; `aclose` ends the expert's own."""

    def __init__(
        self, failover: Failover[list[T]], call: Opening[T], may_be_empty: bool = False
    ) -> None:
        super().__init__(failover)
        self._chunks = _agenerate(failover, call, may_be_empty)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """End the stream, and the expert's iterator with it."""
        await self._chunks.aclose()


async def _agenerate(
    failover: Failover[list[T]], call: Opening[T], may_be_empty: bool
) -> AsyncGenerator[T, None]:
    """Do what `_generate` does."""
    for name in failover:
        started = perf_counter()
        source = AsyncSource(failover, name, attempt_span(name, failover.task))
        try:
            await source.open(call)
            first = await source.next()
            if first is END and not may_be_empty:
                raise _no_chunk(name)
            source.span.event(FIRST_CHUNK)
            whole = await _aall(first, source) if failover.holds_streams else None
        except BaseException as error:
            await source.close(error)
            if not failover.goes_on(name, started, error):
                raise
            continue
        if whole is not None:
            await source.close()
            verdict = await failover.averdict(name, whole)
            if failover.judged(name, started, whole, verdict) is None:
                continue
            for chunk in whole:
                yield chunk
            return
        async with aclosing(_arelay(failover, name, started, first, source)) as relayed:
            async for chunk in relayed:
                yield chunk
        return
    for chunk in failover.unaccepted().value:
        yield chunk


async def _arelay(
    failover: Failover[list[T]],
    name: str,
    started: float,
    first: T,
    source: AsyncSource[T],
) -> AsyncGenerator[T, None]:
    """Do what `_relay` does."""
    failover.answered(name, started)
    report = _StreamReport(failover, name, started)
    failure: BaseException | None = None
    try:
        chunk = first
        while chunk is not END:
            report.sends(chunk)
            yield chunk
            report.resumes()
            chunk = await source.next()
        report.done()
    except BaseException as error:
        report.ended(error)
        failure = mask_error(error)
        if failure is error:
            raise
    finally:
        await source.close(failure)
    if failure is not None:
        # Outside of `except`, where the error that it stands for would become its context.
        raise failure
    failover.judged_late(await failover.averdict(name, report.sent))


async def _aall(first: T, source: AsyncSource[T]) -> list[T]:
    gathered, chunk = [], first
    while chunk is not END:
        gathered.append(chunk)
        chunk = await source.next()
    return gathered


def _no_chunk(name: str) -> ExpertError:
    return ExpertError(f"the stream of {name} ended without a chunk")
