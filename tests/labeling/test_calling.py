"""Calls of models: paced, made again, bounded in time, given up."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tryage.dispatch import current_scope
from tryage.errors import ExpertError, OptionError, PromptError
from tryage.labeling.calling import Caller, Calling, Pacer, is_transient
from tryage.runtime import Answer

QUICK = Calling(backoff=0)


class Refused(Exception):
    def __init__(self, status, headers=None):
        super().__init__(f"status {status}")
        self.status_code = status
        self.headers = headers or {}


def failing(times, error, answer="fine"):
    """A model that raises a few times; `.calls` counts."""

    def call(text):
        call.calls += 1
        if call.calls <= times:
            raise error
        return answer

    call.calls = 0
    return call


async def ask(call, options=QUICK, text="hello"):
    return await Caller("small", call, options).ask(text)


def test_starts_are_spread_evenly():
    now = [100.0]
    pacer = Pacer(30, clock=lambda: now[0])
    assert [pacer.wait() for _ in range(3)] == [0, 2, 4]
    now[0] += 10
    assert pacer.wait() == 0
    pacer.hold(7)
    assert pacer.wait() == 7
    assert pacer.wait() == 9
    assert [Pacer(None, clock=lambda: 0.0).wait() for _ in range(2)] == [0, 0]


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionError("reset"), True),
        (TimeoutError(), True),
        (RuntimeError("who knows"), True),
        (Refused(429), True),
        (Refused(503), True),
        (Refused(529), True),
        (Refused(501), False),
        (Refused(400), False),
        (Refused(401), False),
        (ValueError("bad"), False),
        (PromptError("empty"), False),
        (FileNotFoundError("no model"), False),
    ],
)
async def test_what_may_pass_is_tried_again(error, transient):
    assert is_transient(error) is transient
    call = failing(2, error)
    if transient:
        assert (await ask(call)).text == "fine"
        assert call.calls == 3
    else:
        with pytest.raises(ExpertError, match=type(error).__name__):
            await ask(call)
        assert call.calls == 1


async def test_retries_end_with_the_last_reason_and_without_secrets():
    call = failing(9, ConnectionError("Bearer abcdef123456 was reset"))
    with pytest.raises(ExpertError, match=r"^ConnectionError: Bearer \*\*\* was reset$"):
        await ask(call, Calling(backoff=0, retries=2))
    assert call.calls == 3


@pytest.fixture
def waits(monkeypatch):
    """Seconds slept, in order; nobody really waits."""
    seconds_slept = []
    sleep = asyncio.sleep

    async def note(seconds):
        seconds_slept.append(float(seconds))
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    return seconds_slept


@pytest.mark.parametrize("status", [429, 503])
async def test_a_service_gets_the_wait_that_it_asks_for(waits, status):
    await ask(failing(1, Refused(status, {"retry-after": "17"})))
    assert max(waits) == pytest.approx(17, abs=0.5)


async def test_the_wait_may_be_a_date(waits):
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    await ask(failing(1, Refused(503, {"Retry-After": until})))
    assert max(waits) == pytest.approx(90, abs=5)


async def test_a_wait_of_an_hour_is_cut_to_five_minutes(waits):
    await ask(failing(1, Refused(429, {"retry-after": "3600"})))
    assert max(waits) == pytest.approx(300, abs=0.5)


async def test_without_a_wish_of_the_service_the_backoff_alone_counts(waits):
    await ask(failing(3, Refused(503, {"retry-after": "soon"})))
    await ask(failing(3, ConnectionError("reset")))
    assert set(waits) == {0.0}
    await ask(failing(3, ConnectionError("reset")), Calling(backoff=2))
    pauses = [seconds for seconds in waits if seconds]
    assert len(pauses) == 3
    assert all(0 < s <= bound for s, bound in zip(pauses, (2, 4, 8), strict=True))


@pytest.mark.parametrize(("status", "held"), [(429, True), (503, False)])
async def test_after_a_429_the_models_other_calls_wait_too(waits, status, held):
    """They would be refused as well; a 503 says nothing of them."""
    caller = Caller("small", failing(1, Refused(status, {"retry-after": "17"})), QUICK)
    await caller.ask("refused")
    del waits[:]
    await caller.ask("the next one")
    assert len(waits) == 1
    assert waits[0] == pytest.approx(17 if held else 0, abs=0.5)


@pytest.mark.parametrize("kind", ["function", "coroutine"])
async def test_a_call_that_hangs_is_left_behind(kind):
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hangs(text):
        current_scope().given_up.wait(30)
        loop.call_soon_threadsafe(heard.set)

    async def hangs_too(text):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            heard.set()
            raise

    call = hangs if kind == "function" else hangs_too
    with pytest.raises(ExpertError, match=r"small did not answer within 0\.05 s"):
        await ask(call, Calling(timeout=0.05, retries=0))
    await asyncio.wait_for(heard.wait(), 10)


async def test_cancelling_tells_the_thread_that_nobody_waits():
    begun, ended = threading.Event(), threading.Event()

    def slow(text):
        begun.set()
        current_scope().given_up.wait(30)
        ended.set()

    task = asyncio.create_task(ask(slow))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, 10)


class Object:
    async def __call__(self, text):
        return f"{text} {threading.current_thread() is threading.main_thread()}"


async def test_objects_and_functions_that_return_awaitables_are_awaited():
    assert (await ask(Object())).text == "hello True"
    assert (await ask(lambda text: Object()(text))).text == "hello True"


@pytest.mark.parametrize(
    ("value", "reason"), [(None, "it returned NoneType"), (Answer(3, 0, 0, 0.0), "returned int")]
)
async def test_what_is_no_text_is_a_failure(value, reason):
    with pytest.raises(ExpertError, match=reason):
        await ask(lambda text: value)


async def test_answers_are_timed_and_can_be_written():
    answer = await ask(lambda text: Answer("half \ud800", 3, 4, 99.0))
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("half ?", 3, 4)
    assert answer.seconds < 99
    assert not (await ask(lambda text: "plain")).counted


async def test_a_stop_iteration_is_an_error_like_others():
    with pytest.raises(ExpertError, match="StopIteration"):
        await ask(lambda text: next(iter(())), Calling(retries=0))


async def test_a_model_that_keeps_failing_is_left_alone():
    call = failing(99, ValueError("no key"))
    caller = Caller("small", call, Calling(give_up_after=3))
    for _ in range(5):
        with pytest.raises(ExpertError) as caught:
            await caller.ask("hello")
    assert call.calls == 3
    assert str(caught.value) == (
        "left alone after 3 failures in a row, at last with ValueError: no key"
    )


async def test_an_answer_in_between_ends_the_row_of_failures():
    def every_third_works(text):
        if int(text) % 3:
            raise ValueError("no")
        return "fine"

    caller = Caller("small", every_third_works, Calling(give_up_after=3))
    for number in range(1, 12):
        if number % 3:
            with pytest.raises(ExpertError, match=r"^ValueError: no$"):
                await caller.ask(str(number))
        else:
            assert (await caller.ask(str(number))).text == "fine"
    assert caller.refusal is None


async def test_a_prompt_at_fault_does_not_count_against_the_model():
    caller = Caller("small", failing(99, PromptError("empty")), Calling(give_up_after=2))
    for _ in range(4):
        with pytest.raises(ExpertError, match=r"^PromptError: empty$"):
            await caller.ask("hello")


async def test_no_more_calls_at_once_than_asked_for():
    most = running = 0

    async def call(text):
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return text

    caller = Caller("small", call, Calling(concurrency=3))
    await asyncio.gather(*(caller.ask(str(i)) for i in range(12)))
    assert most == 3


async def test_who_wants_to_end_ends():
    class Out(KeyboardInterrupt):
        pass

    calls = []

    async def call(text):
        calls.append(text)
        raise Out

    with pytest.raises(Out):
        # Not a task: asyncio would hand this kind of error to whoever runs the loop.
        await ask(call)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency is 0; it is at least 1"),
        ({"concurrency": 2.5}, "concurrency is 2.5; it is a whole number"),
        ({"retries": "3"}, "retries is '3'; it is a whole number"),
        ({"timeout": "30"}, "timeout is '30'; it is a number"),
        ({"retries": -1}, "retries is -1"),
        ({"backoff": float("nan")}, "backoff is nan"),
        ({"timeout": 0}, "timeout is 0; it is above 0, or None for no bound"),
        ({"per_minute": {"small": 0}}, "per_minute is 0"),
        ({"give_up_after": 0}, "give_up_after is 0"),
        ({"retry": 3}, "unknown option 'retry'. Did you mean 'retries'?"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(OptionError) as caught:
        Calling.of(options)
    assert message in str(caught.value)


def test_rates_are_one_for_all_or_by_name():
    assert Calling(per_minute=60).rate("judge") == 60
    by_name = Calling(per_minute={"small": 10})
    assert (by_name.rate("small"), by_name.rate("judge")) == (10, None)
