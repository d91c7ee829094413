"""Dispatch: failover in order, never after the first chunk, cancellation untouched."""

import asyncio
import dataclasses
import gc
import json

import numpy as np
import pytest

from tryage.decision import Decision, HiddenText
from tryage.dispatch import (
    DispatchOptions,
    adispatch,
    adispatch_batch,
    adispatch_stream,
    describe_error,
    dispatch,
    dispatch_batch,
    dispatch_stream,
    record,
)
from tryage.errors import DispatchError, ExpertError, MissingExtraError


def decide(*order: str, excluded: tuple[str, ...] = ()) -> Decision:
    names = (*order, *excluded)
    losses = np.arange(len(names), dtype=float)
    totals = np.where(np.isin(names, excluded), np.inf, losses)
    return Decision(
        expert=order[0],
        task="text-generation",
        text=HiddenText("text"),
        names=names,
        losses=losses,
        std=np.zeros(len(names)),
        totals=totals,
        values={},
        reasons=dict.fromkeys(excluded, "a limit"),
        weights={},
        limits=(),
        flags=(),
        out_of_distribution=False,
    )


class Script:
    """Experts that raise what is scripted and else answer with their name."""

    def __init__(self, **faults: BaseException) -> None:
        self.faults = faults
        self.called: list[str] = []
        self.closed: list[str] = []

    def call(self, name: str) -> str:
        self.called.append(name)
        if name in self.faults:
            raise self.faults[name]
        return f"answer of {name}"

    async def acall(self, name: str) -> str:
        await asyncio.sleep(0)
        return self.call(name)

    def stream(self, name: str):
        try:
            yield self.call(name)
            yield "more"
            if (late := self.faults.get(f"late_{name}")) is not None:
                raise late
            yield "end"
        finally:
            self.closed.append(name)

    async def astream(self, name: str):
        for chunk in self.stream(name):
            yield chunk


def test_the_first_of_the_order_answers():
    script = Script()
    outcome = dispatch(decide("a", "b"), script.call)
    assert (outcome.value, outcome.answered_by) == ("answer of a", "a")
    assert [(a.expert, a.error) for a in outcome.tried] == [("a", None)]
    assert outcome.seconds >= outcome.tried[0].seconds >= 0


def test_fails_over_in_order_and_records_it():
    script = Script(a=ValueError("no"), b=TimeoutError())
    outcome = dispatch(decide("a", "b", "c"), script.call)
    assert outcome.answered_by == "c"
    assert [(a.expert, a.error) for a in outcome.tried] == [
        ("a", "ValueError: no"),
        ("b", "TimeoutError"),
        ("c", None),
    ]


def test_failover_goes_by_the_totals_and_not_by_name():
    order = ("d", "a", "c", "b")
    script = Script(**{name: ValueError("no") for name in order[:3]})
    outcome = dispatch(decide(*order, excluded=("e",)), script.call)
    assert outcome.answered_by == "b"
    assert script.called == list(order)


def test_ties_go_by_name_behind_the_expert_that_was_chosen():
    names = ("b", "x", "a", "c")
    chosen = dataclasses.replace(
        decide("x"),
        names=names,
        losses=np.zeros(4),
        std=np.zeros(4),
        totals=np.array([1.0, 1.0 + 1e-12, 1.0, np.inf]),
        reasons={"c": "a limit"},
    )
    assert chosen.order == ("x", "a", "b")
    assert [ranked.expert for ranked in chosen.ranking] == ["x", "a", "b", "c"]


def test_experts_that_are_not_eligible_are_never_called():
    script = Script(a=ValueError("no"))
    with pytest.raises(DispatchError, match="the one expert tried failed"):
        dispatch(decide("a", excluded=("b",)), script.call)
    assert script.called == ["a"]


def test_all_down_lists_what_was_tried_and_keeps_the_cause():
    last = ConnectionError("refused")
    script = Script(a=ValueError("no"), b=last)
    with pytest.raises(DispatchError, match="each of the 2 experts") as caught:
        dispatch(decide("a", "b"), script.call)
    assert caught.value.__cause__ is last
    assert [a.expert for a in caught.value.tried] == ["a", "b"]
    assert "a: ValueError: no" in str(caught.value)


def test_max_attempts_bounds_the_walk():
    script = Script(a=ValueError(), b=ValueError())
    with pytest.raises(DispatchError):
        dispatch(decide("a", "b", "c"), script.call, options=DispatchOptions(max_attempts=2))
    assert script.called == ["a", "b"]
    with pytest.raises(ValueError, match="max_attempts is 0"):
        dispatch(decide("a"), script.call, options=DispatchOptions(max_attempts=0))


def test_only_declared_errors_fail_over():
    script = Script(a=KeyError("bug"))
    with pytest.raises(KeyError, match="bug"):
        dispatch(decide("a", "b"), script.call, options=DispatchOptions(errors=(TimeoutError,)))
    assert script.called == ["a"]


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), asyncio.CancelledError(), SystemExit(), MissingExtraError("install it")],
)
def test_cancellation_passes_even_where_every_error_may_fail_over(error):
    script = Script(a=error)
    with pytest.raises(type(error)):
        dispatch(decide("a", "b"), script.call, options=DispatchOptions(errors=(BaseException,)))
    with pytest.raises(type(error)):
        next(
            dispatch_stream(
                decide("a", "b"), script.stream, options=DispatchOptions(errors=(BaseException,))
            )
        )
    assert script.called == ["a", "a"]


async def test_async_fails_over_and_reports_all_down():
    outcome = await adispatch(decide("a", "b"), Script(a=ValueError("no")).acall)
    assert outcome.answered_by == "b"
    with pytest.raises(DispatchError):
        await adispatch(decide("a", "b"), Script(a=ValueError(), b=ValueError()).acall)
    with pytest.raises(KeyError):
        await adispatch(
            decide("a"), Script(a=KeyError()).acall, options=DispatchOptions(errors=(TimeoutError,))
        )


async def test_a_cancelled_task_calls_no_other_expert():
    called = []

    async def hang(name: str) -> str:
        called.append(name)
        await asyncio.sleep(3600)
        return name

    task = asyncio.create_task(
        adispatch(decide("a", "b"), hang, options=DispatchOptions(errors=(BaseException,)))
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert called == ["a"]


def test_stream_fails_over_before_the_first_chunk():
    script = Script(a=ValueError("no"))
    stream = dispatch_stream(decide("a", "b"), script.stream)
    assert script.called == []
    assert stream.answered_by is None
    assert next(stream) == "answer of b"
    assert stream.answered_by == "b"
    assert list(stream) == ["more", "end"]
    assert [(a.expert, a.error) for a in stream.tried] == [("a", "ValueError: no"), ("b", None)]
    assert script.closed == ["a", "b"]


def test_stream_never_fails_over_after_the_first_chunk():
    script = Script(late_a=ConnectionError("cut"))
    stream = dispatch_stream(decide("a", "b"), script.stream)
    assert [next(stream), next(stream)] == ["answer of a", "more"]
    with pytest.raises(ConnectionError, match="cut"):
        next(stream)
    assert script.called == ["a"]
    assert [(a.expert, a.error) for a in stream.tried] == [("a", "ConnectionError: cut")]


def test_an_empty_stream_is_a_failure():
    stream = dispatch_stream(decide("a", "b"), lambda name: [] if name == "a" else [name])
    assert list(stream) == ["b"]
    assert stream.tried[0].error == "ExpertError: the stream of a ended without a chunk"
    with pytest.raises(ExpertError, match="without a chunk"):
        next(
            dispatch_stream(
                decide("a"), lambda name: [], options=DispatchOptions(errors=(TimeoutError,))
            )
        )


def test_stream_all_down():
    script = Script(a=ValueError(), b=ValueError())
    stream = dispatch_stream(decide("a", "b"), script.stream)
    with pytest.raises(DispatchError):
        next(stream)
    assert list(stream) == []
    assert script.called == ["a", "b"]


def test_closing_a_stream_closes_the_expert_s():
    script = Script()
    stream = dispatch_stream(
        decide("a", "b"), script.stream, options=DispatchOptions(errors=(BaseException,))
    )
    next(stream)
    stream.close()
    assert (script.called, script.closed) == (["a"], ["a"])
    assert stream.tried[0].error is None


async def test_a_stream_that_nobody_holds_closes_the_expert_s():
    """At once: a connection should not wait for the garbage collector."""
    script, ascript = Script(), Script()
    stream = dispatch_stream(decide("a"), script.stream)
    astream = adispatch_stream(decide("a"), ascript.astream)
    gc.disable()
    try:
        next(stream)
        await anext(astream)
        del stream, astream
        for _ in range(5):  # the event loop closes asynchronous generators in tasks
            await asyncio.sleep(0)
        assert script.closed == ascript.closed == ["a"]
    finally:
        gc.enable()


async def test_async_stream():
    script = Script(a=ValueError("no"))
    stream = adispatch_stream(decide("a", "b"), script.astream)
    assert [chunk async for chunk in stream] == ["answer of b", "more", "end"]
    assert stream.answered_by == "b"
    script = Script(late_a=ConnectionError("cut"))
    stream = adispatch_stream(decide("a", "b"), script.astream)
    with pytest.raises(ConnectionError):
        [chunk async for chunk in stream]
    assert (script.called, stream.tried[0].error) == (["a"], "ConnectionError: cut")


async def test_async_stream_of_a_coroutine_that_returns_an_iterator():
    script = Script(a=ValueError())

    async def opened(name: str):
        if name == "b":
            raise ValueError
        return script.astream(name)

    stream = adispatch_stream(decide("a", "b", "c"), opened)
    assert await anext(stream) == "answer of c"
    await stream.aclose()
    assert [a.expert for a in stream.tried] == ["a", "b", "c"]


async def test_async_stream_cancelled_before_its_first_chunk():
    called = []

    async def hang(name: str):
        called.append(name)
        await asyncio.sleep(3600)
        yield name

    stream = adispatch_stream(
        decide("a", "b"), hang, options=DispatchOptions(errors=(BaseException,))
    )
    task = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert called == ["a"]


def test_the_record_joins_decision_and_dispatch():
    decision = decide("a", "b")
    joined = record(decision, dispatch(decision, Script(a=ValueError("no")).call))
    data = json.loads(json.dumps(joined.to_dict(top=1)))
    assert set(data) == {*decision.to_dict(), "tried", "answered_by"}
    assert (data["expert"], data["answered_by"]) == ("a", "b")
    assert [set(attempt) for attempt in data["tried"]] == [{"expert", "error", "seconds"}] * 2
    assert joined.prompt == "text"
    assert joined.order == ("a", "b")
    assert joined.explain().endswith("Tried: a failed with ValueError: no\nAnswered by b")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("first\nsecond", "ValueError: first"),
        ("", "ValueError"),
        (
            "Incorrect API key provided: sk-proj-abc123. Find",
            "ValueError: Incorrect API key provided: *** Find",
        ),
        ("header Authorization: Bearer abc.def", "ValueError: header Authorization: Bearer ***"),
        ("https://me:pw@host/x?api_key=123&y=1", "ValueError: https://***@host/x?***"),
        ("token hf_abcdefghij refused", "ValueError: token *** refused"),
        ("the token limit is 512", "ValueError: the token limit is 512"),
        ("OPENAI_API_KEY=abc123def bad", "ValueError: OPENAI_API_KEY=*** bad"),
        ("HF_TOKEN=abc", "ValueError: HF_TOKEN=***"),
        ("AZURE_OPENAI_KEY=abc", "ValueError: AZURE_OPENAI_KEY=***"),
        ("client_secret=abc", "ValueError: client_secret=***"),
        ("refresh_token: abc", "ValueError: refresh_token: ***"),
        ("passwd=hunter2", "ValueError: passwd=***"),
        ("Authorization: Basic dXNlcjpw", "ValueError: Authorization: Basic ***"),
        ("{'Authorization': 'Basic dXNlcjpw'}", "ValueError: {'Authorization': ***}"),
        ("{'X-Api-Key': 'ab', 'Accept': 'c'}", "ValueError: {'X-Api-Key': ***, 'Accept': 'c'}"),
        ("Set-Cookie: SID=abc; id=def", "ValueError: Set-Cookie: ***"),
        ("api_key='my secret' is wrong", "ValueError: api_key=*** is wrong"),
        (r"{\"api_key\": \"abc\"}", r"ValueError: {\"api_key\": ***"),
        ("https://host/v1?key=abc&x=1", "ValueError: https://host/v1?***"),
        ("url: /v1?sig=abc (Caused by", "ValueError: url: /v1?*** (Caused by"),
        ("?key=abc", "ValueError: ?***"),
        ("AKIAIOSFODNN7EXAMPLE refused", "ValueError: *** refused"),
        ("eyJhbGciOi.eyJzdWIi.sfl-K refused", "ValueError: *** refused"),
        ("max_tokens: 512; what? hf_hub_download", None),
        ("unknown key: 'name'", None),
    ],
)
def test_error_texts_hold_one_line_and_no_secret(message, expected):
    assert describe_error(ValueError(message)) == (expected or f"ValueError: {message}")


def test_error_texts_are_cut():
    cut = describe_error(ValueError("x" * 1000))
    assert len(cut) == 400
    assert cut.endswith("x…")


def test_a_batch_is_grouped_and_fails_over_row_by_row():
    calls = []

    def call(name, rows):
        calls.append((name, rows))
        return [ValueError("no") if name == "a" and row == 2 else f"{name}{row}" for row in rows]

    decisions = [decide("a", "b"), decide("b", "a"), decide("a", "b")]
    outcomes = dispatch_batch(decisions, call)
    assert [(o.value, o.answered_by) for o in outcomes] == [("a0", "a"), ("b1", "b"), ("b2", "b")]
    assert calls == [("a", [0, 2]), ("b", [1]), ("b", [2])]
    assert [a.error for a in outcomes[2].tried] == ["ValueError: no", None]
    assert dispatch_batch([], call) == []


@pytest.mark.parametrize("error", [MissingExtraError("install it"), KeyError("a graph's own")])
async def test_a_row_that_must_not_fail_over_calls_no_other_expert(error):
    calls = []

    def call(name, rows):
        calls.append((name, rows))
        return [error if row == 0 else row for row in rows]

    async def acall(name, rows):
        return call(name, rows)

    def is_failure(error):
        return not isinstance(error, KeyError)

    decisions = [decide("a", "b"), decide("a", "b")]
    for outcomes in (
        dispatch_batch(decisions, call, options=DispatchOptions(errors=is_failure)),
        await adispatch_batch(decisions, acall, options=DispatchOptions(errors=is_failure)),
    ):
        assert outcomes[0] is error
        assert outcomes[1].value == 1
    assert calls == [("a", [0, 1])] * 2


async def test_a_function_tells_what_a_failure_is():
    def is_failure(error):
        return isinstance(error, ValueError)

    order = decide("a", "b")
    assert (
        dispatch(
            order, Script(a=ValueError()).call, options=DispatchOptions(errors=is_failure)
        ).answered_by
        == "b"
    )
    script = Script(a=KeyError("bug"))
    with pytest.raises(KeyError):
        dispatch(order, script.call, options=DispatchOptions(errors=is_failure))
    with pytest.raises(KeyError):
        await adispatch(order, script.acall, options=DispatchOptions(errors=is_failure))
    with pytest.raises(KeyError):
        next(dispatch_stream(order, script.stream, options=DispatchOptions(errors=is_failure)))
    with pytest.raises(KeyError):
        await anext(
            adispatch_stream(order, script.astream, options=DispatchOptions(errors=is_failure))
        )
    assert script.called == ["a"] * 4


def test_a_batch_keeps_the_error_of_each_row():
    def call(name, rows):
        if name == "a":
            raise ValueError("a is down")
        return [KeyError(row) for row in rows]

    decisions = [decide("a"), decide("b", "a")]
    down, bug = dispatch_batch(decisions, call, options=DispatchOptions(errors=(ValueError,)))
    assert isinstance(down, DispatchError)
    assert str(down.__cause__) == "a is down"
    assert isinstance(bug, KeyError)

    def broken(name, rows):
        raise KeyError(name)

    with pytest.raises(KeyError):
        dispatch_batch(decisions, broken, options=DispatchOptions(errors=(ValueError,)))


@pytest.mark.parametrize("at_once", [True, False])
async def test_async_batches(at_once):
    running, peak = 0, 0

    async def call(name, rows):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1
        if name == "a":
            raise ValueError("no")
        return [f"{name}{row}" for row in rows]

    decisions = [decide("a", "b"), decide("b"), decide("c")]
    outcomes = await adispatch_batch(decisions, call, at_once=at_once)
    assert [o.value for o in outcomes] == ["b0", "b1", "c2"]
    assert peak == (3 if at_once else 1)

    async def broken(name, rows):
        if name == "b":
            raise KeyError(name)
        await asyncio.sleep(0)
        ended.append(name)
        return rows

    ended = []
    with pytest.raises(KeyError):
        await adispatch_batch(
            decisions, broken, options=DispatchOptions(errors=(ValueError,)), at_once=True
        )
    assert ended == ["a", "c"]
