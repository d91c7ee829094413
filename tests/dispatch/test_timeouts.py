"""Time-outs per call and in all, and the threads that are not left behind."""

import asyncio
import functools
import signal
import threading
import time

import pytest

from tryage.dispatch import (
    DispatchOptions,
    adispatch,
    adispatch_batch,
    adispatch_stream,
    current_scope,
    dispatch,
    dispatch_batch,
    dispatch_stream,
)
from tryage.dispatch.scopes import MOST_LEFT_BEHIND
from tryage.errors import DispatchError, ExpertTimeoutError


def call_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("tryage-call")]


class Hanging:
    """Expert a hangs until it is released, or until it hears that nobody waits for it."""

    def __init__(self, *, listens: bool = False) -> None:
        self.release = threading.Event()
        self.listens = listens
        self.ended: list[str] = []

    def wait(self) -> None:
        scope = current_scope()
        event = scope.given_up if self.listens and scope else self.release
        event.wait(60)

    def call(self, name: str) -> str:
        if name == "a":
            self.wait()
        self.ended.append(name)
        return name

    def stream(self, name: str):
        try:
            yield self.call(name)
            yield "more"
            if name == "late":
                self.wait()
            yield "end"
        finally:
            self.ended.append(f"closed {name}")


def gone(threads: list[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(10)
    return not any(thread.is_alive() for thread in threads)


def test_a_call_that_hangs_fails_over_and_its_thread_ends_with_it(decide) -> None:
    hanging = Hanging()
    outcome = dispatch(
        decide("a", "b"), hanging.call, options=DispatchOptions(timeout=0.05, errors=(KeyError,))
    )
    assert outcome.answered_by == "b"
    assert outcome.tried[0].error == "ExpertTimeoutError: a did not answer within 0.05 s"
    left = call_threads()
    assert len(left) == 1
    assert left[0].daemon
    hanging.release.set()
    assert gone(left)


def test_a_callable_that_listens_ends_at_once(decide) -> None:
    hanging = Hanging(listens=True)
    dispatch(decide("a", "b"), hanging.call, options=DispatchOptions(timeout=0.05))
    assert gone(call_threads())
    assert not hanging.release.is_set()


def test_without_a_timeout_no_thread_is_used(decide) -> None:
    assert dispatch(decide("a"), lambda _: threading.current_thread()).value is (
        threading.current_thread()
    )
    assert current_scope() is None


def test_a_call_in_time_leaves_no_thread_and_sees_its_context(decide) -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable")
    variable.set("seen")
    outcome = dispatch(
        decide("a"),
        lambda _: (variable.get(), current_scope().left),
        options=DispatchOptions(timeout=60),
    )
    assert outcome.value[0] == "seen"
    assert 0 < outcome.value[1] <= 60
    assert call_threads() == []


def test_errors_of_the_callable_come_out_of_its_thread(decide) -> None:
    def bug(name: str) -> str:
        raise KeyError("bug")

    def late(name: str) -> str:
        raise TimeoutError("its own")

    with pytest.raises(KeyError, match="bug"):
        dispatch(decide("a", "b"), bug, options=DispatchOptions(timeout=60, errors=(OSError,)))
    with pytest.raises(DispatchError, match="TimeoutError: its own"):
        dispatch(decide("a"), late, options=DispatchOptions(timeout=60))


def test_the_time_in_all_bounds_the_walk(decide) -> None:
    hanging = Hanging(listens=True)
    with pytest.raises(DispatchError, match=r"the 0.1 s for the whole dispatch are over") as caught:
        dispatch(decide("a", "b"), hanging.call, options=DispatchOptions(total_timeout=0.1))
    assert [attempt.expert for attempt in caught.value.tried] == ["a"]
    assert isinstance(caught.value.__cause__, ExpertTimeoutError)
    assert gone(call_threads())


@pytest.mark.parametrize(("timeout", "total"), [(600, 60), (60, 600), (None, 60), (60, None)])
async def test_a_call_gets_the_less_of_its_own_time_and_of_what_is_left(
    decide, timeout, total
) -> None:
    options = DispatchOptions(timeout=timeout, total_timeout=total)

    def left(*_) -> float:
        return current_scope().left

    timeouts = [
        dispatch(decide("a"), left, options).value,
        *dispatch_stream(decide("a"), lambda name: iter([left()]), options),
        *[o.value for o in dispatch_batch([decide("a")], lambda name, rows: [left()], options)],
    ]
    assert all(0 < seconds <= 60 for seconds in timeouts)
    assert len(timeouts) == 3


def test_what_earlier_calls_took_is_taken_off_the_time_in_all(decide, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("tryage.dispatch.failover.perf_counter", lambda: clock[0])
    left = []

    def call(name: str) -> str:
        left.append(current_scope().left)
        clock[0] += 20.0
        if name != "c":
            raise ConnectionError("down")
        return name

    dispatch(decide("a", "b", "c"), call, DispatchOptions(timeout=45, total_timeout=60))
    assert [round(seconds) for seconds in left] == [45, 40, 20]
    left.clear()
    with pytest.raises(DispatchError, match="the 40 s for the whole dispatch are over"):
        dispatch(decide("a", "b", "c"), call, DispatchOptions(total_timeout=40))
    assert [round(seconds) for seconds in left] == [40, 20]


@pytest.mark.parametrize("streaming", [False, True])
def test_an_interrupt_while_waiting_is_raised_and_the_call_hears_it(decide, streaming) -> None:
    hanging = Hanging(listens=True)
    options = DispatchOptions(timeout=60)
    main = threading.main_thread().ident
    interrupt = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
    interrupt.start()
    stream = dispatch_stream(decide("a", "b"), hanging.stream, options)
    call = functools.partial(dispatch, decide("a", "b"), hanging.call, options)
    with pytest.raises(KeyboardInterrupt):
        next(stream) if streaming else call()
    interrupt.join()
    assert gone(call_threads())
    assert "b" not in hanging.ended


@pytest.mark.parametrize("key", ["timeout", "total_timeout"])
def test_times_out_of_range(decide, key) -> None:
    with pytest.raises(ValueError, match=f"{key} is 0"):
        dispatch(decide("a"), str, DispatchOptions(**{key: 0}))


def test_a_stream_that_hangs_before_its_first_chunk_fails_over(decide) -> None:
    hanging = Hanging(listens=True)
    stream = dispatch_stream(decide("a", "b"), hanging.stream, options=DispatchOptions(timeout=0.1))
    assert list(stream) == ["b", "more", "end"]
    assert stream.tried[0].error.startswith("ExpertTimeoutError")
    assert gone(call_threads())
    assert "closed a" in hanging.ended


def test_a_stream_that_hangs_later_ends_with_the_error(decide) -> None:
    hanging = Hanging(listens=True)
    stream = dispatch_stream(
        decide("late", "b"), hanging.stream, options=DispatchOptions(timeout=0.1)
    )
    assert [next(stream), next(stream)] == ["late", "more"]
    with pytest.raises(ExpertTimeoutError):
        next(stream)
    assert [a.expert for a in stream.tried if a.error] == ["late"]
    assert gone(call_threads())


def test_the_time_of_the_reader_does_not_count(decide) -> None:
    stream = dispatch_stream(
        decide("b"), Hanging().stream, options=DispatchOptions(timeout=5, total_timeout=0.5)
    )
    first = next(stream)
    time.sleep(0.6)
    assert [first, *stream] == ["b", "more", "end"]
    assert call_threads() == []


def test_closing_a_timed_stream_ends_its_thread(decide) -> None:
    hanging = Hanging()
    stream = dispatch_stream(decide("b"), hanging.stream, options=DispatchOptions(timeout=60))
    next(stream)
    assert len(call_threads()) == 1
    stream.close()
    assert call_threads() == []
    assert hanging.ended == ["b", "closed b"]


async def test_async_calls_that_hang_are_cancelled(decide) -> None:
    cancelled = []

    async def hang(name: str) -> str:
        if name == "b":
            return name
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(name)
            raise
        return name

    async def chunks(name: str):
        yield await hang(name)

    assert (
        await adispatch(decide("a", "b"), hang, options=DispatchOptions(timeout=0.05))
    ).answered_by == "b"
    stream = adispatch_stream(decide("a", "b"), chunks, options=DispatchOptions(timeout=0.05))
    assert [chunk async for chunk in stream] == ["b"]

    async def rows(name: str, numbers: list[int]) -> list[str]:
        return [await hang(name) for _ in numbers]

    [outcome] = await adispatch_batch(
        [decide("a", "b")], rows, options=DispatchOptions(timeout=0.05)
    )
    assert outcome.answered_by == "b"
    assert cancelled == ["a"] * 3
    with pytest.raises(DispatchError, match="whole dispatch"):
        await adispatch(decide("a", "b"), hang, options=DispatchOptions(total_timeout=0.05))
    assert len(asyncio.all_tasks()) == 1


async def test_an_async_time_out_of_the_callables_own_is_told_apart(decide) -> None:
    async def late(name: str) -> str:
        raise TimeoutError("its own")

    with pytest.raises(DispatchError, match="TimeoutError: its own"):
        await adispatch(decide("a"), late, options=DispatchOptions(timeout=60))


def test_a_batch_that_hangs_fails_over(decide) -> None:
    hanging = Hanging(listens=True)
    outcomes = dispatch_batch(
        [decide("a", "b"), decide("b")],
        lambda name, rows: [hanging.call(name) for _ in rows],
        options=DispatchOptions(timeout=0.1),
    )
    assert [outcome.value for outcome in outcomes] == ["b", "b"]
    assert gone(call_threads())


def test_calls_that_hang_are_left_behind_up_to_a_bound(decide) -> None:
    ends, begun = threading.Event(), []

    def call(name: str) -> str:
        begun.append(name)
        ends.wait(60)
        return name

    def stream(name: str):
        yield call(name)

    options = DispatchOptions(timeout=0.01)
    decision = decide("hangs")
    try:
        for _ in range(MOST_LEFT_BEHIND // 2 + 2):
            with pytest.raises(DispatchError):
                dispatch(decision, call, options)
            with pytest.raises(DispatchError):
                next(dispatch_stream(decision, stream, options))
        while len(begun) < MOST_LEFT_BEHIND:
            time.sleep(0.001)
        refusal = f"{MOST_LEFT_BEHIND} calls that nobody waits for any more still run"
        with pytest.raises(DispatchError, match=refusal):
            dispatch(decision, call, options)
        with pytest.raises(DispatchError, match=refusal):
            next(dispatch_stream(decision, stream, options))
        assert len(begun) == MOST_LEFT_BEHIND
        # Others are not kept from answering.
        assert dispatch(decide("quick"), str, DispatchOptions(timeout=60)).value == "quick"
    finally:
        ends.set()
    for thread in threading.enumerate():
        if thread.name == "tryage-call-hangs":
            thread.join(60)
    assert dispatch(decision, call, DispatchOptions(timeout=60)).value == "hangs"
