"""`ChatTryage`: one run, one count of tokens, the child's cache and limits, failover."""

import asyncio

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import RunnableLambda

from langchain_tryage import ChatTryage
from tryage import Goals, TryageWarning
from tryage.errors import DispatchError, LibraryError, PromptError, RouterNotFoundError
from tryage.testing import Gate

FLAG = "[Flag: size=2]"


async def every_way(chat, input, config=None, **kwargs):
    """Call a chat model in all its ways; one whole message each."""
    chunks = list(chat.stream(input, config, **kwargs))
    achunks = [chunk async for chunk in chat.astream(input, config, **kwargs)]
    return [
        chat.invoke(input, config, **kwargs),
        await chat.ainvoke(input, config, **kwargs),
        *chat.batch([input], config, **kwargs),
        *await chat.abatch([input], config, **kwargs),
        sum(chunks[1:], chunks[0]),
        sum(achunks[1:], achunks[0]),
    ]


async def test_every_way_answers_with_the_chosen_expert(router, kit):
    for kind in (kit.Streaming, kit.Whole):
        model = ChatTryage(router, kit.experts(kind))
        for message in await every_way(model, kit.code):
            assert message.content == f"coder says {kit.code}"
            decision = message.response_metadata["tryage"]
            assert (decision["expert"], decision["answered_by"]) == ("coder", "coder")
            assert [t["expert"] for t in decision["tried"]] == ["coder"]
            assert message.response_metadata["model_name"] == "coder-model"
            assert message.usage_metadata["output_tokens"] == len(message.content.split())
        assert model.invoke(kit.prose).content == f"writer says {kit.prose}"


async def test_the_decision_is_on_exactly_one_chunk(router, kit):
    for kind in (kit.Streaming, kit.Whole):
        model = ChatTryage(router, kit.experts(kind))
        chunks = list(model.stream(kit.code))
        achunks = [chunk async for chunk in model.astream(kit.code)]
        assert ["tryage" in c.response_metadata for c in chunks].count(True) == 1
        assert ["tryage" in c.response_metadata for c in achunks].count(True) == 1
        assert chunks[-1].chunk_position == achunks[-1].chunk_position == "last"
        assert (len(chunks) > 3) == (kind is kit.Streaming)


async def test_it_is_one_run_that_names_the_expert(router, kit):
    model = ChatTryage(router, kit.experts())
    for call in (
        lambda config: model.invoke(kit.code, config),
        lambda config: list(model.stream(kit.code, config)),
        lambda config: asyncio.run(model.ainvoke(kit.code, config)),
    ):
        recorder = kit.Recorder()
        await asyncio.to_thread(call, {"callbacks": [recorder], "tags": ["mine"]})
        (start,) = recorder.starts
        assert {"mine", "expert:coder"} <= set(start["tags"])
        assert start["tags"].count("expert:coder") == 1
        assert start["metadata"]["tryage"]["expert"] == "coder"
        assert start["metadata"]["ls_model_name"] == "coder-model"
        assert start["metadata"]["ls_provider"] == "scripted"
        assert "tryage" not in start["invocation_params"]
        assert len(recorder.ends) == 1


async def test_tokens_count_once(router, kit):
    model = ChatTryage(router, kit.experts())
    with get_usage_metadata_callback() as usage:
        message = model.invoke(kit.code)
    assert (
        usage.usage_metadata["coder-model"]["total_tokens"]
        == (message.usage_metadata["total_tokens"])
    )
    with get_usage_metadata_callback() as usage:
        chunks = [chunk async for chunk in model.astream(kit.code)]
    total = sum(chunks[1:], chunks[0]).usage_metadata["total_tokens"]
    assert usage.usage_metadata["coder-model"]["total_tokens"] == total


async def test_events_come_once(router, kit):
    model = ChatTryage(router, kit.experts())
    events = [event async for event in model.astream_events(kit.code, version="v2")]
    kinds = [event["event"] for event in events]
    assert kinds.count("on_chat_model_start") == kinds.count("on_chat_model_end") == 1
    pieces = [e["data"]["chunk"].content for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(pieces) == f"coder says {kit.code}"
    assert all("expert:coder" in event["tags"] for event in events)
    # Inside a chain that only invokes, tracers of events still see the tokens, once.
    chain = ChatPromptTemplate.from_template("{text}") | model | RunnableLambda(lambda m: m.content)
    events = [e async for e in chain.astream_events({"text": kit.code}, version="v2")]
    pieces = [e["data"]["chunk"].content for e in events if e["event"] == "on_chat_model_stream"]
    assert "".join(pieces) == f"coder says {kit.code}"


async def test_fails_over_and_records_it(router, kit):
    for kind in (kit.Streaming, kit.Whole):
        model = ChatTryage(router, kit.experts(kind, coder={"fault": ValueError("no")}))
        for message in await every_way(model, kit.code):
            assert message.content == f"giant says {kit.code}"
            decision = message.response_metadata["tryage"]
            assert (decision["expert"], decision["answered_by"]) == ("coder", "giant")
            assert [t["error"] for t in decision["tried"]] == ["ValueError: no", None]
            assert message.response_metadata["model_name"] == "giant-model"


async def test_never_fails_over_after_the_first_chunk(router, kit):
    experts = kit.experts(coder={"late": ConnectionError("cut")})
    model = ChatTryage(router, experts)
    recorder = kit.Recorder()
    chunks = model.stream(kit.code, {"callbacks": [recorder]})
    assert next(chunks).content == "coder"
    with pytest.raises(ConnectionError, match="cut"):
        next(chunks)
    assert [type(error) for error in recorder.errors] == [ConnectionError]
    assert not experts["giant"].calls
    achunks = model.astream(kit.code)
    assert (await anext(achunks)).content == "coder"
    with pytest.raises(ConnectionError, match="cut"):
        await anext(achunks)
    # Without a reader of chunks nothing was seen, but the expert streams here only on request.
    assert model.invoke(kit.code).content == f"coder says {kit.code}"


async def test_all_down(router, kit):
    faults = {name: {"fault": ValueError(name)} for name in ("coder", "writer", "giant")}
    model = ChatTryage(router, kit.experts(**faults))
    recorder = kit.Recorder()
    with pytest.raises(DispatchError, match="each of the 3 experts") as caught:
        model.invoke(kit.code, {"callbacks": [recorder]})
    assert [attempt.expert for attempt in caught.value.tried] == ["coder", "giant", "writer"]
    assert recorder.errors == [caught.value]
    for call in (
        lambda: list(model.stream(kit.code)),
        lambda: asyncio.run(model.ainvoke(kit.code)),
    ):
        with pytest.raises(DispatchError):
            await asyncio.to_thread(call)
    with pytest.raises(DispatchError):
        [chunk async for chunk in model.astream(kit.code)]
    one = ChatTryage(router, kit.experts(**faults), max_attempts=1)
    with pytest.raises(DispatchError, match="the one expert"):
        one.invoke(kit.code)


def test_closing_a_stream_closes_the_expert_s(router, kit):
    closed = []

    class Closing(kit.Streaming):
        def _stream(self, messages, stop=None, run_manager=None, **kwargs):
            try:
                yield from super()._stream(messages, stop, **kwargs)
            finally:
                closed.append(self.label)

    chunks = ChatTryage(router, kit.experts(Closing)).stream(kit.code)
    next(chunks)
    chunks.close()
    assert closed == ["coder"]


def test_closing_a_stream_closes_the_expert_s_iterator_at_once(router, kit):
    """Also one that the expert itself holds on to, so that no garbage collection closes it."""
    opened = []

    class Chunks:
        def __init__(self, chunks):
            self.chunks = chunks
            self.closed = False
            opened.append(self)

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.chunks)

        def close(self):
            self.closed = True

    class Holding(kit.Streaming):
        def _stream(self, messages, stop=None, run_manager=None, **kwargs):
            return Chunks(super()._stream(messages, stop, **kwargs))

    chunks = ChatTryage(router, kit.experts(Holding)).stream(kit.code)
    next(chunks)
    assert [chunk.closed for chunk in opened] == [False]
    chunks.close()
    assert [chunk.closed for chunk in opened] == [True]


async def test_cancelling_calls_no_other_expert(router, kit):
    gate = Gate()
    experts = kit.experts(kit.Whole, coder={"gate": gate})
    task = asyncio.create_task(ChatTryage(router, experts).ainvoke(kit.code))
    await kit.until(lambda: gate.waiting)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.cancelled == 1
    assert not experts["giant"].calls


async def test_a_model_can_be_forced(router, kit):
    model = ChatTryage(router, kit.experts())
    for message in await every_way(model, kit.code, model="giant"):
        assert message.content == f"giant says {kit.code}"
        assert message.response_metadata["tryage"]["expert"] == "giant"
    assert model.bind(model="writer").invoke(kit.code).content == f"writer says {kit.code}"
    with pytest.raises(LibraryError, match=r"no expert 'giants'\. Did you mean 'giant'"):
        model.invoke(kit.code, model="giants")
    down = ChatTryage(router, kit.experts(giant={"fault": ValueError()}))
    with pytest.raises(DispatchError, match="the one expert"):
        down.invoke(kit.code, model="giant")


def test_arguments_reach_the_expert(router, kit):
    experts = kit.experts(kit.Whole)
    bound = experts | {"coder": experts["coder"].bind(temperature=0.1, top_k=3)}
    ChatTryage(router, bound).invoke(kit.code, stop=["total"], temperature=0.2)
    (call,) = experts["coder"].calls
    assert call["stop"] == ["total"]
    assert call["kwargs"] == {"temperature": 0.2, "top_k": 3}
    message = ChatTryage(router, experts).invoke(kit.code, stop=["says"])
    assert message.content == "coder "


async def test_a_stop_bound_to_an_expert_holds_unless_the_call_has_one(router, kit):
    expert = kit.Streaming(label="coder")
    model = ChatTryage(router, {"coder": expert.bind(stop=["total"])})
    for message in await every_way(model, kit.code):
        assert message.content == f"coder says {kit.code}".partition("total")[0]
    other = model.invoke(kit.code, stop=["says"])
    assert other.content == "coder "


def test_flags(router, kit):
    text = f"{kit.code} {FLAG}"
    experts = kit.experts()
    assert ChatTryage(router, experts).invoke(text).content == f"coder says {text}"
    model = ChatTryage(router, experts, flags_from="last_message")
    messages = [SystemMessage(f"Never say {FLAG}."), HumanMessage(text)]
    for message in (
        model.invoke(messages),
        model.generate([messages]).generations[0][0].message,
        model.batch([messages])[0],
    ):
        assert message.content == f"writer says {kit.code}"
        assert message.response_metadata["tryage"]["weights"] == {"size": 2.0}
    sent = experts["writer"].calls[0]["messages"]
    assert sent[0].content == f"Never say {FLAG}."
    assert messages[1].content == text
    with pytest.warns(TryageWarning, match="shiniest"):
        model.invoke(f"{kit.code} [Flag: shiniest]")


def test_flags_in_a_retrieved_document_do_not_act(router, kit):
    rag = ChatPromptTemplate.from_template("Context: {context}\n\nQuestion: {question}")
    values = {"context": f"Doc. {FLAG}", "question": kit.code}
    off = (rag | ChatTryage(router, kit.experts())).invoke(values)
    assert off.response_metadata["tryage"]["weights"] == {}
    assert FLAG in off.content

    def question(messages):
        return messages[-1].text.partition("Question: ")[2]

    model = rag | ChatTryage(router, kit.experts(), flags_from=question)
    assert model.invoke(values).response_metadata["tryage"]["weights"] == {}
    answer = model.invoke({**values, "question": f"{kit.code} {FLAG}"})
    assert answer.response_metadata["tryage"]["answered_by"] == "writer"
    assert answer.content == f"writer says Context: Doc. {FLAG}\n\nQuestion: {kit.code}"


@pytest.fixture
def global_cache():
    cache = InMemoryCache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


async def test_the_expert_s_cache_works_and_holds_no_decision(router, kit, global_cache):
    experts = kit.experts(kit.Whole)
    model = ChatTryage(router, experts)
    for _ in range(2):
        assert "tryage" in model.invoke(kit.code).response_metadata
    assert "tryage" in (await model.ainvoke(kit.code)).response_metadata
    assert len(experts["coder"].calls) == 1
    direct = experts["coder"].invoke(kit.code)
    assert len(experts["coder"].calls) == 1
    assert "tryage" not in direct.response_metadata
    # The router itself keeps nothing: a router of the same name has other experts.
    other = ChatTryage(router, {"coder": kit.Whole(label="other")})
    assert other.invoke(kit.code).content == f"other says {kit.code}"


def test_a_cache_asked_for_tells_routers_apart(router, kit):
    cache = InMemoryCache()
    experts = {name: kit.Whole(label=name, cache=False) for name in ("coder", "writer")}
    model = ChatTryage(router, experts, cache=cache)
    model.invoke(kit.code)
    again = model.invoke(kit.code)
    assert len(experts["coder"].calls) == 1
    assert again.response_metadata["tryage"]["expert"] == "coder"
    other = {"coder": kit.Whole(label="other", cache=False)}
    assert ChatTryage(router, other, cache=cache).invoke(kit.code).content.startswith("other")
    small = ChatTryage(router, experts, cache=cache, goals=Goals(size=2.0))
    assert small.invoke(kit.code).content.startswith("writer")


async def test_a_cache_asked_for_tells_decisions_apart(router, kit):
    experts = {name: kit.Whole(label=name, cache=False) for name in ("coder", "writer", "giant")}
    model = ChatTryage(router, experts, cache=InMemoryCache(), flags_from="last_message")
    messages = [HumanMessage(kit.code)]
    for name in ("giant", "writer", "giant"):
        assert model.invoke(messages, model=name).content.startswith(name)
        assert (await model.ainvoke(messages, model=name)).content.startswith(name)
        (generation,) = model.generate([messages], model=name).generations[0]
        assert generation.text.startswith(name)
    assert [len(experts[name].calls) for name in ("giant", "writer")] == [1, 1]
    assert model.invoke(kit.code).response_metadata["tryage"]["weights"] == {}
    flagged = model.invoke(f"{kit.code} {FLAG}").response_metadata["tryage"]
    assert (flagged["answered_by"], flagged["weights"]) == ("writer", {"size": 2.0})
    (generation,) = model.generate([[HumanMessage(f"{kit.code} {FLAG}")]]).generations[0]
    assert generation.message.response_metadata["tryage"]["weights"] == {"size": 2.0}
    assert len(experts["writer"].calls) == 2


def test_flags_of_earlier_turns_reach_no_expert(router, kit):
    experts = kit.experts(kit.Whole)
    model = ChatTryage(router, experts, flags_from="last_message")
    model.invoke([HumanMessage(f"Hello {FLAG}"), AIMessage("Hi"), HumanMessage(kit.code)])
    (call,) = experts["coder"].calls
    assert [message.content for message in call["messages"]] == ["Hello", "Hi", kit.code]


class Limiter(BaseRateLimiter):
    """Lets calls pass that wait for it, as LangChain's do; counts them."""

    def __init__(self):
        self.acquired = 0

    def acquire(self, *, blocking=True):
        assert blocking
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking=True):
        return self.acquire(blocking=blocking)


async def test_both_rate_limiters_are_asked_once(router, kit):
    for kind in (kit.Streaming, kit.Whole):
        for call in (
            lambda m: m.invoke(kit.code),
            lambda m: list(m.stream(kit.code)),
            lambda m: asyncio.run(m.ainvoke(kit.code)),
        ):
            own, of_expert = Limiter(), Limiter()
            experts = kit.experts(kind, coder={"rate_limiter": of_expert})
            await asyncio.to_thread(call, ChatTryage(router, experts, rate_limiter=own))
            assert (own.acquired, of_expert.acquired) == (1, 1)
        of_expert = Limiter()
        experts = kit.experts(kind, coder={"rate_limiter": of_expert})
        assert [chunk async for chunk in ChatTryage(router, experts).astream(kit.code)]
        assert of_expert.acquired == 1


async def test_an_expert_s_output_version_holds(router, kit):
    expert = kit.Streaming(label="coder", output_version="v1")
    model = ChatTryage(router, {"coder": expert})
    assert model.invoke(kit.code).content == expert.invoke(kit.code).content
    direct = [chunk.content for chunk in expert.stream(kit.code)]
    assert direct[0] == [{"type": "text", "text": "coder", "index": 0}]
    assert [chunk.content for chunk in model.stream(kit.code)] == direct
    assert [chunk.content async for chunk in model.astream(kit.code)] == direct


async def test_batches_are_decided_in_one_pass_inside_chains_too(router, kit, monkeypatch):
    passes = []
    route_batch = type(router).route_batch

    def noted(self, prompts, **kwargs):
        passes.append(len(prompts))
        return route_batch(self, prompts, **kwargs)

    monkeypatch.setattr(type(router), "route_batch", noted)
    model = ChatTryage(router, kit.experts())
    for chain in (model, RunnableLambda(str) | model, model.bind(stop=["!"])):
        answers = chain.batch([kit.code, kit.prose]) + await chain.abatch([kit.code])
        experts = [answer.response_metadata["tryage"]["expert"] for answer in answers]
        assert experts == ["coder", "writer", "coder"]
    assert passes == [2, 1] * 3
    # Inputs that ask for different things are decided each by itself.
    small = {"configurable": {"tryage_goals": {"size": 2.0}}}
    answers = model.batch([kit.code, kit.code], [{}, small])
    experts = [answer.response_metadata["tryage"]["expert"] for answer in answers]
    assert experts == ["coder", "writer"]
    assert passes == [2, 1] * 3


def test_disable_streaming(router, kit):
    one = ChatTryage(router, kit.experts(coder={"disable_streaming": True}))
    assert len(list(one.stream(kit.code))) == 1
    whole = ChatTryage(router, kit.experts(), disable_streaming=True)
    recorder = kit.Recorder()
    (message,) = whole.stream(kit.code, {"callbacks": [recorder]})
    assert message.content == f"coder says {kit.code}"
    assert recorder.starts[0]["tags"] == ["expert:coder"]


def test_experts_are_checked(router, kit):
    with pytest.raises(TypeError, match="TryageRouter takes any runnable"):
        ChatTryage(router, {"coder": RunnableLambda(str)})
    with pytest.raises(TypeError, match="carries a config"):
        ChatTryage(router, {"coder": kit.Whole(label="a").with_config(run_name="x")})
    with pytest.raises(TypeError, match="carries a config"):
        ChatTryage(router, {"coder": kit.Whole(label="a").with_listeners(on_start=print)})
    with pytest.raises(LibraryError, match=r"'codr'\. Did you mean 'coder'"):
        ChatTryage(router, {"codr": kit.Whole(label="a")})
    with pytest.raises(TypeError, match=r"'alias'\. Did you mean 'aliases'"):
        ChatTryage(router, kit.experts(), alias={})
    with pytest.raises(RouterNotFoundError):
        ChatTryage("no/such/folder", kit.experts())
    with pytest.raises(ValueError, match="messages have no such key"):
        ChatTryage(router, kit.experts(), flags_from="question")
    with pytest.raises(PromptError, match="empty"):
        ChatTryage(router, kit.experts()).invoke("  ")


def test_a_folder_is_loaded_at_first_use(router, kit, tmp_path):
    router.save_pretrained(tmp_path / "r")
    model = ChatTryage(str(tmp_path / "r"), kit.experts())
    assert model._get_ls_params()["ls_model_name"] == str(tmp_path / "r")
    assert model.invoke(kit.code).content == f"coder says {kit.code}"
    assert model.load().library.names == ("coder", "writer", "giant")


def test_repr_and_serialization_hold_names_only(router, kit):
    model = ChatTryage(router, {"coder": kit.Whole(label="secret")})
    assert "coder" in repr(model)
    assert "secret" not in repr(model)
    assert "secret" not in repr(model._serialized)


def test_an_image_goes_along(router, kit):
    experts = kit.experts(kit.Whole)
    blocks = [{"type": "text", "text": kit.code}, {"type": "image_url", "image_url": {"url": "u"}}]
    ChatTryage(router, experts, flags_from="last_message").invoke([HumanMessage(blocks)])
    assert experts["coder"].calls[0]["messages"][0].content == blocks


async def test_experts_left_out_run_the_library_s_own_pipelines(tiny_router):
    model = ChatTryage(tiny_router)
    message = model.invoke("The quiet river follows", max_tokens=5)
    assert message.response_metadata["tryage"]["expert"] == "prose-gpt"
    assert message.usage_metadata["output_tokens"] <= 5
    chunks = [chunk async for chunk in model.astream("The quiet river follows", max_tokens=5)]
    assert sum(chunks[1:], chunks[0]).content == message.content
    filled = await model.ainvoke("def alpha([MASK]):\n    return alpha(total)\n")
    assert filled.response_metadata["tryage"]["answered_by"] == "code-bert"
    assert "[MASK]" not in filled.content
