"""Time-outs of blocking calls: a thread per call, which can learn that it was given up."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from tryage.errors import ExpertTimeoutError

T = TypeVar("T")

END: Any = object()
"""Marks the end of a stream."""


@dataclass(slots=True)
class Scope:
    """The time-out of a blocking call, as the call can see it.

    Attributes:
        deadline: when the call is given up, on the clock of `time.monotonic`.
        given_up: set once nothing waits for the call. Python cannot end a thread from outside, so
            a callable that can end early checks this; the local pipelines and the endpoints do.
    """

    deadline: float
    given_up: threading.Event = field(default_factory=threading.Event)

    @property
    def left(self) -> float:
        """Seconds until the deadline, 0 or more."""
        return max(0.0, self.deadline - time.monotonic())


_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("tryage_scope", default=None)


MOST_LEFT_BEHIND = 32
"""Most calls of one expert that were given up and still run in their threads."""

_left_behind: collections.Counter[str] = collections.Counter()
_counting = threading.Lock()


def current_scope() -> Scope | None:
    """Return the scope of the dispatched call that this code runs in; None without a time-out."""
    return _scope.get()


def too_slow(name: str, seconds: float) -> ExpertTimeoutError:
    """Return the error of an expert that did not answer in time."""
    return ExpertTimeoutError(f"{name} did not answer within {seconds:.3g} s")


def call_within(name: str, seconds: float, call: Callable[[], T]) -> T:
    """Run a blocking call in a thread of its own and wait `seconds` for it at most.

    The thread has ended when this returns. After a time-out it ends as soon as the callable
    returns; its result is dropped. It is a daemon, so that a callable that never returns does not
    keep the interpreter alive. While `MOST_LEFT_BEHIND` calls of an expert hang, no other starts.

    Raises:
        ExpertTimeoutError: no result in time, or too many calls hang already.
    """
    scope = Scope(time.monotonic() + seconds)
    thread, future = _start(name, scope, call)
    with _giving_up(name, scope, future):
        try:
            # `exception` tells the callable's own time-out from ours.
            error = future.exception(seconds)
        except FutureTimeout:
            raise too_slow(name, seconds) from None
    thread.join()
    if error is not None:
        raise error
    return future.result()


async def acall_within(name: str, seconds: float | None, call: Callable[[], T]) -> T:
    """Await a blocking call that runs in a thread of its own, `seconds` at most; None for ever.

    The thread behaves as in `call_within`, also if the wait is cancelled.

    Raises:
        ExpertTimeoutError: no result in time.
    """
    scope = Scope(time.monotonic() + (math.inf if seconds is None else seconds))
    _, future = _start(name, scope, call)
    with _giving_up(name, scope, future):
        return await within(name, seconds, asyncio.wrap_future(future))


async def within(name: str, seconds: float | None, work: Awaitable[T]) -> T:
    """Await, `seconds` at most.

    Raises:
        ExpertTimeoutError: it took longer; the work was cancelled.
    """
    if seconds is None:
        return await work
    try:
        async with asyncio.timeout(seconds) as clock:
            return await work
    except TimeoutError:
        if clock.expired():
            raise too_slow(name, seconds) from None
        raise


def _start(name: str, scope: Scope, call: Callable[[], T]) -> tuple[threading.Thread, Future[T]]:
    """Start a call in a daemon thread that knows its scope."""
    check_room(name)
    future: Future[T] = Future()
    # A running future cannot be cancelled, which would make the thread fail at its end.
    future.set_running_or_notify_cancel()
    context = contextvars.copy_context()
    context.run(_scope.set, scope)
    thread = threading.Thread(
        target=_settle, args=(future, context, call), name=f"tryage-call-{name}", daemon=True
    )
    thread.start()
    return thread, future


def _settle(future: Future[T], context: contextvars.Context, call: Callable[[], T]) -> None:
    try:
        value = context.run(call)
    except BaseException as error:  # noqa: BLE001 - it is raised again where the call is awaited
        future.set_exception(error)
    else:
        future.set_result(value)


def check_room(name: str) -> None:
    """Refuse another call if too many calls of the same expert hang.

    Raises:
        ExpertTimeoutError: too many hang.
    """
    hanging = _left_behind[name] if name in _left_behind else 0
    if hanging >= MOST_LEFT_BEHIND:
        raise ExpertTimeoutError(
            f"{name}: {hanging} calls that nobody waits for any more still run; no other is begun "
            "until one of them ends"
        )


@contextlib.contextmanager
def _giving_up(name: str, scope: Scope, future: Future[Any]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        scope.given_up.set()
        leave_behind(name, future)
        raise


def leave_behind(name: str, future: Future[Any]) -> None:
    """Count a call that was given up, until it ends."""
    with _counting:
        _left_behind[name] += 1
    future.add_done_callback(lambda _: _ended(name))


def _ended(name: str) -> None:
    with _counting:
        _left_behind[name] -= 1
        if not _left_behind[name]:
            del _left_behind[name]


class Puller(Generic[T]):
    """Takes chunks from a blocking iterator in its own thread, one per request.

    Args:
        name: the expert's name.
        open_chunks: returns the iterator; called in the thread.
    """

    def __init__(self, name: str, open_chunks: Callable[[], Iterator[T]]) -> None:
        self._name = name
        self._open = open_chunks
        self._scope = Scope(float("inf"))
        self._requests: SimpleQueue[Future[T] | None] = SimpleQueue()
        self._lost = False
        self._thread: threading.Thread | None = None

    def next(self, seconds: float) -> T:
        """Return the next chunk, or `END` after the last.

        Raises:
            ExpertTimeoutError: it did not come within `seconds`, or too many calls of the expert
                hang already.
        """
        if self._thread is None:
            self._thread = self._start()
        future: Future[T] = Future()
        self._scope.deadline = time.monotonic() + seconds
        self._requests.put(future)
        try:
            with _giving_up(self._name, self._scope, future):
                error = future.exception(seconds)
        except FutureTimeout:
            self._lost = True
            raise too_slow(self._name, seconds) from None
        except BaseException:
            self._lost = True
            raise
        if error is not None:
            raise error
        return future.result()

    def close(self) -> None:
        """End the iterator; wait for its thread unless a chunk timed out."""
        self._scope.given_up.set()
        self._requests.put(None)
        if self._thread is not None and not self._lost:
            self._thread.join()

    def _start(self) -> threading.Thread:
        check_room(self._name)
        context = contextvars.copy_context()
        context.run(_scope.set, self._scope)
        thread = threading.Thread(
            target=context.run, args=(self._serve,), name=f"tryage-call-{self._name}", daemon=True
        )
        thread.start()
        return thread

    def _serve(self) -> None:
        chunks: Iterator[T] | None = None
        while (future := self._requests.get()) is not None:
            try:
                if chunks is None:
                    chunks = self._open()
                chunk = next(chunks, END)
            except BaseException as error:  # noqa: BLE001 - it is raised again by `next`
                future.set_exception(error)
            else:
                future.set_result(chunk)
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
