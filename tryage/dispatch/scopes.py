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
        deadline: when the call is given up, on the clock of `time.monotonic`. What the call does
            `off_the_clock` moves it.
        latest: the deadline that nothing moves.
        outer: of the call that this one is made in, if one has a time-out too.
        given_up: set once nothing waits for the call. Python cannot end a thread from outside, so
            a callable that can end early checks this; the local pipelines and the endpoints do.
    """

    deadline: float
    latest: float = math.inf
    outer: Scope | _AwaitedClock | None = None
    given_up: threading.Event = field(default_factory=threading.Event)
    _stopped: float | None = None
    _stops: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def left(self) -> float:
        """Seconds until the deadline, 0 or more."""
        now = time.monotonic()
        since = now if self._stopped is None else self._stopped
        return max(0.0, min(self.deadline - since, self.latest - now))

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any longer."""
        now = time.monotonic()
        return now >= self.latest or (self._stopped is None and now >= self.deadline)

    @property
    def nobody_waits(self) -> bool:
        """Whether this call, or one that it is made in, was given up."""
        return self.given_up.is_set() or (self.outer is not None and self.outer.nobody_waits)

    def stop(self) -> None:
        """Stop the clock until `go_on`; waits of several threads may overlap."""
        with self._lock:
            self._stops += 1
            if self._stops == 1:
                self._stopped = time.monotonic()

    def go_on(self) -> None:
        """Restart the clock, unless another wait is still on."""
        with self._lock:
            self._stops -= 1
            if self._stops == 0 and self._stopped is not None:
                self.deadline += time.monotonic() - self._stopped
                self._stopped = None


class _AwaitedClock:
    """The time-out of an awaited call.

    Attributes:
        outer: as in `Scope`.
    """

    def __init__(self, timeout: asyncio.Timeout, at_most: float | None) -> None:
        self.outer = _clock.get()
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._latest = None if at_most is None else self._loop.time() + at_most
        self._left = 0.0
        self._stops = 0

    @property
    def nobody_waits(self) -> bool:
        """Whether this call, or one that it is made in, was given up."""
        return self._timeout.expired() or (self.outer is not None and self.outer.nobody_waits)

    def stop(self) -> None:
        """Stop the clock until `go_on`; waits of several tasks may overlap."""
        self._in_loop(self._stop)

    def go_on(self) -> None:
        """Restart the clock, unless another wait is still on."""
        self._in_loop(self._go_on)

    def _in_loop(self, act: Callable[[], None]) -> None:
        """Act on the loop's own thread: a blocking call may have been moved to another."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            act() if here else self._loop.call_soon_threadsafe(act)

    def _stop(self) -> None:
        self._stops += 1
        when = self._timeout.when()
        if self._stops == 1 and when is not None and not self._timeout.expired():
            self._left = when - self._loop.time()
            self._timeout.reschedule(self._latest)

    def _go_on(self) -> None:
        self._stops -= 1
        if self._stops == 0 and not self._timeout.expired():
            when = self._loop.time() + self._left
            self._timeout.reschedule(when if self._latest is None else min(when, self._latest))


_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("tryage_scope", default=None)
_clock: contextvars.ContextVar[Scope | _AwaitedClock | None] = contextvars.ContextVar(
    "tryage_clock", default=None
)

_TICK = 0.01
"""Seconds after which a call whose clock stands is looked at again, at least."""


MOST_LEFT_BEHIND = 32
"""Most calls of one expert that were given up and still run in their threads."""

_left_behind: collections.Counter[str] = collections.Counter()
_counting = threading.Lock()


def current_scope() -> Scope | None:
    """Return the scope of the dispatched call that this code runs in; None without a time-out."""
    return _scope.get()


@contextlib.contextmanager
def off_the_clock() -> Iterator[None]:
    """Do not count what is done inside as time that the call takes, such as its turn to begin.

    Where the call is made in another that has a time-out, such as one of a nested router, it does
    not count there either. The time of the whole dispatch goes on.
    """
    with contextlib.ExitStack() as stack:
        clock = _clock.get()
        while clock is not None:
            clock.stop()
            stack.callback(clock.go_on)
            clock = clock.outer
        yield


def too_slow(name: str, seconds: float) -> ExpertTimeoutError:
    """Return the error of an expert that did not answer in time."""
    return ExpertTimeoutError(f"{name} did not answer within {seconds:.3g} s")


def call_within(
    name: str, seconds: float, call: Callable[[], T], *, at_most: float | None = None
) -> T:
    """Run a blocking call in a thread of its own and wait `seconds` for it at most.

    The thread has ended when this returns. After a time-out it ends as soon as the callable
    returns; its result is dropped. It is a daemon, so that a callable that never returns does not
    keep the interpreter alive. While `MOST_LEFT_BEHIND` calls of an expert hang, no other starts.

    Args:
        name: the expert's, for errors.
        seconds: that the call may take, what it does `off_the_clock` aside.
        call: returns the result.
        at_most: seconds to wait whatever the call does; None for as long as it takes.

    Raises:
        ExpertTimeoutError: no result in time, or too many calls hang already.
    """
    scope = _scope_for(seconds, at_most)
    thread, future = _start(name, scope, call)
    with _giving_up(name, scope, future):
        error = _error_within(name, seconds, scope, future)
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


async def within(
    name: str, seconds: float | None, work: Awaitable[T], *, at_most: float | None = None
) -> T:
    """Await, `seconds` at most; arguments as `call_within`.

    Raises:
        ExpertTimeoutError: it took longer; the work was cancelled.
    """
    if seconds is None:
        return await work
    try:
        async with asyncio.timeout(seconds) as clock:
            token = _clock.set(_AwaitedClock(clock, at_most))
            try:
                return await work
            finally:
                _clock.reset(token)
    except TimeoutError:
        if clock.expired():
            raise too_slow(name, seconds) from None
        raise


def _scope_for(seconds: float, at_most: float | None) -> Scope:
    now = time.monotonic()
    return Scope(now + seconds, math.inf if at_most is None else now + at_most, _clock.get())


def _error_within(
    name: str, seconds: float, scope: Scope, future: Future[T]
) -> BaseException | None:
    """Wait for the end of a call, until its scope is over; return what it raised, if anything.

    Raises:
        ExpertTimeoutError: it did not end in time.
    """
    while True:
        try:
            # `exception` tells the callable's own time-out from ours.
            return future.exception(max(scope.left, _TICK))
        except FutureTimeout:
            if scope.is_over:
                raise too_slow(name, seconds) from None


def _start(name: str, scope: Scope, call: Callable[[], T]) -> tuple[threading.Thread, Future[T]]:
    """Start a call in a daemon thread that knows its scope."""
    check_room(name)
    future: Future[T] = Future()
    # A running future cannot be cancelled, which would make the thread fail at its end.
    future.set_running_or_notify_cancel()
    context = contextvars.copy_context()
    context.run(_scope.set, scope)
    context.run(_clock.set, scope)
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
        self._scope = Scope(math.inf, outer=_clock.get())
        self._requests: SimpleQueue[Future[T] | None] = SimpleQueue()
        self._lost = False
        self._thread: threading.Thread | None = None

    def next(self, seconds: float, at_most: float | None = None) -> T:
        """Return the next chunk, or `END` after the last. Arguments as `call_within`.

        Raises:
            ExpertTimeoutError: it did not come within `seconds`, or too many calls of the expert
                hang already.
        """
        if self._thread is None:
            self._thread = self._start()
        future: Future[T] = Future()
        fresh = _scope_for(seconds, at_most)
        self._scope.deadline, self._scope.latest = fresh.deadline, fresh.latest
        self._requests.put(future)
        try:
            with _giving_up(self._name, self._scope, future):
                error = _error_within(self._name, seconds, self._scope, future)
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
        context.run(_clock.set, self._scope)
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
