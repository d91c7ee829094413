"""Coroutines run to their end: many at once, and from code that is not asynchronous."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


async def all_of(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all of them; where one raises, the others are cancelled before it is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run_in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    begun: Future[_Begun] = Future()
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(context.run, asyncio.run, _noted(work, begun))
        try:
            return done.result()
        except KeyboardInterrupt:
            # The thread is waited for, so that what the work writes at its end is written.
            loop, task = begun.result()
            loop.call_soon_threadsafe(task.cancel)
            raise


_Begun = tuple[asyncio.AbstractEventLoop, "asyncio.Task[Any]"]


async def _noted(work: Coroutine[Any, Any, T], begun: Future[_Begun]) -> T:
    task = asyncio.current_task()
    if task is not None:
        begun.set_result((asyncio.get_running_loop(), task))
    return await work
