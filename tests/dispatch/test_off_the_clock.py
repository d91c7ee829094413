"""What a call does off the clock is not its time; the time of the whole dispatch goes on."""

import asyncio
import threading
import time

import pytest

from tryage.dispatch import (
    DispatchOptions,
    adispatch,
    adispatch_stream,
    current_scope,
    dispatch,
    dispatch_stream,
    off_the_clock,
)
from tryage.errors import DispatchError

SHORT = 0.4
WAIT = 1.1
"""Seconds of a wait that is off the clock, well above the time-out."""


@pytest.fixture
def decision(router):
    return router.route("def alpha_count(total, count=3):\n    return total\n")


def wait():
    with off_the_clock():
        time.sleep(WAIT)


async def await_turn():
    with off_the_clock():
        await asyncio.sleep(WAIT)


def test_a_blocking_wait_does_not_count(decision):
    def call(name):
        wait()
        time.sleep(SHORT / 2)  # of the time that is left
        return name

    outcome = dispatch(decision, call, DispatchOptions(timeout=SHORT))
    assert outcome.answered_by == decision.expert
    assert len(outcome.tried) == 1


async def test_an_awaited_wait_does_not_count(decision):
    async def call(name):
        await await_turn()
        await asyncio.sleep(SHORT / 8)
        return name

    outcome = await adispatch(decision, call, DispatchOptions(timeout=SHORT))
    assert (outcome.answered_by, len(outcome.tried)) == (decision.expert, 1)


async def test_waits_within_streams_do_not_count(decision):
    def chunks(name):
        for chunk in "ab":
            wait()
            yield chunk

    async def achunks(name):
        for chunk in "ab":
            await await_turn()
            yield chunk

    options = DispatchOptions(timeout=SHORT)
    stream = dispatch_stream(decision, chunks, options)
    assert list(stream) == ["a", "b"]
    astream = adispatch_stream(decision, achunks, options)
    assert [chunk async for chunk in astream] == ["a", "b"]
    assert stream.answered_by == astream.answered_by == decision.expert


async def test_what_comes_after_the_wait_counts(decision):
    over = threading.Event()

    def call(name):
        wait()
        if name == decision.expert:
            over.wait(30)
        return name

    async def acall(name):
        await await_turn()
        if name == decision.expert:
            await asyncio.sleep(30)
        return name

    options = DispatchOptions(timeout=SHORT)
    try:
        assert dispatch(decision, call, options).answered_by == decision.order[1]
    finally:
        over.set()
    assert (await adispatch(decision, acall, options)).answered_by == decision.order[1]


async def test_the_time_of_the_whole_dispatch_goes_on(decision):
    given_up = []

    def call(name):
        scope = current_scope()
        with off_the_clock():
            given_up.append(scope.given_up.wait(30))
        return name

    async def acall(name):
        with off_the_clock():
            await asyncio.sleep(30)

    options = DispatchOptions(timeout=SHORT, total_timeout=2 * SHORT)
    with pytest.raises(DispatchError, match="for the whole dispatch are over"):
        dispatch(decision, call, options)
    with pytest.raises(DispatchError, match="for the whole dispatch are over"):
        await adispatch(decision, acall, options)
    deadline = time.monotonic() + 10
    while not given_up and time.monotonic() < deadline:
        time.sleep(0.01)
    assert given_up == [True]


async def test_several_waits_at_once_end_with_the_last(decision):
    async def acall(name):
        async def turn(seconds):
            with off_the_clock():
                await asyncio.sleep(seconds)

        await asyncio.gather(turn(0.01), turn(WAIT))
        return name

    def call(name):
        from contextvars import copy_context

        def turn(seconds):
            with off_the_clock():
                time.sleep(seconds)

        threads = [
            threading.Thread(target=copy_context().run, args=(turn, seconds))
            for seconds in (0.01, WAIT)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return name

    options = DispatchOptions(timeout=SHORT)
    assert (await adispatch(decision, acall, options)).answered_by == decision.expert
    assert dispatch(decision, call, options).answered_by == decision.expert


def test_without_a_time_out_there_is_no_clock(decision):
    def call(name):
        with off_the_clock():
            return name

    assert dispatch(decision, call).answered_by == decision.expert


@pytest.mark.parametrize("check", [None, lambda prompt, answer: True])
async def test_a_stream_that_may_be_empty_is_an_answer(decision, check):
    async def achunks(name):
        return
        yield

    options = DispatchOptions(check=check)
    stream = dispatch_stream(decision, lambda name: iter(()), options, may_be_empty=True)
    astream = adispatch_stream(decision, achunks, options, may_be_empty=True)
    assert list(stream) == [chunk async for chunk in astream] == []
    for one in (stream, astream):
        assert one.answered_by == decision.expert
        assert [attempt.error for attempt in one.tried] == [None]
