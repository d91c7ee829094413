"""Endpoints, against a real small HTTP server on this machine."""

import asyncio
import gc
import json
import logging
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tryage import Expert, Library
from tryage.dispatch import Breaker, DispatchOptions, Health, dispatch
from tryage.dispatch.scopes import acall_within
from tryage.errors import (
    DispatchError,
    ExpertError,
    ExpertTimeoutError,
    MissingExtraError,
    PromptError,
    RefusedRequestError,
    TaskError,
)
from tryage.experts import Endpoint
from tryage.retries import Retries
from tryage.runtime import EndpointOptions, Runtime
from tryage.testing import FakeOpenAI

pytest.importorskip("httpx")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

ODD = "a\u2028b\x85c 字"
"""Text with characters that some functions take for ends of lines."""

PAST = "Wed, 21 Oct 2015 07:28:00 GMT"
KEY = "sk-very-secret-0123456789"
QUICK = EndpointOptions(connect=5, read=5, retries=2, backoff=0.01)


def one_two_three(body: dict) -> str:
    return "one two three" if body.get("stream") else f"to {body['messages'][-1]['content']}"


def completion(text: object, **usage: int) -> dict:
    usage = usage or {"prompt_tokens": 4, "completion_tokens": 2}
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}


async def until(condition) -> None:
    """Wait for a condition, at most 10 seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture
def server(socket_enabled):
    with FakeOpenAI(reply=one_two_three) as server:
        yield server


@pytest.fixture
def runtime(server, monkeypatch):
    monkeypatch.setenv("SERVED_KEY", KEY)
    expert = Expert(
        name="served",
        model="org/model",
        endpoint=Endpoint(url=server.url, model="m", key_env="SERVED_KEY"),
    )
    with Runtime(Library([expert]), endpoints=QUICK) as runtime:
        yield runtime


def test_an_answer_with_its_counts(runtime, server) -> None:
    answer = runtime.run("served", "hello", max_new_tokens=9, stop="x", seed=3, temperature=0.5)
    assert (answer.text, answer.prompt_tokens, answer.completion_tokens) == ("to hello", 5, 2)
    assert answer.counted
    assert answer.seconds > 0
    [body] = server.requests
    assert body == {
        "path": "/v1/chat/completions",
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 9,
        "temperature": 0.5,
        "stop": ["x"],
        "seed": 3,
    }
    assert server.keys == [f"Bearer {KEY}"]
    assert runtime.health("served").state == "ready"


async def test_async_answers(runtime) -> None:
    answers = await asyncio.gather(*(runtime.arun("served", f"p{i}") for i in range(8)))
    assert [answer.text for answer in answers] == [f"to p{i}" for i in range(8)]


async def test_streams(runtime, server) -> None:
    server.finish_reason = "length"
    stream = runtime.stream("served", [{"role": "user", "content": "hello"}])
    assert server.requests == []
    assert list(stream) == ["one", " two", " three"]
    assert (stream.answer.text, stream.answer.finish_reason) == ("one two three", "length")
    assert stream.answer.completion_tokens == 3
    assert server.requests[0]["stream_options"] == {"include_usage": True}
    astream = runtime.astream("served", "hello")
    assert [piece async for piece in astream] == ["one", " two", " three"]
    assert astream.answer.text == "one two three"


def test_counts_that_are_not_told_are_marked(runtime, server) -> None:
    server.script = [(200, {"choices": [{"message": {"content": "x"}}]})]
    assert not runtime.run("served", "hello").counted


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 520, 529])
def test_a_busy_server_is_asked_again(runtime, server, status) -> None:
    server.script = [(status, {"error": {"message": "busy"}}), "drop"]
    assert runtime.run("served", "hello").text == "to hello"
    assert len(server.requests) == 3


async def test_async_calls_and_streams_are_tried_again_too(runtime, server) -> None:
    server.script = [(503, ""), "drop"]
    assert (await runtime.arun("served", "hello")).text == "to hello"
    server.script = [(503, "")]
    assert "".join(runtime.stream("served", "hello")) == "one two three"
    server.script = [(503, "")]
    assert [piece async for piece in runtime.astream("served", "hello")][-1] == " three"


def test_it_gives_up_after_its_retries(runtime, server) -> None:
    server.script = [(503, {"error": {"message": "busy"}})] * 9
    with pytest.raises(ExpertError, match=r"'served'.*status 503: busy \(after 3 tries\)"):
        runtime.run("served", "hello")
    assert len(server.requests) == 3
    assert runtime.health("served").state == "failing"


@pytest.mark.parametrize("status", [400, 401, 404, 302, 501, 505])
def test_other_statuses_are_final(runtime, server, status) -> None:
    server.script = [(status, {"error": {"message": "no"}}, {"Location": "http://127.0.0.1:1/"})]
    with pytest.raises(ExpertError, match=f"status {status}: no$"):
        runtime.run("served", "hello")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "nonsense",
    ["<html>", "[]", "{}", {"choices": []}, {"choices": [{"message": {"content": None}}]}, "1"],
)
def test_nonsense_is_not_an_answer(runtime, server, nonsense) -> None:
    server.script = [(200, nonsense)]
    with pytest.raises(ExpertError, match="what it sent"):
        runtime.run("served", "hello")


BREAKS = [
    ("cut", "cut before its end"),
    ("error", "overloaded"),
    ("sever", "the connection was cut$"),
]


@pytest.mark.parametrize(("turn", "message"), BREAKS)
def test_a_stream_that_breaks_says_so_and_is_not_begun_again(
    runtime, server, turn, message
) -> None:
    server.script = [turn]
    stream = runtime.stream("served", "hello")
    assert next(stream) == "one"
    with pytest.raises(ExpertError, match=message):
        next(stream)
    assert len(server.requests) == 1
    assert stream.answer is None


@pytest.mark.parametrize(("turn", "message"), BREAKS)
async def test_an_async_stream_that_breaks_is_not_begun_again(
    runtime, server, turn, message
) -> None:
    server.script = [turn]
    stream = runtime.astream("served", "hello")
    assert await anext(stream) == "one"
    with pytest.raises(ExpertError, match=message):
        await anext(stream)
    assert len(server.requests) == 1


def test_closing_a_stream_closes_its_connection(runtime, server) -> None:
    server.script = ["endless"]
    with runtime.stream("served", "hello") as stream:
        next(stream)
    assert server.hung_up.wait(10)


async def test_cancelling_closes_the_connection(runtime, server) -> None:
    server.script = ["endless"]

    async def read() -> None:
        async for _ in runtime.astream("served", "hello"):
            pass

    reader = asyncio.create_task(read())
    await until(lambda: server.requests)
    await asyncio.sleep(0.05)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await asyncio.to_thread(server.hung_up.wait, 10)
    assert len(asyncio.all_tasks()) == 1


def test_a_server_that_hangs_runs_into_the_time_out(server, runtime) -> None:
    server.script = ["hang"]
    with Runtime(runtime.library, endpoints=EndpointOptions(read=0.1, retries=2)) as hasty:
        with pytest.raises(ExpertTimeoutError, match="no answer in time"):
            hasty.run("served", "hello")
    assert len(server.requests) == 1


async def test_an_answer_that_drips_without_end_runs_into_it_too(server, runtime) -> None:
    server.script = ["drip", "drip"]
    with Runtime(runtime.library, endpoints=EndpointOptions(read=0.2)) as hasty:
        with pytest.raises(ExpertTimeoutError, match="no answer in time"):
            await asyncio.to_thread(hasty.run, "served", "hello")
        with pytest.raises(ExpertTimeoutError, match="no answer in time"):
            await hasty.arun("served", "hello")
    assert await asyncio.to_thread(server.hung_up.wait, 10)
    assert len(server.requests) == 2


async def test_an_error_without_end_is_not_read_to_its_end(runtime, server) -> None:
    server.script = ["flood"] * 6
    with pytest.raises(ExpertError, match="status 500"):
        await asyncio.to_thread(runtime.run, "served", "hello")
    with pytest.raises(ExpertError, match="status 500"):
        await runtime.arun("served", "hello")


async def test_characters_that_look_like_ends_of_lines_stay(runtime, server) -> None:
    server.script = [(200, json.dumps(completion(ODD), ensure_ascii=False)), "crlf", "crlf"]
    server.reply = lambda body: f"one {ODD} two {ODD}"
    assert runtime.run("served", "hello").text == ODD
    assert "".join(runtime.stream("served", "hello")) == f"one {ODD} two {ODD}"
    pieces = [piece async for piece in runtime.astream("served", "hello")]
    assert "".join(pieces[:3]) == f"one {ODD}"


@pytest.mark.parametrize("turn", ["hang", "drip"])
def test_the_time_out_of_dispatch_ends_the_call_and_its_thread(
    runtime, server, decide, turn
) -> None:
    server.script = [turn]
    # The endpoint's own time-out is the same moment; whichever comes first.
    with pytest.raises(DispatchError, match="ExpertTimeoutError"):
        dispatch(
            decide("served"),
            lambda name: runtime.run(name, "hello"),
            options=DispatchOptions(timeout=0.2),
        )
    for thread in threading.enumerate():
        if thread.name.startswith("tryage-call"):
            thread.join(5)
            assert not thread.is_alive()


REFUSALS = {
    "status 400": (400, {"error": {"message": "no"}}),
    "status 413": (413, ""),
    "status 422": (422, {"detail": "no"}),
    "a code under another status": (500, {"error": {"code": "context_length_exceeded"}}),
    "a filter": (200, {"choices": [{"message": {}, "finish_reason": "content_filter"}]}),
    "a refusal": (200, {"choices": [{"message": {"content": None, "refusal": "no"}}]}),
}


@pytest.mark.parametrize("turn", REFUSALS.values(), ids=REFUSALS)
async def test_a_refused_request_counts_against_nobody(runtime, server, decide, turn) -> None:
    health = Health(Breaker(failures=1))
    server.script = [turn, turn]
    with pytest.raises(DispatchError, match="RefusedRequestError") as caught:
        dispatch(decide("served"), lambda name: runtime.run(name, "hello"), health=health)
    assert isinstance(caught.value.__cause__, RefusedRequestError)
    with pytest.raises(RefusedRequestError):
        await runtime.arun("served", "hello")
    assert health.state("served") == "closed"
    assert runtime.health("served").failures == 0
    assert len(server.requests) == 2


@pytest.mark.parametrize("half", ["\ud83d", [{"role": "user", "content": "hi \ude00"}]])
def test_half_a_character_is_never_sent(runtime, server, half) -> None:
    for call in (runtime.run, lambda *arguments: next(runtime.stream(*arguments))):
        with pytest.raises(PromptError, match="half a character"):
            call("served", half)
    assert (server.requests, runtime.health("served").failures) == ([], 0)


def test_a_port_where_nobody_listens(socket_enabled) -> None:
    expert = Expert(name="x", model="m", endpoint=Endpoint(url="http://127.0.0.1:9/v1"))
    with Runtime(Library([expert]), endpoints=QUICK) as runtime:
        with pytest.raises(ExpertError, match=r"no connection \(ConnectError\) \(after 3 tries\)"):
            runtime.run("x", "hello")


async def test_the_key_is_in_no_error_log_repr_or_trace(runtime, server, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    outputs = [
        repr(runtime),
        repr(runtime.load("served")),
        repr(runtime.library),
        str(vars(runtime)),
    ]

    async def blocking() -> None:
        runtime.run("served", "hello")

    for script in ([(401, echo)], [(500, KEY)] * 3, ["drop"] * 3, [(200, f"<{KEY}>")]):
        for asks in (blocking, lambda: runtime.arun("served", "hello")):
            server.script = list(script)
            with pytest.raises(ExpertError) as caught:
                await asks()
            error = caught.value
            assert (error.__cause__, error.__context__) == (None, None)
            outputs += ["".join(traceback.format_exception(error)), repr(error)]
    outputs += [
        runtime.health("served").error,
        caplog.text,
        str(vars(runtime.load("served")._http)),
    ]
    outputs += [json.dumps(runtime.library.to_dict())]
    assert len(outputs) > 12
    assert all(KEY not in text for text in outputs)
    assert all("127.0.0.1" not in text for text in outputs[4:-4])


@pytest.mark.parametrize("status", [401, 503])
def test_a_key_of_no_known_form_is_masked_where_the_server_repeats_it(
    runtime, server, monkeypatch, caplog, status
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SERVED_KEY", "correct horse")
    server.script = [(status, {"error": {"message": "not a key: correct horse"}})] * 3
    with pytest.raises(ExpertError, match=r"not a key: \*\*\*") as caught:
        runtime.run("served", "hello")
    assert "correct horse" not in str(caught.value) + caplog.text


def test_an_address_that_no_client_can_read() -> None:
    expert = Expert(name="x", model="m", endpoint=Endpoint(url="http://127.0.0.1:port/v1"))
    with Runtime(Library([expert]), endpoints=QUICK) as runtime:
        with pytest.raises(ExpertError, match=r"its url in the library is not a web address$"):
            runtime.run("x", "hello")


def test_a_key_that_is_not_set_is_named(runtime, server, monkeypatch) -> None:
    monkeypatch.delenv("SERVED_KEY")
    for call in (lambda: runtime.check("served"), lambda: runtime.run("served", "hello")):
        with pytest.raises(ExpertError, match="set SERVED_KEY"):
            call()
    assert server.requests == []


def test_what_an_endpoint_cannot_do(runtime, server) -> None:
    with pytest.raises(PromptError):
        runtime.run("served", " ")
    with pytest.raises(ValueError, match="chat=False"):
        runtime.run("served", "hello", chat=False)
    masked = Expert(name="x", model="m", task="fill-mask", endpoint=Endpoint(url=server.url))
    with pytest.raises(TaskError, match="an endpoint does text-generation"):
        Runtime(Library([masked])).check("x")


def test_no_key_no_header(server) -> None:
    expert = Expert(name="x", model="m", endpoint=Endpoint(url=f"{server.url}/chat/completions"))
    with Runtime(Library([expert]), endpoints=QUICK) as runtime:
        assert runtime.run("x", "hello").text == "to hello"
    assert server.keys == [None]
    assert server.requests[0]["path"] == "/v1/chat/completions"


def test_waits_follow_the_policy_that_the_options_state() -> None:
    policy = EndpointOptions(retries=4, backoff=1, longest=5).retry_policy
    assert policy == Retries(retries=4, backoff=1, longest_backoff=5, longest_retry_after=5)


@pytest.mark.parametrize(("retry_after", "seconds"), [("0.3", 0.3), ("date", 1.0)])
async def test_the_wait_that_a_server_asks_for_is_kept(
    runtime, server, retry_after, seconds
) -> None:
    async def in_a_thread() -> object:
        return await asyncio.to_thread(runtime.run, "served", "hello")

    for call in (in_a_thread, lambda: runtime.arun("served", "hello")):
        # A date has whole seconds: 2 s from now is at least 1 s away.
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        header = {"Retry-After": date if retry_after == "date" else retry_after}
        server.script = [(503, "", header)]
        started = time.perf_counter()
        assert (await call()).text == "to hello"
        assert time.perf_counter() - started >= seconds


def test_no_retry_whose_wait_ends_after_the_deadline(runtime, server, decide) -> None:
    server.script = [(503, "", {"Retry-After": "8"})]
    started = time.perf_counter()
    with pytest.raises(DispatchError, match=r"status 503 \(no time left for another try\)"):
        dispatch(
            decide("served"),
            lambda name: runtime.run(name, "hello"),
            DispatchOptions(timeout=6),
        )
    assert time.perf_counter() - started < 4
    assert len(server.requests) == 1


async def test_a_caller_that_gives_up_ends_the_wait_for_a_retry(runtime, server) -> None:
    server.script = [(503, "", {"Retry-After": "15"})]
    call = asyncio.create_task(acall_within("served", 30, lambda: runtime.run("served", "hello")))
    await until(lambda: server.requests)
    await asyncio.sleep(0.2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for thread in threading.enumerate():
        if thread.name.startswith("tryage-call"):
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "options", [{"connect": 0}, {"read": -1}, {"retries": -1}, {"backoff": -1}]
)
def test_options_out_of_range(options) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        EndpointOptions(**options)


def test_a_key_with_a_lines_end_is_sent_without(runtime, server, monkeypatch) -> None:
    monkeypatch.setenv("SERVED_KEY", f"{KEY}\n")
    assert runtime.run("served", "hello").text == "to hello"
    assert server.keys == [f"Bearer {KEY}"]
    monkeypatch.setenv("SERVED_KEY", " \n")
    with pytest.raises(ExpertError, match="set SERVED_KEY"):
        runtime.run("served", "hello")


def test_a_key_in_the_place_of_its_variable_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="not the name of an environment variable") as caught:
        Endpoint(url="http://127.0.0.1/v1", key_env=KEY)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_closed_runtime_leaves_no_connection(runtime, server) -> None:
    runtime.run("served", "hello")
    assert runtime.load("served").connected
    runtime.close()
    assert not runtime.load("served").connected
    assert runtime.run("served", "again").text == "to again"
    runtime.close()
    gc.collect()
    time.sleep(0)


def test_a_missing_extra_names_the_pip_line(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "httpx", None)
    expert = Expert(name="x", model="m", endpoint=Endpoint(url="http://127.0.0.1:9/v1"))
    with pytest.raises(MissingExtraError, match=r'pip install "tryage\[endpoints\]"'):
        Runtime(Library([expert])).run("x", "hello")
