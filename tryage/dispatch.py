"""Dispatch: call the expert a decision chose, and the next one if it fails.

Nothing here knows what a call is: a function of the expert's name, its asynchronous twin, or one
that returns an iterator of chunks. A stream fails over until its first chunk and never after it,
since what a reader has seen cannot be taken back. Cancellation and closing pass through at once.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from dataclasses import dataclass, fields
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

from tryage.decision import Decision
from tryage.errors import DispatchError, ExpertError

T = TypeVar("T")
Errors = tuple[type[BaseException], ...]

_PASSING: Errors = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
_END: Any = object()
_LONGEST_ERROR = 200
_SECRETS = re.compile(
    r"(?P<key>\b(?:api[-_ ]?key|access[-_ ]?token|token|secret|password|authorization)\b"
    r"[\"']?(?:\s+provided)?\s*[:=]\s*[\"']?(?:bearer\s+)?|\bbearer\s+|://)"
    r"(?P<value>(?<=://)[^\s/@]+(?=@)|(?<!://)[^\s\"',;&]+)"
    r"|\b(?:sk|pk|rk|hf|gsk|ghp|xox[abps])[-_][\w-]{6,}|\bAIza[\w-]{10,}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of one expert.

    Attributes:
        expert: its name.
        error: type and first line of what it raised, without secrets; None where it answered.
        seconds: until it answered or failed; in a stream that went well, until its first chunk.
    """

    expert: str
    error: str | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {"expert": self.expert, "error": self.error, "seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What a dispatch led to.

    Attributes:
        value: what the expert's call returned.
        answered_by: name of the expert that answered.
        tried: every call, in order; the last is the one that answered.
        seconds: of the whole dispatch.
    """

    value: T
    answered_by: str
    tried: tuple[Attempt, ...]
    seconds: float


class Dispatch(Protocol):
    """What `Outcome`, `Stream` and `AsyncStream` tell about the calls that were made."""

    @property
    def answered_by(self) -> str | None:
        """Name of the expert that answered, None where none has yet."""

    @property
    def tried(self) -> tuple[Attempt, ...]:
        """Every call, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class DispatchedDecision(Decision):
    """A decision with the record of its dispatch.

    Attributes:
        tried: every call, in order.
        answered_by: the expert that answered; `expert` stays the decision's own choice.
    """

    tried: tuple[Attempt, ...]
    answered_by: str | None

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Return JSON types: the decision's keys, `tried` and `answered_by`."""
        # dataclass(slots=True) builds the class anew, which a bare super() does not survive.
        return Decision.to_dict(self, top) | {
            "tried": [attempt.to_dict() for attempt in self.tried],
            "answered_by": self.answered_by,
        }

    def explain(self) -> str:
        """Return the decision for a person, with the calls that failed."""
        failed = [f"Tried: {a.expert} failed with {a.error}" for a in self.tried if a.error]
        answered = [f"Answered by {self.answered_by}"] if failed and self.answered_by else []
        return "\n".join([Decision.explain(self), *failed, *answered])


def record(decision: Decision, dispatched: Dispatch) -> DispatchedDecision:
    """Join a decision and what came of it."""
    known = {field.name: getattr(decision, field.name) for field in fields(Decision)}
    return DispatchedDecision(**known, tried=dispatched.tried, answered_by=dispatched.answered_by)


def dispatch(
    decision: Decision,
    call: Callable[[str], T],
    *,
    max_attempts: int | None = None,
    errors: Errors = (Exception,),
) -> Outcome[T]:
    """Call the eligible experts, best first, until one answers.

    Args:
        decision: whose `order` is walked.
        call: expert name → answer.
        max_attempts: how many experts to try at most; None tries every eligible one.
        errors: exceptions that count as a failure of the expert; others are raised at once.

    Raises:
        DispatchError: every expert tried failed; raised from the last one's error.
    """
    walk = _Walk(decision, max_attempts)
    for name in walk.names:
        started = perf_counter()
        try:
            value = call(name)
        except _PASSING:
            raise
        except errors as error:
            walk.failed(name, started, error)
        else:
            return walk.outcome(name, started, value)
    raise walk.error() from walk.last


async def adispatch(
    decision: Decision,
    call: Callable[[str], Awaitable[T]],
    *,
    max_attempts: int | None = None,
    errors: Errors = (Exception,),
) -> Outcome[T]:
    """Do what `dispatch` does, with a call that is awaited."""
    walk = _Walk(decision, max_attempts)
    for name in walk.names:
        started = perf_counter()
        try:
            value = await call(name)
        except _PASSING:
            raise
        except errors as error:
            walk.failed(name, started, error)
        else:
            return walk.outcome(name, started, value)
    raise walk.error() from walk.last


def dispatch_stream(
    decision: Decision,
    call: Callable[[str], Iterable[T]],
    *,
    max_attempts: int | None = None,
    errors: Errors = (Exception,),
) -> Stream[T]:
    """Stream from the best eligible expert whose first chunk arrives.

    An expert that ends without a chunk has failed too. The first expert is called when the first
    chunk is asked for.

    Args:
        decision: whose `order` is walked.
        call: expert name → its chunks.
        max_attempts: how many experts to try at most; None tries every eligible one.
        errors: exceptions that count as a failure of the expert; others are raised at once.
    """
    return Stream(_Walk(decision, max_attempts), call, errors)


def adispatch_stream(
    decision: Decision,
    call: Callable[[str], AsyncIterator[T] | Awaitable[AsyncIterator[T]]],
    *,
    max_attempts: int | None = None,
    errors: Errors = (Exception,),
) -> AsyncStream[T]:
    """Do what `dispatch_stream` does, with asynchronous iterators or coroutines that return one."""
    return AsyncStream(_Walk(decision, max_attempts), call, errors)


class _Walk:
    """The way along a decision's order, and the record of it."""

    def __init__(self, decision: Decision, max_attempts: int | None) -> None:
        if max_attempts is not None and max_attempts < 1:
            raise ValueError(f"max_attempts is {max_attempts}; it is at least 1, or None for all")
        self.names = decision.order[:max_attempts]
        self.tried: list[Attempt] = []
        self.last: BaseException | None = None
        self.answered_by: str | None = None
        self._began = perf_counter()

    def failed(self, name: str, started: float, error: BaseException) -> None:
        self.last = error
        self.tried.append(Attempt(name, describe_error(error), perf_counter() - started))

    def answered(self, name: str, started: float) -> None:
        self.answered_by = name
        self.tried.append(Attempt(name, None, perf_counter() - started))

    def died(self, started: float, error: BaseException) -> None:
        """Turn the last attempt, whose chunks had begun to arrive, into a failed one."""
        name = self.tried.pop().expert
        self.failed(name, started, error)

    def outcome(self, name: str, started: float, value: T) -> Outcome[T]:
        self.answered(name, started)
        return Outcome(value, name, tuple(self.tried), perf_counter() - self._began)

    def error(self) -> DispatchError:
        lines = [f"\n  {a.expert}: {a.error} (after {a.seconds:.2f} s)" for a in self.tried]
        count = "the one expert" if len(lines) == 1 else f"each of the {len(lines)} experts"
        return DispatchError(f"{count} tried failed:{''.join(lines)}", self.tried)


class _Dispatched:
    """What both kinds of stream tell about their calls."""

    def __init__(self, walk: _Walk) -> None:
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

    def __init__(self, walk: _Walk, call: Callable[[str], Iterable[T]], errors: Errors) -> None:
        super().__init__(walk)
        self._call = call
        self._errors = errors
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
                if isinstance(error, _PASSING) or not isinstance(error, self._errors):
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
        walk: _Walk,
        call: Callable[[str], AsyncIterator[T] | Awaitable[AsyncIterator[T]]],
        errors: Errors,
    ) -> None:
        super().__init__(walk)
        self._call = call
        self._errors = errors
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
                if isinstance(error, _PASSING) or not isinstance(error, self._errors):
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


def describe_error(error: BaseException) -> str:
    """Return type and first line of an error, at most 200 characters, secrets masked.

    Decisions carry this text into logs and traces, where a key that a client's message repeats
    must not follow.
    """
    line = str(error).strip().partition("\n")[0]
    line = _SECRETS.sub(lambda match: f"{match['key'] or ''}***", line)
    name = type(error).__name__
    return (f"{name}: {line}" if line else name)[:_LONGEST_ERROR]


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
