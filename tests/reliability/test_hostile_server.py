"""Servers that mean harm: what they send is bounded in time and size, and is an error or an answer.

No test here reads a clock. A server that drips goes on for `kit.PATIENCE` seconds; a client that is
bounded has hung up long before, which the server sees.
"""

import asyncio
import gc
import gzip
import json
import random
import threading
import time
from dataclasses import replace

import pytest
from kit import PATIENCE, RawServer, cases, completion, event, response

from tryage import Expert, Library
from tryage.dispatch import DispatchOptions, dispatch, dispatch_stream
from tryage.errors import DispatchError, ExpertError, ExpertTimeoutError, TryageError
from tryage.experts import Endpoint
from tryage.runtime import EndpointOptions, Runtime

pytest.importorskip("httpx")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

OPTIONS = EndpointOptions(
    connect=5, read=0.3, total=0.6, retries=0, largest_answer=50_000, largest_stream=200_000
)
DONE = b"data: [DONE]\n\n"
STREAM = response(b"", "Content-Type: text/event-stream", length=False)


@pytest.fixture
def server(socket_enabled):
    server = RawServer()
    yield server
    server.close()


@pytest.fixture
def runtime(server):
    expert = Expert(name="served", model="m", endpoint=Endpoint(url=server.url))
    with Runtime(Library([expert]), endpoints=OPTIONS) as runtime:
        yield runtime


def run(runtime):
    return runtime.run("served", "hello").text


def arun(runtime):
    return asyncio.run(runtime.arun("served", "hello")).text


def stream(runtime):
    with runtime.stream("served", "hello") as pieces:
        return "".join(pieces)


def astream(runtime):
    async def read():
        async with runtime.astream("served", "hello") as pieces:
            return "".join([piece async for piece in pieces])

    return asyncio.run(read())


WHOLE, STREAMED = (run, arun), (stream, astream)
EVERY = (*WHOLE, *STREAMED)


def until(condition):
    """Wait for what another thread does soon."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def outcome(call, runtime):
    """Return the answer, or the error, which is Tryage's own."""
    try:
        return call(runtime)
    except TryageError as error:
        return error


DRIPS = {
    "the status line": (b"HTTP/1.1 200 ", b"O", EVERY),
    "a header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"y", EVERY),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-More: y\r\n", EVERY),
    "provisional responses": (b"", b"HTTP/1.1 102 Processing\r\n\r\n", EVERY),
    "an error's body": (b"HTTP/1.1 500 Oh\r\n\r\n", b"x", EVERY),
    "an answer": (b"HTTP/1.1 200 OK\r\n\r\n", b" ", WHOLE),
    "an answer in chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1\r\n \r\n",
        WHOLE,
    ),
    "a chunk's size": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
        b"y",
        EVERY,
    ),
    "comments of a stream": (STREAM, b": wait\n\n", STREAMED),
    "an event that never ends": (STREAM + b"data: ", b" ", STREAMED),
    "blank lines": (STREAM, b"\n", STREAMED),
    "lines that are no events": (STREAM, b"event: ping\n", STREAMED),
    "events without text": (STREAM, event(), STREAMED),
    "an endless answer": (STREAM, event(content="more "), STREAMED),
}


EVENTS = ("events without text", "an endless answer")
"""Drips that are progress, so that only the time in all ends them."""


@pytest.mark.parametrize("name", DRIPS)
def test_what_drips_is_cut_off(runtime, server, name):
    start, again, calls = DRIPS[name]
    server.drip(start, again)
    # Whichever bound is not meant would hold for longer than the server goes on.
    bounds = {"total": 0.3} if name in EVENTS else {"read": 0.3}
    options = EndpointOptions(**{"read": 600, "total": 600, "retries": 0, **bounds})
    with Runtime(runtime.library, endpoints=options) as hasty:
        for number, call in enumerate(calls, 1):
            with pytest.raises(ExpertTimeoutError, match="no answer in time"):
                call(hasty)
            until(lambda number=number: server.cut_off == number)


@pytest.mark.parametrize("name", sorted(DRIPS.keys() - {"an error's body"}))
def test_what_floods_is_cut_off(runtime, server, name):
    start, again, calls = DRIPS[name]
    server.drip(start, again * 1000, pause=0)
    options = replace(OPTIONS, read=60, total=60)
    with Runtime(runtime.library, endpoints=options) as patient:
        for number, call in enumerate(calls, 1):
            with pytest.raises(ExpertError, match=r"it sent more than|the connection was cut"):
                call(patient)
            until(lambda number=number: server.cut_off == number)


CHUNKED = "Transfer-Encoding: chunked"


def in_chunks(head, body, size):
    """Return a response that takes some `size` bytes to send a body that is far shorter.

    The chunks' extensions take up the rest, which no reader of the body ever sees.
    """
    extension = b"1;x=" + b"y" * (size // len(body)) + b"\r\n%c\r\n"
    return head + b"".join(extension % byte for byte in body) + b"0\r\n\r\n"


def long_head(size):
    interim = b"HTTP/1.1 102 Processing\r\nX: " + b"y" * 1000 + b"\r\n\r\n"
    return interim * (size // len(interim)) + response(completion("yes"))


def long_body(size):
    head = response(b"", CHUNKED, length=False)
    return in_chunks(head, completion("yes") + b" " * 500, size)


def long_stream(size):
    nothing = event()
    return STREAM + nothing * (size // len(nothing)) + event(content="yes") + DONE


def long_stream_in_chunks(size):
    head = response(b"", CHUNKED, "Content-Type: text/event-stream", length=False)
    return in_chunks(head, event(content="yes") + DONE, size)


def long_error(size):
    return in_chunks(response(b"", CHUNKED, status="500 Oh", length=False), b"x" * 200, size)


COUNTED = {
    "provisional responses": (long_head, 2**18, WHOLE),
    "an answer": (long_body, 8 * OPTIONS.largest_answer, WHOLE),
    "a stream": (long_stream, OPTIONS.largest_stream, STREAMED),
    "a stream in chunks": (long_stream_in_chunks, OPTIONS.largest_stream, STREAMED),
    "an error": (long_error, 2**17, EVERY),
}
"""Responses of any size whose content alone is within every bound: response, bound, calls."""

READ_AHEAD = 2**17
"""Bytes at most that arrive together with the headers and are not counted against the body."""


@pytest.mark.parametrize("name", COUNTED)
def test_every_byte_counts_though_the_content_is_short(runtime, server, name):
    make, bound, calls = COUNTED[name]
    options = replace(OPTIONS, read=600, total=600)
    with Runtime(runtime.library, endpoints=options) as patient:
        for call in calls:
            server.answer(make(bound // 2))
            within = outcome(call, patient)
            if make is long_error:
                assert "status 500" in str(within)
            else:
                assert within == "yes"
            # It ends well, so nothing but the count of bytes refuses it.
            server.answer(make(bound + READ_AHEAD))
            with pytest.raises(ExpertError, match=r"it sent more than \d+ bytes"):
                call(patient)


def test_an_error_that_floods_is_told_by_its_status(runtime, server):
    server.drip(b"HTTP/1.1 500 Oh\r\n\r\n", b"x" * 10_000, pause=0)
    for call in EVERY:
        with pytest.raises(ExpertError, match="status 500"):
            call(runtime)


@pytest.mark.parametrize("call", EVERY)
def test_a_server_that_never_answers_is_left(runtime, server, call):
    server.drip(b"", b"", pause=0.05)
    with pytest.raises(ExpertTimeoutError, match="no answer in time"):
        call(runtime)


def test_the_reader_of_a_stream_may_take_its_time(runtime, server):
    server.answer(STREAM + event(content="one "), event(content="two"), DONE)
    with runtime.stream("served", "hello") as pieces:
        assert next(pieces) == "one "
        time.sleep(2 * OPTIONS.total)
        assert list(pieces) == ["two"]


def test_the_time_out_of_a_dispatch_ends_its_thread_while_the_server_drips(server, runtime, decide):
    patient = Runtime(runtime.library, endpoints=EndpointOptions(retries=0))
    options = DispatchOptions(timeout=0.3, total_timeout=0.6)

    def whole():
        dispatch(decide("served"), lambda name: patient.run(name, "hello"), options)

    def streamed():
        list(dispatch_stream(decide("served"), lambda name: patient.stream(name, "hello"), options))

    for name in ("headers", "provisional responses", "comments of a stream", "an endless answer"):
        server.drip(*DRIPS[name][:2])
        call = streamed if STREAM == DRIPS[name][0] else whole
        with patient, pytest.raises((DispatchError, ExpertTimeoutError)):
            call()
        until(lambda: not _calling())


def test_a_caller_that_gives_up_frees_its_thread_though_the_server_is_silent(runtime, server):
    from tryage.dispatch.scopes import acall_within

    patient = Runtime(runtime.library, endpoints=EndpointOptions(retries=0))

    async def give_up():
        call = asyncio.ensure_future(
            acall_within("served", 600, lambda: patient.run("served", "hello"))
        )
        async with asyncio.timeout(30):
            while not server.requests:
                await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    server.drip(b"", b"", pause=0.05)
    with patient:
        asyncio.run(give_up())
        until(lambda: not _calling())


def _calling():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tryage-call")]


def test_encoded_answers_are_refused_before_they_are_unpacked(runtime, server):
    packed = gzip.compress(b"[" * 5_000_000)
    for encoding in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
        server.answer(response(packed, f"Content-Encoding: {encoding}"))
        for call in EVERY:
            with pytest.raises(ExpertError, match="an encoded answer, which was not asked for"):
                call(runtime)
    for request in server.requests:
        assert b"accept-encoding: identity\r\n" in request.lower()
    server.answer(response(packed, "Content-Encoding: gzip", status="503 Busy"))
    for call in EVERY:
        with pytest.raises(ExpertError, match=r"status 503$"):
            call(runtime)


def test_identity_is_no_encoding(runtime, server):
    server.answer(response(completion("yes"), "Content-Encoding: identity"))
    assert run(runtime) == arun(runtime) == "yes"


@pytest.mark.parametrize(
    "charset", ["utf-8", "latin-1", "utf-7", "utf-16", "undefined", "rot13", "hex", "no-such", '"']
)
def test_an_odd_charset_changes_nothing(runtime, server, charset):
    text = "naïve 字 \u2028"
    body = json.dumps({"choices": [{"message": {"content": text}}]}, ensure_ascii=False).encode()
    server.answer(response(body, f"Content-Type: application/json; charset={charset}"))
    assert [call(runtime) for call in WHOLE] == [text, text]
    head = response(b"", f"Content-Type: text/event-stream; charset={charset}", length=False)
    server.answer(head + event(content=text) + DONE)
    assert [call(runtime) for call in STREAMED] == [text, text]


def test_a_mark_of_byte_order_loses_nothing(runtime, server):
    mark = b"\xef\xbb\xbf"
    server.answer(response(mark + completion("yes")))
    assert [call(runtime) for call in WHOLE] == ["yes", "yes"]
    for pieces in ([mark + event(content="yes")], [mark[:2], mark[2:] + event(content="yes")]):
        server.answer(STREAM, *pieces, DONE)
        assert [call(runtime) for call in STREAMED] == ["yes", "yes"]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (["\ud83d yes"], "\ufffd yes"),
        (["yes \ude00"], "yes \ufffd"),
        (["\ud83d\ude00"], "\U0001f600"),
        (["\ud83d", "\ude00!"], "\U0001f600!"),
        (["yes", "\ud83d"], "yes\ufffd"),
        (["\ud83d", "\ud83d", "\ude00"], "\ufffd\U0001f600"),
    ],
)
def test_answers_hold_whole_characters(runtime, server, sent, text):
    server.answer(response(completion("".join(sent))))
    assert [call(runtime) for call in WHOLE] == [text, text]
    server.answer(STREAM, *[event(content=piece) for piece in sent], DONE)
    assert [call(runtime) for call in STREAMED] == [text, text]
    text.encode()


TOOLS = {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"content": ""}, "it sent an empty answer"),
        ({"content": None}, "holds no text"),
        ({"content": "", **TOOLS}, "it called a tool"),
        ({"content": None, **TOOLS}, "it called a tool"),
        ({"content": None, "function_call": {"name": "f"}}, "it called a tool"),
        ({"content": None, "refusal": "not that"}, "it refused: not that"),
    ],
)
def test_what_is_no_answer_is_one_error_in_calls_and_streams(runtime, server, message, reason):
    server.answer(response(completion(**{"text": message["content"], **message})))
    for call in WHOLE:
        with pytest.raises(ExpertError, match=reason):
            call(runtime)
    server.answer(STREAM, event(**message), DONE)
    for call in STREAMED:
        with pytest.raises(ExpertError, match=reason):
            call(runtime)


def test_nothing_after_the_end_of_a_stream_is_read(runtime, server):
    for after in (event(content="more"), b'data: {"error": {"message": "late"}}\n\n', b"\xff" * 99):
        server.answer(STREAM, event(content="yes"), DONE + after, after)
        assert [call(runtime) for call in STREAMED] == ["yes", "yes"]
    server.drip(STREAM + event(content="yes") + DONE, event(content="more"))
    assert [call(runtime) for call in STREAMED] == ["yes", "yes"]
    until(lambda: server.cut_off == 2)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end(runtime, server, line_end):
    data = (event(content="yes") + DONE).replace(b"\n", line_end.encode())
    server.answer(STREAM, *[data[i : i + 1] for i in range(len(data))])
    assert [call(runtime) for call in STREAMED] == ["yes", "yes"]


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"choices":['])
def test_json_that_is_nested_without_end(runtime, server, opening):
    deep = opening * (40_000 // len(opening))
    server.answer(response(deep))
    for call in WHOLE:
        with pytest.raises(ExpertError, match="not JSON"):
            call(runtime)
    server.answer(STREAM, b"data: " + deep + b"\n\n")
    for call in STREAMED:
        with pytest.raises(ExpertError, match="not JSON"):
            call(runtime)
    server.answer(response(deep, status="500 Oh"))
    for call in EVERY:
        with pytest.raises(ExpertError, match=r"status 500$"):
            call(runtime)


def test_an_answer_of_too_many_values_is_not_built(server, runtime):
    roomy = Runtime(runtime.library, endpoints=EndpointOptions(read=30, retries=0))
    server.answer(response(b'{"choices":[' + b"[]," * 2_000_000 + b"0]}"))
    with roomy, pytest.raises(ExpertError, match="not JSON"):
        roomy.run("served", "hello")


@pytest.mark.parametrize(
    "counts",
    [{"prompt_tokens": -1}, {"prompt_tokens": True}, {"prompt_tokens": 1e400}, [], "x", None],
)
def test_odd_counts_are_no_counts(runtime, server, counts):
    body = json.dumps({"choices": [{"message": {"content": "yes"}}], "usage": counts}).encode()
    server.answer(response(body))
    answer = runtime.run("served", "hello")
    assert (answer.prompt_tokens, answer.completion_tokens, answer.counted) == (0, 0, False)


ODD = {
    "nothing": b"",
    "no HTTP": b"220 mail.example.org\r\n",
    "an old HTTP": b"yes",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status that is none": b"HTTP/1.1 999 ?\r\n\r\n",
    "a negative length": response(b"x", "Content-Length: -1", length=False),
    "two lengths": response(b"x", "Content-Length: 1", "Content-Length: 2", length=False),
    "a huge length": response(b"x", f"Content-Length: {10**30}", length=False),
    "a chunk of a huge size": response(
        b"f" * 20 + b"\r\n", "Transfer-Encoding: chunked", length=False
    ),
    "an odd transfer encoding": response(b"x", "Transfer-Encoding: gzip", length=False),
    "a header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "a header with a null": b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n\xff\xff",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
    "a reset": b"HTTP/1.1 20",
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_response_is_an_error(runtime, server, name):
    server.answer(ODD[name])
    for call in EVERY:
        with pytest.raises(ExpertError):
            call(runtime)


PARTS = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Type: text/event-stream; charset=utf-32\r\n",
    b"\r\n",
    b"data: ",
    b"\n\n",
    b"\xef\xbb\xbf",
    b'{"choices":[{"delta":{"content":"a"}}]}',
    b'{"choices":[{"message":{"content":"a"}}]}',
    b'{"choices":{}}',
    b'"\\ud800"',
    b"[" * 50,
    b"1e999",
    b"9" * 5000,
    b"[DONE]",
    b"\0\xff\xfe",
)


def hostile_answers(server, runtime, count, seed=0):
    """Ask a server that sends parts of responses at random; each call answers or fails plainly.

    Returns:
        How many calls were answered, and how many failed.
    """
    chance = random.Random(seed)
    answered = failed = 0
    for number in range(count):
        parts = [chance.choice(PARTS) for _ in range(chance.randrange(1, 12))]
        if chance.random() < 0.7:
            parts.insert(0, b"HTTP/1.1 200 OK\r\n\r\n")
        server.answer(*parts)
        result = outcome(EVERY[number % len(EVERY)], runtime)
        if isinstance(result, str):
            result.encode()
            answered += 1
        else:
            assert isinstance(result, ExpertError), parts
            failed += 1
    return answered, failed


def test_parts_of_responses_at_random(runtime, server):
    answered, failed = hostile_answers(server, runtime, cases(200))
    assert answered + failed == cases(200)
    assert failed


def test_hostile_servers_leave_no_thread_and_no_task(runtime, server):
    gc.collect()
    before = threading.active_count()
    for name in ("headers", "an error's body"):
        server.drip(*DRIPS[name][:2])
        for call in EVERY:
            assert isinstance(outcome(call, runtime), ExpertError)
    until(lambda: threading.active_count() <= before)


def test_the_server_of_these_tests_is_patient_enough():
    assert OPTIONS.total * 10 < PATIENCE


def test_the_environments_proxy_is_used_and_bounded_too(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, server.url.removesuffix("/v1"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    far = Expert(name="served", model="m", endpoint=Endpoint(url="http://plain.test/v1"))
    with Runtime(Library([far]), endpoints=OPTIONS) as runtime:
        assert [call(runtime) for call in WHOLE] == ["yes", "yes"]
        for request in server.requests:
            assert request.startswith(b"POST http://plain.test/v1/chat/completions HTTP/1.1\r\n")
        server.drip(*DRIPS["headers"][:2])
        for call in EVERY:
            with pytest.raises(ExpertTimeoutError, match="no answer in time"):
                call(runtime)
