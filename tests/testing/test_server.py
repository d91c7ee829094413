"""The fake server, against plain HTTP; what clients make of it is tested where they are."""

import http.client
import json
import threading
import time

import pytest

from tryage.errors import OptionError
from tryage.testing import FakeOpenAI
from tryage.testing.server import FAULTS

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]

NEVER_END = {"hang", "wait", "drip", "flood", "endless"}


@pytest.fixture
def server():
    with FakeOpenAI(timeout=10) as server:
        yield server


def post(server, model="m", content="hi", **body):
    """Return status and text of the answer to a request."""
    message = {"role": "user", "content": content}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        sent = json.dumps({"model": model, "messages": [message], **body})
        connection.request("POST", "/v1/chat/completions", sent, {"Authorization": "Bearer k"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def message_of(text):
    return json.loads(text)["choices"][0]["message"]


def deltas(text):
    events = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
    return [c["delta"] for event in map(json.loads, events) for c in event.get("choices", ())]


def test_it_answers_and_notes_what_it_was_sent(server):
    status, text = post(server, "small", temperature=0.5)
    assert (status, message_of(text)["content"]) == (200, "small says hi")
    assert json.loads(text)["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "total_tokens": 8,
    }
    [body] = server.requests
    assert (body["temperature"], body["path"]) == (0.5, "/v1/chat/completions")
    assert server.keys == ["Bearer k"]
    assert server.url == f"http://127.0.0.1:{server.port}/v1"


def test_it_streams_words_and_ends_with_the_usage(server):
    _, text = post(server, stream=True)
    assert [delta.get("content") for delta in deltas(text)] == ["m", " says", " hi", None]
    assert text.rstrip().endswith("data: [DONE]")
    assert '"total_tokens": 8' in text


def test_it_calls_the_first_tool(server):
    tool = {"name": "add", "parameters": {"properties": {"a": {}, "b": {}}}}
    tools = [{"type": "function", "function": tool}]
    _, text = post(server, tools=tools)
    [call] = message_of(text)["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (
        "add",
        {"a": 7, "b": 7},
    )
    assert json.loads(text)["choices"][0]["finish_reason"] == "tool_calls"
    _, text = post(server, tools=tools, stream=True)
    [[streamed]] = [delta["tool_calls"] for delta in deltas(text) if "tool_calls" in delta]
    assert streamed["function"] == call["function"]
    message = [{"role": "tool", "content": "14"}]
    assert message_of(post(server, tools=tools, messages=message)[1])["content"] == "m says 14"


def test_a_turn_comes_from_the_script_then_the_turns_then_the_name():
    with FakeOpenAI(turns={"gpt-busy": "refuse"}) as server:
        server.script = ["fail", (418, {"teapot": True}, {"X-Kind": "tea"})]
        statuses = [post(server, "gpt-busy")[0] for _ in range(3)]
        assert statuses == [500, 418, 400]
        assert post(server, "other-busy-1")[0] == 429
        assert server.script == []


def test_a_reply_of_one_s_own():
    with FakeOpenAI(reply=lambda body: {"content": "yes", "refusal": None}) as server:
        server.counts, server.finish_reason = (1, 2), "length"
        _, text = post(server)
    assert message_of(text) == {"role": "assistant", "content": "yes", "refusal": None}
    assert json.loads(text)["usage"]["total_tokens"] == 3
    assert json.loads(text)["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("turn", ["cut", "sever", "drop"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_breaks_off(server, turn, stream):
    if turn == "cut" and stream:
        _, text = post(server, turn, stream=True)
        assert [delta["content"] for delta in deltas(text)] == ["cut"]
        assert "[DONE]" not in text
    else:
        with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)) as caught:
            post(server, turn, stream=stream)
        if turn == "sever" and stream:
            part = caught.value.partial.decode()
            assert [delta["content"] for delta in deltas(part)] == ["sever"]
            assert "[DONE]" not in part


def test_an_error_in_a_stream(server):
    _, text = post(server, "error", stream=True)
    assert [delta["content"] for delta in deltas(text)] == ["error"]
    assert "overloaded" in text


def test_odd_answers(server):
    assert post(server, "nonsense") == (200, "<html>")
    assert message_of(post(server, "empty")[1])["content"] == ""
    assert "\r\n\r\ndata: " not in post(server, stream=True)[1]
    assert post(server, "crlf", stream=True)[1].count("\r\n\r\n") > 2


def test_a_request_waits_until_it_is_released(server):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(post(server, "wait")))
    thread.start()
    deadline = time.monotonic() + 30
    while not server.requests:
        assert time.monotonic() < deadline
        thread.join(0.01)
    assert answers == []
    server.release()
    thread.join(10)
    assert message_of(answers[0][1])["content"] == "wait says hi"


@pytest.mark.parametrize("turn", ["drip", "flood", "endless"])
def test_a_client_that_gives_up_on_what_never_ends(server, turn):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    message = {"role": "user", "content": "hi"}
    connection.request(
        "POST", "/", json.dumps({"model": turn, "messages": [message], "stream": turn == "endless"})
    )
    response = connection.getresponse()
    assert len(response.read(20)) == 20
    response.close()
    connection.close()
    assert server.hung_up.wait(10)


@pytest.mark.parametrize("turn", sorted(set(FAULTS) - NEVER_END))
@pytest.mark.parametrize("stream", [False, True])
def test_every_turn_ends(server, turn, stream):
    try:
        status, _ = post(server, f"model-{turn}", stream=stream)
    except (http.client.HTTPException, ConnectionError):
        assert turn in ("cut", "sever", "drop")
    else:
        assert status in (200, 400, 401, 404, 429, 500)


def test_what_is_no_request(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", "{")
    assert connection.getresponse().status == 400
    connection.close()


def test_unknown_turns_and_a_server_that_does_not_run():
    with pytest.raises(OptionError, match=r"unknown turn 'bussy'.*Did you mean 'busy'"):
        FakeOpenAI(turns={"m": "bussy"})
    with pytest.raises(RuntimeError, match="with block"):
        _ = FakeOpenAI().url
