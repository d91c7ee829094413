"""Functions that run off the event loop, those of one moment in one go."""

import asyncio
import threading

import pytest

from tryage.binding.off_loop import off_loop


async def test_calls_of_one_moment_share_a_thread_and_keep_their_answers():
    def who(number):
        return number, threading.get_ident()

    answers = await asyncio.gather(*(off_loop(who, number) for number in range(50)))
    assert [number for number, _ in answers] == list(range(50))
    assert len({thread for _, thread in answers}) == 1
    assert threading.get_ident() not in {thread for _, thread in answers}


async def test_an_error_is_its_caller_s_alone():
    def fail(error):
        if error is not None:
            raise error
        return "well"

    errors = (KeyError("mine"), None, StopIteration())
    first, second, third = await asyncio.gather(
        *(off_loop(fail, error) for error in errors), return_exceptions=True
    )
    assert isinstance(first, KeyError)
    assert second == "well"
    assert isinstance(third, RuntimeError)


async def test_a_cancelled_call_does_not_hold_up_the_others():
    leave = threading.Event()
    slow = asyncio.create_task(off_loop(leave.wait, 10))
    await asyncio.sleep(0.01)
    other = asyncio.create_task(off_loop(str, 1))
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert await other == "1"
    leave.set()


async def test_calls_after_the_executor_was_shut_down_are_answered():
    """A server that stops shuts it down while its last requests still run."""
    await asyncio.get_running_loop().shutdown_default_executor()
    calls = asyncio.gather(off_loop(str, 1), off_loop(int, "x"), return_exceptions=True)
    answer, error = await asyncio.wait_for(calls, 5)
    assert answer == "1"
    assert isinstance(error, ValueError)
