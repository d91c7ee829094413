"""Passes the user's query, and flags removed from it, to decisions inside a context."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

from tryage.dispatch import aclose, close
from tryage.flags import Flags

T = TypeVar("T")

FlagMode = Literal["warn", False] | Flags
Passing = Callable[[Flags], AbstractContextManager[None]]

_END: Any = object()

_PASSED_ON: ContextVar[Flags | None] = ContextVar("tryage_flags", default=None)
_QUERY: ContextVar[str | None] = ContextVar("tryage_query", default=None)


@contextlib.contextmanager
def passing_on(flags: Flags) -> Iterator[None]:
    """Pass flags and the user's query to every decision that is made inside the block.

    No other flags act there, since the user's text is known. They reach decisions in threads and
    tasks that copy the context, as those of both frameworks do. Flags that are passed on already
    act too: what a user asked for outside holds inside. The query is that of the innermost.

    Args:
        flags: read off the user's text; their prompt is that text without them.
    """
    token = _PASSED_ON.set(_joined(_PASSED_ON.get(), flags))
    query = _QUERY.set(flags.prompt)
    try:
        yield
    finally:
        _QUERY.reset(query)
        _PASSED_ON.reset(token)


@contextlib.contextmanager
def passing_flags(flags: Flags | None) -> Iterator[None]:
    """Do what `passing_on` does, without making a text the query; None passes nothing on."""
    token = None if flags is None else _PASSED_ON.set(_joined(_PASSED_ON.get(), flags))
    try:
        yield
    finally:
        if token is not None:
            _PASSED_ON.reset(token)


@contextlib.contextmanager
def known_query(query: str) -> Iterator[None]:
    """Pass a text as the query to decisions inside the block; flags in it do not act."""
    token = _QUERY.set(query)
    try:
        yield
    finally:
        _QUERY.reset(token)


def passed_query() -> str | None:
    """Return the query, without its flags, that a block around this call passes on; else None.

    What a chain or an engine builds around the query is then not needed to decide. None where no
    query is passed on, or it is blank.
    """
    query = _QUERY.get()
    return query if query and query.strip() else None


def stream_passing_on(
    flags: Flags, chunks: Iterator[T], passing: Passing = passing_on
) -> Generator[T, None, None]:
    """Yield a stream's chunks; the flags act while each is made, and not while it is read."""
    try:
        while True:
            with passing(flags):
                chunk = next(chunks, _END)
            if chunk is _END:
                return
            yield chunk
    finally:
        close(chunks)


async def astream_passing_on(
    flags: Flags, chunks: AsyncIterator[T], passing: Passing = passing_on
) -> AsyncGenerator[T, None]:
    """Do what `stream_passing_on` does, without blocking."""
    try:
        while True:
            with passing(flags):
                chunk = await anext(chunks, _END)
            if chunk is _END:
                return
            yield chunk
    finally:
        await aclose(chunks)


def _joined(outer: Flags | None, inner: Flags) -> Flags:
    """Join the flags of two blocks: a goal's larger weight counts, and the inner block's text."""
    if outer is None:
        return inner
    weights = dict(outer.weights)
    for goal, weight in inner.weights.items():
        weights[goal] = max(weight, weights.get(goal, weight))
    return Flags(
        inner.prompt,
        weights,
        (*outer.limits, *inner.limits),
        (*outer.echo, *inner.echo),
        (*outer.unknown, *inner.unknown),
    )


def flag_mode(is_own: bool) -> FlagMode:
    """Return how a decision treats flags.

    Args:
        is_own: whether the text is the user's own.

    Returns:
        Inside `passing_on` the flags that are passed on, which then are the only ones, even where
        the user wrote none; else whether those in the text act.
    """
    passed = _PASSED_ON.get()
    return passed if passed is not None else ("warn" if is_own else False)
