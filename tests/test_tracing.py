"""Spans of decisions, attempts and checks, through both adapters, in every way of calling."""

import asyncio
import json
import subprocess
import sys
import threading

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langgraph.errors import GraphInterrupt
from llama_index.core.base.llms.types import ChatMessage

from langchain_tryage import ChatTryage, TryageMiddleware, TryageRouter
from langchain_tryage import TryageLLM as TryageText
from langchain_tryage.testing import ScriptedChat, ScriptedText
from llama_index_tryage import TryageLLM
from llama_index_tryage.testing import ScriptedLLM
from tryage import Expert, Library, Router
from tryage.checks import Check
from tryage.dispatch import DispatchOptions, dispatch
from tryage.errors import DispatchError, NoEligibleExpertError
from tryage.testing import Gate
from tryage.tracing import start_tracing, stop_tracing

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs opentelemetry-sdk")
from opentelemetry import trace  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: E402
    InMemorySpanExporter,
)

SECRET = "The launch code is 7431."
CODER = {"tryage.prompts": 1, "gen_ai.operation.name": "chat", "gen_ai.request.model": "coder"}


class Spans:
    """The spans that ended, and a tracer to make others."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.provider = sdk.TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    def ended(self):
        """Return the spans so far, and forget them."""
        spans = self.exporter.get_finished_spans()
        self.exporter.clear()
        return list(spans)


@pytest.fixture
def spans():
    spans = Spans()
    start_tracing(spans.provider)
    yield spans
    stop_tracing()


@pytest.fixture(scope="module")
def small_router():
    return Router.from_library(Library([Expert(name=n, model=n) for n in ("coder", "giant")]))


def names(spans):
    return [span.name for span in spans]


def chats(**faults):
    return {n: ScriptedChat(label=n, **faults.get(n, {})) for n in ("coder", "giant")}


def llms(**faults):
    return {n: ScriptedLLM(label=n, **faults.get(n, {})) for n in ("coder", "giant")}


def texts(**faults):
    return {n: ScriptedText(label=n, **faults.get(n, {})) for n in ("coder", "giant")}


async def drained(stream):
    return [chunk async for chunk in stream]


async def drained_later(coroutine):
    return await drained(await coroutine)


def messages():
    return [ChatMessage(SECRET)]


def agent(router, experts, **options):
    return create_agent(chats()["giant"], [], middleware=[TryageMiddleware(router, experts)])


WAYS = {
    "chat invoke": (ChatTryage, chats, lambda m: m.invoke(SECRET)),
    "chat stream": (ChatTryage, chats, lambda m: list(m.stream(SECRET))),
    "chat ainvoke": (ChatTryage, chats, lambda m: m.ainvoke(SECRET)),
    "chat astream": (ChatTryage, chats, lambda m: drained(m.astream(SECRET))),
    "text invoke": (TryageText, texts, lambda m: m.invoke(SECRET)),
    "text ainvoke": (TryageText, texts, lambda m: m.ainvoke(SECRET)),
    "text stream": (TryageText, texts, lambda m: list(m.stream(SECRET))),
    "text astream": (TryageText, texts, lambda m: drained(m.astream(SECRET))),
    "runnable invoke": (TryageRouter, chats, lambda m: m.invoke(SECRET)),
    "runnable ainvoke": (TryageRouter, chats, lambda m: m.ainvoke(SECRET)),
    "runnable stream": (TryageRouter, chats, lambda m: list(m.stream(SECRET))),
    "runnable astream": (TryageRouter, chats, lambda m: drained(m.astream(SECRET))),
    "agent": (agent, chats, lambda m: m.invoke({"messages": [("user", SECRET)]})),
    "awaited agent": (agent, chats, lambda m: m.ainvoke({"messages": [("user", SECRET)]})),
    "chat": (TryageLLM, llms, lambda m: m.chat(messages())),
    "complete": (TryageLLM, llms, lambda m: m.complete(SECRET)),
    "stream_chat": (TryageLLM, llms, lambda m: list(m.stream_chat(messages()))),
    "stream_complete": (TryageLLM, llms, lambda m: list(m.stream_complete(SECRET))),
    "achat": (TryageLLM, llms, lambda m: m.achat(messages())),
    "acomplete": (TryageLLM, llms, lambda m: m.acomplete(SECRET)),
    "astream_chat": (TryageLLM, llms, lambda m: drained_later(m.astream_chat(messages()))),
    "astream_complete": (TryageLLM, llms, lambda m: drained_later(m.astream_complete(SECRET))),
}


async def called(call, model):
    made = call(model)
    return await made if asyncio.iscoroutine(made) else made


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("way", WAYS)
async def test_every_way_makes_the_same_spans(way, timeout, small_router, spans):
    kind, experts, call = WAYS[way]
    inside = []

    def notes(sent):
        inside.append(trace.get_current_span().get_span_context().span_id)
        return "yes it is"

    options = {} if timeout is None else {"timeout": timeout}
    broken = {"coder": {"fault": ConnectionError(SECRET)}, "giant": {"answer": notes}}
    model = kind(small_router, experts(**broken), **options)
    with spans.tracer.start_as_current_span("outer") as outer:
        await called(call, model)
        assert trace.get_current_span() is outer
    decided, failed, answered, own = spans.ended()
    assert names([decided, failed, answered, own]) == [
        "tryage.decide",
        "tryage.attempt coder",
        "tryage.attempt giant",
        "outer",
    ]
    assert {span.parent.span_id for span in (decided, failed, answered)} == {own.context.span_id}
    assert inside == [answered.context.span_id]
    assert dict(decided.attributes) == {
        "tryage.library": small_router.library.name,
        "tryage.prompts": 1,
        "tryage.expert": "coder",
        "tryage.task": "text-generation",
        "tryage.out_of_distribution": False,
    }
    assert dict(failed.attributes) == CODER | {"error.type": "ConnectionError"}
    assert (failed.status.status_code.name, failed.status.description) == ("ERROR", None)
    assert answered.status.status_code.name == "UNSET"
    streams = "stream" in way
    assert [event.name for event in answered.events] == ["tryage.first_chunk"] * streams
    assert SECRET not in json.dumps([json.loads(span.to_json()) for span in spans.ended()])
    assert all(SECRET not in span.to_json() for span in (decided, failed, answered))


async def test_batches_have_a_span_for_each_call_of_an_expert(small_router, spans):
    model = TryageRouter(small_router, chats(coder={"fault": ConnectionError("no")}))
    for call in (lambda: model.batch(["a", "b"]), lambda: model.abatch(["a", "b"])):
        with spans.tracer.start_as_current_span("outer") as outer:
            outputs = call()
            outputs = await outputs if asyncio.iscoroutine(outputs) else outputs
        assert [output.content for output in outputs] == ["giant says a", "giant says b"]
        decided, failed, answered, _ = spans.ended()
        assert {s.parent.span_id for s in (decided, failed, answered)} == {
            outer.get_span_context().span_id
        }
        assert decided.attributes["tryage.prompts"] == 2
        assert "tryage.expert" not in decided.attributes
        assert failed.attributes["tryage.prompts"] == failed.attributes["tryage.failed"] == 2
        assert failed.attributes["error.type"] == "ConnectionError"
        assert "error.type" not in answered.attributes


def by_giant(prompt, answer):
    return 0.75 if answer.startswith("giant") else 0.25


async def by_giant_awaited(prompt, answer):
    return by_giant(prompt, answer)


@pytest.mark.parametrize("function", [by_giant, by_giant_awaited])
@pytest.mark.parametrize("way", ["chat invoke", "chat astream", "achat", "stream_complete"])
async def test_checks_have_spans(way, function, scored_router, spans):
    kind, experts, call = WAYS[way]
    check = Check(function, accepts_right=1.0, accepts_wrong=0.0)
    made = experts()
    made["writer"] = type(made["coder"])(label="writer")
    await called(call, kind(scored_router, made, check=check, max_attempts=3))
    decided, *rest = spans.ended()
    attempts = [span.name.split()[-1] for span in rest if span.name.startswith("tryage.attempt")]
    assert list(decided.attributes["tryage.plan"])[: len(attempts)] == attempts
    checked = [span for span in rest if span.name == f"tryage.check {function.__name__}"]
    assert [span.attributes["gen_ai.request.model"] for span in checked] == attempts
    labels = [span.attributes["gen_ai.evaluation.score.label"] for span in checked]
    assert labels == ["accepted" if name == "giant" else "rejected" for name in attempts]
    values = [span.attributes["gen_ai.evaluation.score.value"] for span in checked]
    assert values == [0.75 if name == "giant" else 0.25 for name in attempts]
    assert "giant" in attempts


def test_a_check_that_fails_is_unclear(decide, spans):
    def fails(prompt, answer):
        raise ValueError(SECRET)

    dispatch(decide("coder"), lambda name: "yes", DispatchOptions(check=Check(fails)))
    _, checked = spans.ended()
    assert checked.attributes["tryage.check.unclear"] is True
    assert SECRET not in checked.to_json()


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("awaited", [False, True])
async def test_a_time_out_ends_the_span(small_router, spans, streams, awaited):
    gate = Gate()
    model = ChatTryage(small_router, chats(coder={"gate": gate}), timeout=0.05)
    if awaited:
        await (drained(model.astream("hi")) if streams else model.ainvoke("hi"))
    else:
        await asyncio.to_thread(lambda: list(model.stream("hi")) if streams else model.invoke("hi"))
    timed_out = spans.ended()[1]
    gate.open()
    assert timed_out.attributes["error.type"] == "tryage.errors.ExpertTimeoutError"


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_stream_that_dies_is_an_error_and_one_that_is_closed_is_none(
    small_router, spans, awaited
):
    async def read(model, chunks):
        stream = model.astream("hi there") if awaited else model.stream("hi there")
        for _ in range(chunks):
            await anext(stream) if awaited else next(stream)
        await stream.aclose() if awaited else stream.close()

    with pytest.raises(ConnectionError):
        await read(ChatTryage(small_router, chats(coder={"late": ConnectionError("cut")})), 3)
    assert spans.ended()[1].attributes["error.type"] == "ConnectionError"
    await read(ChatTryage(small_router, chats()), 1)
    _, closed = spans.ended()
    assert closed.attributes["tryage.interrupted"] is True
    assert closed.status.status_code.name == "UNSET"


async def test_interrupts_and_cancelled_calls_are_no_errors(small_router, spans):
    def interrupts(value):
        raise GraphInterrupt(())

    with pytest.raises(GraphInterrupt):
        TryageRouter(small_router, {"coder": RunnableLambda(interrupts)}).invoke("hi")
    gate = Gate()
    model = ChatTryage(small_router, chats(coder={"gate": gate}))
    call = asyncio.create_task(model.ainvoke("hi"))
    async with asyncio.timeout(30):
        while not gate.waiting:
            await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for span in spans.ended()[1::2]:
        assert span.attributes["tryage.interrupted"] is True
        assert span.status.status_code.name == "UNSET"


async def test_calls_side_by_side_keep_their_own_parents(small_router, spans):
    model = ChatTryage(small_router, chats())

    async def one(number):
        with spans.tracer.start_as_current_span(f"outer {number}") as outer:
            await model.ainvoke(f"{number}")
            assert trace.get_current_span() is outer

    await asyncio.gather(*(one(number) for number in range(20)))
    all_spans = spans.ended()
    outer = {s.context.span_id: s.context.trace_id for s in all_spans if s.name.startswith("outer")}
    inner = [span for span in all_spans if not span.name.startswith("outer")]
    assert len(inner) == 40
    assert all(outer[span.parent.span_id] == span.context.trace_id for span in inner)


def test_a_stream_that_is_read_by_turns_in_other_threads(small_router, spans):
    stream = ChatTryage(small_router, chats()).stream("one two three")
    chunks = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: chunks.append(next(stream).content))
        thread.start()
        thread.join(10)
    chunks += [chunk.content for chunk in stream]
    assert "".join(chunks) == "coder says one two three"
    assert names(spans.ended()) == ["tryage.decide", "tryage.attempt coder"]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_errors_of_decisions_and_of_everybody(small_router, spans):
    with pytest.raises(NoEligibleExpertError):
        small_router.route("hi", goals=None, task="fill-mask")
    [decided] = spans.ended()
    assert decided.attributes["error.type"] == "tryage.errors.NoEligibleExpertError"
    with pytest.raises(DispatchError):
        ChatTryage(small_router, {"coder": chats(coder={"fault": OSError("x")})["coder"]}).invoke(
            "a"
        )
    assert spans.ended()[-1].attributes["error.type"] == "OSError"


def test_prompts_and_messages_only_where_they_are_asked_for(small_router, spans):
    start_tracing(spans.provider, prompts=True)
    fault = ConnectionError("refused, api_key=sk-notasecret123")
    ChatTryage(small_router, chats(coder={"fault": fault})).invoke(SECRET)
    decided, failed, _ = spans.ended()
    [message] = json.loads(decided.attributes["gen_ai.input.messages"])
    assert message == {"role": "user", "parts": [{"type": "text", "content": SECRET}]}
    assert failed.status.description.startswith("refused")
    assert "sk-notasecret123" not in failed.status.description


def test_it_is_off_by_default_and_can_be_turned_off(small_router):
    spans = Spans()
    model = ChatTryage(small_router, chats())
    model.invoke("hi")
    start_tracing(spans.provider)
    model.invoke("hi")
    stream = model.stream("hi")
    next(stream)
    stop_tracing()
    list(stream)
    model.invoke("hi")
    assert names(spans.ended()) == ["tryage.decide", "tryage.attempt coder"] * 2


def test_without_a_call_nothing_of_opentelemetry_is_loaded_or_needed(monkeypatch):
    code = """
import sys
sys.modules["opentelemetry"] = None
from tryage import Expert, Library, Router
from tryage.tracing import start_tracing
Router.from_library(Library([Expert(name="a", model="a")])).route("hi")
try:
    start_tracing()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "tryage[otel]"' in done.stdout


def test_the_global_provider_is_the_default(monkeypatch, small_router):
    spans = Spans()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: spans.provider)
    start_tracing()
    small_router.route("hi")
    stop_tracing()
    assert names(spans.ended()) == ["tryage.decide"]
