"""The circuit breaker, the moving average, and dispatch that heeds both."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from tryage.dispatch import (
    Breaker,
    DispatchOptions,
    Health,
    adispatch,
    adispatch_batch,
    adispatch_stream,
    dispatch,
    dispatch_batch,
    dispatch_stream,
)
from tryage.errors import DispatchError, MissingExtraError, PromptError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


class SteppingClock:
    """Stands still until it is told how long something took."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def takes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def stopwatch(monkeypatch):
    """The clock by which dispatch measures calls."""
    watch = SteppingClock()
    for module in ("batches", "failover", "streams"):
        monkeypatch.setattr(f"tryage.dispatch.{module}.perf_counter", watch)
    return watch


@pytest.fixture
def health(clock):
    return Health(Breaker(failures=2, seconds=10), clock=clock)


def broken(name: str) -> str:
    if name == "a":
        raise ConnectionError("down")
    return name


def test_a_circuit_opens_half_opens_and_closes(health, clock) -> None:
    assert health.state("a") == "closed"
    for _ in range(2):
        assert health.admit("a") is None
        health.failed("a", "ConnectionError: down")
    assert health.state("a") == "open"
    assert health.admit("a") == (
        "left alone: it failed 2 times in a row, at last with ConnectionError: down; "
        "next try in 10.0 s"
    )
    clock.now += 10
    assert health.state("a") == "half-open"
    assert health.admit("a") is None
    assert "one call is trying it now" in health.admit("a")
    health.answered("a", 1.0)
    assert health.state("a") == "closed"
    assert health.admit("a") is None


def test_a_trial_that_fails_opens_the_circuit_again(health, clock) -> None:
    health.failed("a")
    health.failed("a")
    clock.now += 10
    assert health.admit("a") is None
    health.failed("a")
    assert health.state("a") == "open"
    clock.now += 10
    assert health.admit("a") is None
    health.abandoned("a")
    assert health.admit("a") is None


def test_of_many_callers_at_once_one_makes_the_trial(health, clock) -> None:
    health.failed("a")
    health.failed("a")
    clock.now += 10
    with ThreadPoolExecutor(16) as pool:
        refusals = list(pool.map(lambda number: health.admit("a", number), range(64)))
    assert refusals.count(None) == 1
    assert health.state("a") == "half-open"
    assert health.snapshot().refused == {}


def test_a_call_from_before_the_circuit_opened_does_not_end_the_trial(health, clock) -> None:
    early, trial = object(), object()
    assert health.admit("a", early) is None
    health.failed("a")
    health.failed("a")
    clock.now += 10
    assert health.admit("a", trial) is None
    health.abandoned("a", early)
    assert "one call is trying it now" in health.admit("a")
    health.abandoned("a", trial)
    assert health.admit("a") is None


def test_a_trial_that_never_ends_does_not_lock_the_expert_out(health, clock) -> None:
    health.failed("a")
    health.failed("a")
    clock.now += 10
    assert health.admit("a", "lost") is None
    clock.now += 9
    assert health.admit("a") is not None
    clock.now += 1
    assert health.admit("a", "next") is None
    health.abandoned("a", "lost")
    assert health.admit("a") is not None


def test_an_answer_between_failures_keeps_the_circuit_closed(health) -> None:
    """Two failures in a row open it; here no two come in a row, and the last call failed."""
    for _ in range(3):
        health.failed("a")
        assert health.state("a") == "closed"
        health.answered("a")
    health.failed("a")
    assert health.state("a") == "closed"
    assert health.admit("a") is None
    health.failed("a")
    assert health.state("a") == "open"


def test_without_a_breaker_nothing_is_left_alone() -> None:
    health = Health()
    for _ in range(50):
        health.failed("a")
    assert health.admit("a") is None
    assert health.snapshot().refused == {}


def test_the_snapshot_is_a_frozen_mapping_of_seconds(health) -> None:
    health.answered("a", 1.0)
    health.answered("a", 2.0)
    health.answered("b")
    health.failed("c")
    health.failed("c")
    snapshot = health.snapshot()
    health.answered("a", 100.0)
    assert dict(snapshot) == {"a": pytest.approx(1.2)}
    assert list(snapshot.refused) == ["c"]
    assert "a" in repr(snapshot)


@pytest.mark.parametrize("options", [{"failures": 0}, {"seconds": 0}])
def test_breakers_out_of_range(options) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Breaker(**options)
    with pytest.raises(ValueError, match="share is 0"):
        Health(share=0)


def test_dispatch_passes_over_an_open_circuit_and_says_so(decide, health, clock) -> None:
    for _ in range(2):
        assert dispatch(decide("a", "b"), broken, health=health).answered_by == "b"
    called = []

    def call(name: str) -> str:
        called.append(name)
        return name

    outcome = dispatch(
        decide("a", "b"), call, health=health, options=DispatchOptions(max_attempts=1)
    )
    assert (called, outcome.answered_by) == (["b"], "b")
    assert outcome.tried[0].error.startswith("left alone: it failed 2 times in a row")
    assert outcome.tried[0].seconds == 0
    clock.now += 10
    assert dispatch(decide("a", "b"), call, health=health).answered_by == "a"
    assert set(health.snapshot()) == {"a", "b"}


def test_all_circuits_open_is_a_refusal_with_reasons(decide, health) -> None:
    for _ in range(2):
        with pytest.raises(DispatchError):
            dispatch(decide("a"), broken, health=health)
    with pytest.raises(DispatchError, match=r"left alone.*ConnectionError: down") as caught:
        dispatch(decide("a"), broken, health=health)
    assert caught.value.__cause__ is None


def test_a_wrong_prompt_is_not_the_experts_fault(decide, health) -> None:
    def refuse(name: str) -> str:
        raise PromptError("empty")

    for _ in range(5):
        with pytest.raises(DispatchError):
            dispatch(decide("a"), refuse, health=health)
    assert health.state("a") == "closed"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MissingExtraError("x"), KeyError("bug")])
def test_a_trial_that_is_cut_short_can_be_made_again(decide, health, clock, error) -> None:
    health.failed("a")
    health.failed("a")
    clock.now += 10

    def cut(*_):
        raise error

    calls = [
        lambda: dispatch(
            decide("a"), cut, options=DispatchOptions(errors=(OSError,)), health=health
        ),
        lambda: next(
            dispatch_stream(
                decide("a"), cut, options=DispatchOptions(errors=(OSError,)), health=health
            )
        ),
        lambda: dispatch_batch(
            [decide("a")], cut, options=DispatchOptions(errors=(OSError,)), health=health
        ),
    ]
    for call in calls:
        with pytest.raises(type(error)):
            call()
        assert health.state("a") == "half-open"


async def test_async_calls_heed_and_feed_it(decide, health) -> None:
    async def call(name: str) -> str:
        return broken(name)

    async def chunks(name: str):
        yield broken(name)
        yield "end"

    async def rows(name: str, numbers: list[int]) -> list[str]:
        return [broken(name) for _ in numbers]

    await adispatch(decide("a", "b"), call, health=health)
    stream = adispatch_stream(decide("a", "b"), chunks, health=health)
    assert [chunk async for chunk in stream] == ["b", "end"]
    assert health.state("a") == "open"
    stream = adispatch_stream(decide("a", "b"), chunks, health=health)
    assert await anext(stream) == "b"
    await stream.aclose()
    assert stream.tried[0].error.startswith("left alone")
    [outcome] = await adispatch_batch([decide("a", "b")], rows, health=health)
    assert outcome.tried[0].error.startswith("left alone")


async def test_a_cancelled_trial_can_be_made_again(decide, health, clock) -> None:
    health.failed("a")
    health.failed("a")
    clock.now += 10

    async def hang(name: str) -> str:
        await asyncio.sleep(3600)
        return name

    task = asyncio.create_task(adispatch(decide("a"), hang, health=health))
    await asyncio.sleep(0)
    assert health.admit("a") is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert health.admit("a") is None


def test_streams_that_die_late_count_and_closed_ones_do_not(decide, health) -> None:
    def dies(name: str):
        yield name
        raise ConnectionError("cut")

    for _ in range(3):
        stream = dispatch_stream(decide("a"), lambda name: iter([name, name]), health=health)
        next(stream)
        stream.close()
    assert health.state("a") == "closed"
    assert dict(health.snapshot()) == {}
    for _ in range(2):
        with pytest.raises(ConnectionError):
            list(dispatch_stream(decide("a"), dies, health=health))
    assert health.state("a") == "open"


def test_the_latency_of_a_call_is_what_the_answering_expert_took(decide, stopwatch) -> None:
    health = Health()

    def call(name: str) -> str:
        stopwatch.takes(2.0 if name == "a" else 3.0)
        return broken(name)

    outcome = dispatch(decide("a", "b"), call, health=health)
    assert [attempt.seconds for attempt in outcome.tried] == [2.0, 3.0]
    assert dict(health.snapshot()) == {"b": 3.0}


async def test_the_time_of_a_streams_reader_is_no_latency(decide, stopwatch) -> None:
    health = Health()

    def chunks(name: str):
        for chunk in ("one", "two", "three"):
            stopwatch.takes(1.0)
            yield chunk

    async def achunks(name: str):
        for chunk in chunks(name):
            yield chunk

    for _ in dispatch_stream(decide("a"), chunks, health=health):
        stopwatch.takes(60.0)
    assert dict(health.snapshot()) == {"a": 3.0}
    async for _ in adispatch_stream(decide("b"), achunks, health=health):
        stopwatch.takes(60.0)
    assert dict(health.snapshot()) == {"a": 3.0, "b": 3.0}


def test_a_stream_that_dies_took_what_its_expert_took(decide, stopwatch) -> None:
    def dies(name: str):
        stopwatch.takes(1.0)
        yield name
        stopwatch.takes(2.0)
        raise ConnectionError("cut")

    stream = dispatch_stream(decide("a"), dies)
    next(stream)
    stopwatch.takes(60.0)
    with pytest.raises(ConnectionError):
        next(stream)
    assert [attempt.seconds for attempt in stream.tried] == [3.0]


async def test_the_time_of_a_batch_of_several_is_no_latency_of_one(decide, stopwatch) -> None:
    def call(name: str, rows: list[int]) -> list[str]:
        stopwatch.takes(8.0)
        return [name for _ in rows]

    async def acall(name: str, rows: list[int]) -> list[str]:
        return call(name, rows)

    for batch, caller in ((dispatch_batch, call), (adispatch_batch, acall)):
        health = Health()
        decisions = [decide("a"), decide("a"), decide("b")]
        outcomes = batch(decisions, caller, health=health)
        outcomes = outcomes if isinstance(outcomes, list) else await outcomes
        assert [outcome.answered_by for outcome in outcomes] == ["a", "a", "b"]
        # Expert a answered two prompts at once, b one alone.
        assert set(health.snapshot()) == {"b"}


def test_a_batch_tries_a_half_open_expert_with_one_row(decide, health, clock) -> None:
    decisions = [decide("a", "b") for _ in range(3)]
    calls = []

    def call(name: str, rows: list[int]) -> list[str]:
        calls.append((name, rows))
        return [broken(name) for _ in rows]

    outcomes = dispatch_batch(decisions, call, health=health)
    assert calls == [("a", [0, 1, 2]), ("b", [0, 1, 2])]
    calls.clear()
    clock.now += 10
    outcomes = dispatch_batch(decisions, call, health=health)
    assert sorted(calls) == [("a", [0]), ("b", [0]), ("b", [1, 2])]
    assert [outcome.answered_by for outcome in outcomes] == ["b"] * 3
