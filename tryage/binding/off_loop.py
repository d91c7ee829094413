"""Runs all decisions of one event-loop tick in one worker thread.

A decision takes a fraction of a millisecond with the bundled encoder and much more with others, so
it has no place on the event loop; but a thread for each of many calls costs more than the
decisions themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from time import perf_counter
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_Call = tuple["asyncio.Future[Any]", Callable[[], Any]]
_Result = tuple["asyncio.Future[Any]", Any, BaseException | None]

_SHORT = 0.005
"""Seconds after which finished results are returned without waiting for the others."""

_waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Call]] = WeakKeyDictionary()


async def off_loop(function: Callable[..., T], *args: Any) -> T:
    """Call a function in a thread, together with all others of this event-loop tick."""
    loop = asyncio.get_running_loop()
    calls = _waiting.get(loop)
    if calls is None:
        calls = _waiting[loop] = []
        loop.call_soon(_start, loop)
    future: asyncio.Future[T] = loop.create_future()
    calls.append((future, partial(copy_context().run, function, *args)))
    return await future


def _start(loop: asyncio.AbstractEventLoop) -> None:
    calls = _waiting.pop(loop)
    try:
        loop.run_in_executor(None, _run, loop, calls)
    except RuntimeError:
        # The executor was shut down, as by a server that stops: its last calls are decided here.
        _run(loop, calls)


def _run(loop: asyncio.AbstractEventLoop, calls: list[_Call]) -> None:
    results: list[_Result] = []
    started = perf_counter()
    for future, call in calls:
        if future.cancelled():
            continue
        try:
            results.append((future, call(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where the future is awaited
            results.append((future, None, error))
        if perf_counter() - started > _SHORT:
            _hand_back(loop, results)
            results, started = [], perf_counter()
    _hand_back(loop, results)


def _hand_back(loop: asyncio.AbstractEventLoop, results: list[_Result]) -> None:
    if results and not loop.is_closed():
        loop.call_soon_threadsafe(_settle, results)


def _settle(results: list[_Result]) -> None:
    for future, value, error in results:
        if future.done():
            continue
        if error is None:
            future.set_result(value)
        elif isinstance(error, StopIteration):
            future.set_exception(RuntimeError("StopIteration in a decision"))
        else:
            future.set_exception(error)
