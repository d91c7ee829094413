"""What chains and agents rely on beyond the standard tests."""

import asyncio
import functools
import gc
import inspect
import operator
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.language_models import BaseChatModel, BaseLLM, FakeListLLM
from langchain_core.messages import HumanMessage, trim_messages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatResult, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField
from langgraph.graph import START, MessagesState, StateGraph

from langchain_tryage import ChatTryage, TryageLLM, TryageRouter, TryageSelector
from tryage import Goals, Policy
from tryage.errors import DispatchError, ExpertError, PromptError, RouterNotFoundError


def graph_of(model):
    """A LangGraph graph of one node that calls the model."""
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "model")
    return graph.compile()


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
def test_langgraph_streams_every_token_once(router, kit, kind):
    graph = graph_of(kind(router, kit.experts()))
    state = {"messages": [("human", kit.code)]}
    parts = list(graph.stream(state, stream_mode="messages"))
    assert "".join(message.content for message, _ in parts) == f"coder says {kit.code}"
    assert len({message.id for message, _ in parts}) == 1
    assert all("expert:coder" in metadata["tags"] for _, metadata in parts)
    assert sum("tryage" in message.response_metadata for message, _ in parts) <= 1


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
async def test_nothing_is_counted_twice(router, kit, kind):
    chain = ChatPromptTemplate.from_template("{text}") | kind(router, kit.experts())
    chain = chain | StrOutputParser()
    with get_usage_metadata_callback() as usage:
        text = chain.invoke({"text": kit.code})
        await chain.ainvoke({"text": kit.code})
        assert "".join(chain.stream({"text": kit.code})) == text
    counted = usage.usage_metadata["coder-model"]
    assert counted["total_tokens"] == 3 * (5 + len(text.split()))


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
async def test_events_name_the_expert_once(router, kit, kind):
    model = kind(router, kit.experts())
    events = [event async for event in model.astream_events(kit.code, version="v2")]
    starts = [event for event in events if event["event"] == "on_chat_model_start"]
    (start,) = starts
    assert "expert:coder" in start["tags"]
    assert start["metadata"]["ls_model_name"] == "coder-model"
    assert start["metadata"]["tryage"]["expert"] == "coder"
    pieces = [e["data"]["chunk"].content for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(pieces) == f"coder says {kit.code}"


def test_the_graph_shows_the_experts(router, kit):
    drawn = TryageRouter(router, kit.experts()).get_graph().draw_mermaid()
    for name in ("coder", "writer", "giant"):
        assert name in drawn
    assert ChatTryage(router, kit.experts()).get_graph().draw_mermaid()


def test_tokens_are_counted_by_the_experts(router, kit):
    """LangChain's own way loads a tokenizer from the Hub."""
    experts = {
        "coder": kit.Whole(label="coder", custom_get_token_ids=lambda text: list(map(ord, text))),
        "writer": kit.Whole(label="writer", custom_get_token_ids=lambda text: [0]),
    }
    texts = {
        name: FakeListLLM(responses=["x"], custom_get_token_ids=e.custom_get_token_ids)
        for name, e in experts.items()
    }
    for model in (ChatTryage(router, experts), TryageLLM(router, texts)):
        assert model.get_num_tokens("four") == 4
        messages = [HumanMessage("four"), HumanMessage("more")]
        assert model.get_num_tokens_from_messages(messages) == 2 * len("Human: four")
        trimmed = trim_messages(messages, max_tokens=12, token_counter=model, strategy="last")
        assert trimmed == messages[1:]
        with pytest.raises(NotImplementedError, match="a tokenizer of its own"):
            model.get_token_ids("four")
        own = type(model)(router, model.experts, custom_get_token_ids=str.split)
        assert (own.get_num_tokens("a b"), own.get_token_ids("a b")) == (2, ["a", "b"])
        assert own.get_num_tokens_from_messages(messages) == 4


async def test_caches_do_not_mix_routers(router, kit):
    from langchain_core.globals import set_llm_cache

    set_llm_cache(InMemoryCache())
    try:
        one = ChatTryage(router, {"coder": kit.Whole(label="one")})
        two = ChatTryage(router, {"coder": kit.Whole(label="two")})
        for _ in range(2):
            assert one.invoke(kit.code).content.startswith("one says")
            assert (await two.ainvoke(kit.code)).content.startswith("two says")
    finally:
        set_llm_cache(None)


async def drained(chunks):
    return [chunk async for chunk in chunks]


AWAITED = {
    "ainvoke": lambda model, text: model.ainvoke(text),
    "abatch": lambda model, text: model.abatch([text]),
    "astream": lambda model, text: drained(model.astream(text)),
    "astream_events": lambda model, text: drained(model.astream_events(text, version="v2")),
    "agenerate": lambda model, text: model.agenerate_prompt([model._convert_input(text)]),
    "messages": lambda model, text: model.agenerate([[HumanMessage(text)]]),
    "texts": lambda model, text: model.agenerate([text]),
}
OF_CHAT_MODELS = [name for name in AWAITED if name != "texts"]
OF_TEXT_MODELS = [name for name in AWAITED if name != "messages"]
OF_RUNNABLES = ("ainvoke", "abatch", "astream")


def nested(router, experts):
    """A router whose expert is a router; the outer one decides at once."""
    return ChatTryage(router, {"coder": ChatTryage(router, experts)})


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((ChatTryage, name) for name in OF_CHAT_MODELS),
        *((nested, name) for name in ("ainvoke", "astream")),
        *((TryageLLM, name) for name in OF_TEXT_MODELS),
        *((TryageRouter, name) for name in OF_RUNNABLES),
        *((TryageSelector, name) for name in OF_RUNNABLES),
    ],
)
async def test_the_event_loop_stays_free(router, kit, kind, name, monkeypatch):
    """While a slow decision runs, other tasks go on."""
    entered, leave = threading.Event(), threading.Event()
    experts = {n: FakeListLLM(responses=[n]) for n in ("coder", "writer", "giant")}
    model = kind(router, experts if kind is TryageLLM else kit.experts())
    waits = iter([False, True] if kind is nested else [True])

    def slow(decide):
        def decide_slowly(self, *args, **kwargs):
            if next(waits, False):
                entered.set()
                leave.wait(10)
            return decide(self, *args, **kwargs)

        return decide_slowly

    for method in ("route", "route_batch"):
        monkeypatch.setattr(type(router), method, slow(getattr(type(router), method)))
    task = asyncio.create_task(AWAITED[name](model, kit.code))
    started = time.perf_counter()
    await kit.until(entered.is_set)
    assert time.perf_counter() - started < 8
    assert not task.done()
    leave.set()
    assert await task


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
def test_fifty_threads_get_their_own_answers(router, kit, kind):
    model = kind(router, kit.experts())
    texts = [f"{text}\n# {number}" for number in range(25) for text in (kit.code, kit.prose)]
    alone = [model.invoke(text).content for text in texts]
    with ThreadPoolExecutor(50) as pool:
        assert [m.content for m in pool.map(model.invoke, texts)] == alone


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter, TryageSelector])
def test_pickles(router, kit, kind):
    again = pickle.loads(pickle.dumps(kind(router, kit.experts())))
    one, two = again.invoke(kit.code), kind(router, kit.experts()).invoke(kit.code)
    assert getattr(one, "content", one) is not None
    assert getattr(one, "expert", None) == getattr(two, "expert", None)
    assert getattr(one, "content", None) == getattr(two, "content", None)


async def settled():
    """Let LangChain's own generators, which it leaves to the event loop, be closed by it."""
    gc.collect()
    for _ in range(20):
        await asyncio.sleep(0)


class Watched:
    """Mixed into a streaming model: notes when its streams are ended."""

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        try:
            yield from super()._stream(messages, stop, **kwargs)
        finally:
            self.calls.append("closed")

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        try:
            for chunk in super()._stream(messages, stop, **kwargs):
                await asyncio.sleep(0)
                yield chunk
        finally:
            self.calls.append("closed")


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
async def test_closing_and_cancelling_mid_stream_end_the_expert_s(router, kit, kind):
    experts = kit.experts(type("WatchedStreaming", (Watched, kit.Streaming), {}))
    model = kind(router, experts)
    calls = experts["coder"].calls
    stream = model.stream(kit.code)
    next(stream)
    stream.close()
    assert calls.pop() == "closed"
    astream = model.astream(kit.code)
    await anext(astream)
    await astream.aclose()
    await settled()
    assert calls.pop() == "closed"
    started = asyncio.Event()

    async def read():
        async for _ in model.astream(kit.code):
            started.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settled()
    assert calls.pop() == "closed"
    assert not experts["giant"].calls
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
async def test_an_expert_that_returns_nothing_has_failed(router, kit, kind):
    class Nothing(kit.Streaming):
        def _stream(self, messages, stop=None, run_manager=None, **kwargs):
            return iter(())

    experts = kit.experts() | {"coder": Nothing(label="coder")}
    model = kind(router, experts)
    chunks = list(model.stream(kit.code))
    assert "".join(chunk.content for chunk in chunks) == f"giant says {kit.code}"
    chunks = [chunk async for chunk in model.astream(kit.code)]
    assert "".join(chunk.content for chunk in chunks) == f"giant says {kit.code}"
    alone = kind(router, {"coder": Nothing(label="coder")})
    with pytest.raises((DispatchError, ExpertError, ValueError)):
        list(alone.stream(kit.code))


@pytest.mark.parametrize("nothing", [None, ChatResult(generations=[])])
async def test_an_answer_of_nothing_fails_over_in_every_way(router, kit, nothing):
    class NoGenerations(kit.Whole):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            return nothing

    chat = ChatTryage(router, kit.experts() | {"coder": NoGenerations(label="coder")})
    messages = [
        chat.invoke(kit.code),
        await chat.ainvoke(kit.code),
        *chat.batch([kit.code]),
        *await chat.abatch([kit.code]),
    ]
    messages.append(functools.reduce(operator.add, chat.stream(kit.code)))
    messages.append(functools.reduce(operator.add, [c async for c in chat.astream(kit.code)]))
    for message in messages:
        assert message.content == f"giant says {kit.code}"
        attempt = message.response_metadata["tryage"]["tried"][0]
        assert attempt["error"] == "ExpertError: coder returned nothing"


@pytest.mark.parametrize("nothing", [None, LLMResult(generations=[[]])])
async def test_a_text_model_s_answer_of_nothing_fails_over(router, kit, nothing):
    class NoGenerations(FakeListLLM):
        def _generate(self, prompts, stop=None, run_manager=None, **kwargs):
            return nothing

        async def _agenerate(self, prompts, stop=None, run_manager=None, **kwargs):
            return self._generate(prompts)

    experts = {"coder": NoGenerations(responses=["x"]), "giant": FakeListLLM(responses=["giant"])}
    model = TryageLLM(router, experts)
    for result in (model.generate([kit.code]), await model.agenerate([kit.code])):
        ((generation,),) = result.generations
        assert generation.text == "giant"
        attempt = generation.generation_info["tryage"]["tried"][0]
        assert attempt["error"] == "ExpertError: coder returned nothing"
    assert list(model.stream(kit.code)) == ["giant"]
    assert [piece async for piece in model.astream(kit.code)] == ["giant"]


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
async def test_input_that_comes_in_pieces_is_put_together(router, kit, kind):
    experts = kit.experts()
    model = kind(router, experts)
    pieces = [kit.code[:20], kit.code[20:]]
    config = {"tags": ["mine"], "callbacks": [heard := kit.Recorder()]}
    options = {"config": config, "stop": ["return"], "top_k": 3}

    async def apieces():
        for piece in pieces:
            yield piece

    for chunks in (
        list(model.transform(iter(pieces), **options)),
        [chunk async for chunk in model.atransform(apieces(), **options)],
    ):
        answer = f"coder says {kit.code}".partition("return")[0]
        assert "".join(chunk.content for chunk in chunks) == answer
        assert sum("tryage" in chunk.response_metadata for chunk in chunks) == 1
    for call, start in zip(experts["coder"].calls, heard.starts, strict=True):
        assert (call["stop"], call["kwargs"]) == (["return"], {"top_k": 3})
        assert {"mine", "expert:coder"} <= set(start["tags"])


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
@pytest.mark.parametrize("at_most", [None, 1])
async def test_batches_keep_order_errors_and_the_config_of_each_item(router, kit, kind, at_most):
    model = kind(router, kit.experts())
    assert model.batch([]) == await model.abatch([]) == []
    inputs = [kit.code, kit.prose, "  ", kit.code]
    bound = {"max_concurrency": at_most}
    configs = [bound | {"configurable": {"tryage_goals": {"size": 2.0}}}, bound, bound, bound]
    for outputs in (
        model.batch(inputs, configs, return_exceptions=True),
        await model.abatch(inputs, configs, return_exceptions=True),
    ):
        assert isinstance(outputs.pop(2), PromptError)
        answered = [message.content.partition(" ")[0] for message in outputs]
        assert answered == ["writer", "writer", "coder"]
    dict_of = dict(model.batch_as_completed(inputs[:2]))
    assert dict_of[1].content == f"writer says {kit.prose}"


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
def test_limits_and_policies_are_configurable_fields_too(router, kit, kind):
    fields = {name: ConfigurableField(name) for name in ("goals", "policy")}
    model = kind(router, kit.experts()).configurable_fields(**fields)
    limits = {"parameters": "<=1B"}
    for value in ({"goals": Goals(limits=limits)}, {"policy": Policy(limits=limits)}):
        message = model.invoke(kit.code, {"configurable": value})
        ranking = message.response_metadata["tryage"]["ranking"]
        refused = {row["expert"]: row["reason"] for row in ranking if not row["eligible"]}
        assert "giant" in refused
        assert "parameters" in refused["giant"]
    assert {"goals", "policy"} <= {spec.id for spec in model.config_specs}


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
async def test_streams_that_are_closed_leave_no_thread(router, kit, kind):
    model = kind(router, kit.experts(), timeout=30)
    await model.ainvoke(kit.code)
    before = set(threading.enumerate())
    stream = model.stream(kit.code)
    next(stream)
    stream.close()
    astream = model.astream(kit.code)
    await anext(astream)
    await astream.aclose()
    await settled()
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(10)
    assert not any(thread.is_alive() for thread in left)


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter, TryageSelector, TryageLLM])
def test_a_router_folder_that_is_missing_is_one_clear_error(kind, tmp_path):
    with pytest.raises(RouterNotFoundError, match="nowhere"):
        kind(str(tmp_path / "nowhere"))


async def test_only_the_errors_asked_for_are_made_up_for(router, kit):
    faults = {"coder": {"fault": KeyError("mine")}}
    model = ChatTryage(router, kit.experts(**faults), errors=(ConnectionError,))
    with pytest.raises(KeyError, match="mine"):
        model.invoke(kit.code)
    with pytest.raises(KeyError, match="mine"):
        await model.ainvoke(kit.code)


async def test_concurrent_calls_run_side_by_side(router, kit):
    """All 50 calls are inside the expert at the same time."""
    inside, most = 0, 0
    everybody = asyncio.Event()

    class Slow(kit.Whole):
        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            if inside == 50:
                everybody.set()
            await asyncio.wait_for(everybody.wait(), 30)
            inside -= 1
            return self._generate(messages, stop, **kwargs)

    model = ChatTryage(router, kit.experts(Slow))
    await asyncio.gather(*(model.ainvoke(kit.code) for _ in range(50)))
    assert most == 50


def test_the_private_methods_used_have_the_signatures_expected():
    """A release of langchain-core that changes them is found here first."""
    used = {
        BaseChatModel._generate_with_cache: ["messages", "stop", "run_manager", "kwargs"],
        BaseChatModel._agenerate_with_cache: ["messages", "stop", "run_manager", "kwargs"],
        BaseChatModel._stream: ["messages", "stop", "run_manager", "kwargs"],
        BaseChatModel._astream: ["messages", "stop", "run_manager", "kwargs"],
        BaseChatModel._should_stream: ["async_api", "run_manager", "kwargs"],
        BaseChatModel._get_ls_params: ["stop", "kwargs"],
        BaseChatModel._get_llm_string: ["stop", "kwargs"],
        BaseChatModel._get_invocation_params: ["stop", "kwargs"],
        BaseLLM._generate: ["prompts", "stop", "run_manager", "kwargs"],
        BaseLLM._agenerate: ["prompts", "stop", "run_manager", "kwargs"],
        BaseLLM._stream: ["prompt", "stop", "run_manager", "kwargs"],
        BaseLLM._astream: ["prompt", "stop", "run_manager", "kwargs"],
        BaseLLM._dict_for_compat: [],
    }
    for method, parameters in used.items():
        assert list(inspect.signature(method).parameters)[1:] == parameters, method
