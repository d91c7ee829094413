"""Faults of the request: they never count against an expert, whoever tells of them."""

import asyncio

import pytest

from tryage.dispatch import (
    Breaker,
    DispatchOptions,
    Health,
    adispatch,
    adispatch_batch,
    adispatch_stream,
    blame_request,
    blaming_request,
    dispatch,
    dispatch_batch,
    dispatch_stream,
    is_request_fault,
)
from tryage.errors import (
    DispatchError,
    ExpertError,
    ExpertTimeoutError,
    OptionError,
    PromptError,
    RefusedRequestError,
)


class Response:
    def __init__(self, status_code):
        self.status_code = status_code
        self.headers = {}


def with_attributes(error=None, **attributes):
    """An exception of a client, with what it keeps in itself."""
    error = error or Exception("something")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def of_class(name, *bases, message="something"):
    return type(name, bases or (Exception,), {})(message)


def caused(cause, error):
    error.__cause__ = cause
    return error


def unencodable(text, codec="utf-8"):
    try:
        text.encode(codec)
    except UnicodeEncodeError as error:
        return error
    raise AssertionError(text)


FAULTS = {
    "a prompt that is none": PromptError("empty"),
    "our endpoints' refusal": RefusedRequestError("status 400"),
    "an option out of range": OptionError("temperature must be 0 or more, not -1"),
    "half a surrogate pair": unencodable("hi \ud83d there"),
    "the other half": unencodable("\ude00"),
    "openai: status of the exception": with_attributes(status_code=400),
    "httpx: status of the response": with_attributes(response=Response(413)),
    "aiohttp: status": with_attributes(status=422),
    "google: code": with_attributes(code=400),
    "amazon: a dict": with_attributes(
        response={
            "Error": {"Code": "ValidationException", "Message": "too long"},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        }
    ),
    "a code in a stream's error": with_attributes(code="context_length_exceeded"),
    "a code in the body": with_attributes(body={"error": {"code": "content_filter"}}),
    "vllm: its type": with_attributes(body={"type": "BadRequestError", "code": 400}),
    "azure: a policy under status 403": with_attributes(
        status_code=403, body={"code": "content_policy_violation"}
    ),
    "litellm": of_class("ContentPolicyViolationError", of_class("BadRequestError").__class__),
    "langchain": of_class("ContextOverflowError"),
    "llama.cpp in this process": ValueError("Requested tokens (9) exceed context window of 8"),
    "a cause two steps away": caused(
        caused(with_attributes(status_code=400), ValueError("wrapped")), ExpertError("wrapped")
    ),
    "a nested dispatch": caused(RefusedRequestError("no"), DispatchError("all failed")),
    "marked": blame_request(TypeError("a tool that cannot be described")),
}

OTHERS = {
    "no key": with_attributes(status_code=401),
    "forbidden": with_attributes(status_code=403),
    "no such model": with_attributes(status_code=404, body={"type": "invalid_request_error"}),
    "busy": with_attributes(status_code=429, body={"code": "rate_limit_exceeded"}),
    "a server fault": with_attributes(status_code=500),
    "no connection": ConnectionError("refused"),
    "a time-out": ExpertTimeoutError("too slow"),
    "a time-out whose cause was a refusal": caused(
        RefusedRequestError("no"), ExpertTimeoutError("too slow")
    ),
    "a bug": KeyError("choices"),
    "a key that no header can hold": unencodable("schlüssel", "ascii"),
    "amazon is busy": with_attributes(
        response={
            "Error": {"Code": "ThrottlingException"},
            "ResponseMetadata": {"HTTPStatusCode": 429},
        }
    ),
    "a status that causes another": caused(
        with_attributes(status_code=400), with_attributes(status_code=503)
    ),
}


@pytest.mark.parametrize("error", FAULTS.values(), ids=FAULTS)
def test_faults_of_the_request(error):
    assert is_request_fault(error)


@pytest.mark.parametrize("error", OTHERS.values(), ids=OTHERS)
def test_faults_of_the_expert(error):
    assert not is_request_fault(error)


def test_errors_of_openais_own_client():
    openai = pytest.importorskip("openai")
    httpx = pytest.importorskip("httpx")

    def error(kind, status, body=None):
        request = httpx.Request("POST", "http://127.0.0.1")
        return kind("no", response=httpx.Response(status, request=request), body=body)

    assert is_request_fault(error(openai.BadRequestError, 400))
    assert is_request_fault(error(openai.UnprocessableEntityError, 422))
    assert not is_request_fault(error(openai.AuthenticationError, 401))
    assert not is_request_fault(error(openai.RateLimitError, 429, {"code": "rate_limit_exceeded"}))
    assert not is_request_fault(error(openai.InternalServerError, 500))


def test_a_chain_without_end_ends():
    error = ValueError("round and round")
    error.__cause__ = error
    assert not is_request_fault(error)


def test_a_block_marks_its_errors_but_those_named():
    with pytest.raises(TypeError) as caught, blaming_request(NotImplementedError):
        raise TypeError("no schema")
    assert is_request_fault(caught.value)
    with pytest.raises(NotImplementedError) as caught, blaming_request(NotImplementedError):
        raise NotImplementedError
    assert not is_request_fault(caught.value)


# Each calls expert "a", which raises `error`, through one kind of dispatch.


def blocking(decision, error, health):
    def call(name):
        if name == "a":
            raise error
        return name

    dispatch(decision, call, health=health)


def blocking_in_time(decision, error, health):
    def call(name):
        if name == "a":
            raise error
        return name

    dispatch(decision, call, DispatchOptions(timeout=30), health=health)


def awaited(decision, error, health):
    async def call(name):
        if name == "a":
            raise error
        return name

    asyncio.run(adispatch(decision, call, health=health))


def batch(decision, error, health):
    def call(name, rows):
        return [error if name == "a" else name for _ in rows]

    dispatch_batch([decision], call, health=health)


def batch_that_raises(decision, error, health):
    def call(name, rows):
        if name == "a":
            raise error
        return [name] * len(rows)

    dispatch_batch([decision], call, health=health)


def awaited_batch(decision, error, health):
    async def call(name, rows):
        return [error if name == "a" else name for _ in rows]

    asyncio.run(adispatch_batch([decision], call, health=health))


def stream(decision, error, health):
    def call(name):
        if name == "a":
            raise error
        yield name

    list(dispatch_stream(decision, call, health=health))


def stream_that_breaks(decision, error, health):
    def call(name):
        yield "one "
        raise error

    with pytest.raises(type(error)):
        list(dispatch_stream(decision, call, health=health))


def awaited_stream(decision, error, health):
    async def call(name):
        if name == "a":
            raise error
        yield name

    async def read():
        return [chunk async for chunk in adispatch_stream(decision, call, health=health)]

    asyncio.run(read())


WAYS = [
    blocking,
    blocking_in_time,
    awaited,
    batch,
    batch_that_raises,
    awaited_batch,
    stream,
    stream_that_breaks,
    awaited_stream,
]


@pytest.mark.parametrize("way", WAYS)
def test_no_fault_of_the_request_opens_a_circuit(way, decide):
    health = Health(Breaker(failures=2, seconds=60))
    for _ in range(3):
        way(decide("a", "b"), RefusedRequestError("status 400"), health)
    assert health.state("a") == "closed"
    for _ in range(2):
        way(decide("a", "b"), ConnectionError("down"), health)
    assert health.state("a") == "open"


def test_a_fault_of_the_request_lets_the_next_expert_try_and_leaves_the_trial_open(decide):
    now = [0.0]
    health = Health(Breaker(failures=1, seconds=10), clock=lambda: now[0])
    health.failed("a", "down")
    now[0] = 11.0

    def call(name):
        if name == "a":
            raise PromptError("not for a")
        return name

    assert dispatch(decide("a", "b"), call, health=health).answered_by == "b"
    assert health.admit("a") is None
