"""Callbacks, tags and metadata of an expert itself act as in a direct call of it."""

from functools import partial

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, CallbackManager

from langchain_tryage import ChatTryage, TryageLLM, TryageMiddleware
from langchain_tryage.testing import ScriptedText


class Events(BaseCallbackHandler):
    """Notes what it hears of language models, without what differs between any two calls."""

    raise_error = False

    def __init__(self):
        self.events = []
        self.starts = []

    def _start(self, kind, prompts, kwargs):
        self.starts.append(kwargs)
        params = {k: v for k, v in kwargs["invocation_params"].items() if k != "_type"}
        self.events.append((kind, str(prompts), kwargs["parent_run_id"], params))

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self._start("start", [m.text for m in messages[0]], kwargs)

    def on_llm_start(self, serialized, prompts, **kwargs):
        self._start("start", prompts, kwargs)

    def on_llm_new_token(self, token, **kwargs):
        self.events.append(("token", token))

    def on_llm_end(self, response, **kwargs):
        self.events.append(("end", response.generations[0][0].text))

    def on_llm_error(self, error, **kwargs):
        partial = [g.text for row in kwargs["response"].generations for g in row if g.text]
        self.events.append(("error", str(error), partial[:1]))


class Awaited(AsyncCallbackHandler):
    """Notes the kinds of events that it hears, by awaited methods."""

    def __init__(self):
        self.kinds = []

    async def on_chat_model_start(self, serialized, messages, **kwargs):
        self.kinds.append("start")

    async def on_llm_new_token(self, token, **kwargs):
        self.kinds.append("token")

    async def on_llm_end(self, response, **kwargs):
        self.kinds.append("end")


streamed_text = partial(ScriptedText, reports_tokens=True)


async def each_way(model, text):
    """What is heard in each of the four ways, by the model's own callbacks."""
    model.invoke(text)
    await model.ainvoke(text)
    list(model.stream(text))
    [chunk async for chunk in model.astream(text)]


@pytest.mark.parametrize("kind", ["Whole", "Streaming", "WholeText", "StreamedText"])
async def test_they_hear_what_a_direct_call_tells(router, kit, kind):
    router_kind = TryageLLM if "Text" in kind else ChatTryage
    made = streamed_text if kind == "StreamedText" else getattr(kit, kind)
    direct, routed, elsewhere = Events(), Events(), Events()
    await each_way(made(label="coder", callbacks=[direct]), kit.code)
    experts = {"coder": made(label="coder", callbacks=[routed])}
    experts["writer"] = made(label="writer", callbacks=[elsewhere])
    await each_way(router_kind(router, experts), kit.code)
    assert routed.events == direct.events
    assert len(direct.events) >= 8
    assert elsewhere.events == []


@pytest.mark.parametrize("kind", ["Streaming", "StreamedText"])
async def test_others_hear_of_a_routed_call_what_they_hear_of_a_direct_one(router, kit, kind):
    router_kind = TryageLLM if "Text" in kind else ChatTryage
    made = streamed_text if kind == "StreamedText" else getattr(kit, kind)
    heard = []
    for model in (made(label="coder"), router_kind(router, {"coder": made(label="coder")})):
        events = Events()
        await each_way(model.with_config(callbacks=[events]), kit.code)
        heard.append([event[:2] for event in events.events])
    assert heard[0] == heard[1]
    assert len(heard[0]) >= 8


async def test_tags_and_metadata_are_in_the_run(router, kit):
    labels = {"tags": ["mine"], "metadata": {"team": "x", "place": "expert"}}
    for kind, expert in (
        (ChatTryage, kit.Streaming(label="coder", **labels)),
        (ChatTryage, kit.Streaming(label="coder").with_config(**labels)),
        (TryageLLM, kit.WholeText(label="coder", **labels)),
    ):
        outer = Events()
        config = {"callbacks": [outer], "tags": ["call"], "metadata": {"place": "call", "n": 1}}
        model = kind(router, {"coder": expert})
        model.invoke(kit.code, config)
        model.batch([kit.code, kit.code], config)
        [chunk async for chunk in model.astream(kit.code, config)]
        assert len(outer.starts) == 4
        for start in outer.starts:
            assert start["tags"][:3] == ["call", "expert:coder", "mine"]
            metadata = {key: start["metadata"][key] for key in ("team", "place", "n")}
            assert metadata == {"team": "x", "place": "expert", "n": 1}


async def test_of_a_bound_config_too_and_nothing_twice(router, kit):
    for form in (list, lambda handlers: CallbackManager(handlers)):
        both, mine = Events(), Events()
        expert = kit.Whole(label="coder", callbacks=form([both])).bind(top_k=1)
        expert = expert.with_config(callbacks=form([mine]))
        ChatTryage(router, {"coder": expert}).invoke(kit.code, {"callbacks": [both]})
        assert [event[0] for event in mine.events] == ["start", "end"]
        assert [event[0] for event in both.events] == ["start", "end"]
        assert mine.events[0][3]["top_k"] == 1
    awaited = Awaited()
    model = ChatTryage(router, {"coder": kit.Streaming(label="coder", callbacks=[awaited])})
    await model.ainvoke(kit.code)
    assert awaited.kinds == ["start", "end"]
    assert [chunk async for chunk in model.astream(kit.code)]
    assert awaited.kinds[2:4] + awaited.kinds[-1:] == ["start", "token", "end"]


async def test_failures_are_told_to_the_expert_that_failed(router, kit):
    failed, late, answered, outer = Events(), Events(), Events(), Events()
    down = ConnectionError("down")
    experts = {
        "coder": kit.Streaming(label="coder", callbacks=[failed], fault=down),
        "giant": kit.Streaming(label="giant", callbacks=[answered]),
    }
    model = ChatTryage(router, experts)
    await each_way(model.with_config(callbacks=[outer]), kit.code)
    assert [event[0] for event in failed.events] == ["start", "error"] * 4
    assert {event[0] for event in answered.events} == {"start", "token", "end"}
    assert [event[0] for event in outer.events if event[0] != "token"] == ["start", "end"] * 4
    dying = kit.Streaming(label="coder", callbacks=[late], late=down)
    model = ChatTryage(router, {"coder": dying})
    with pytest.raises(ConnectionError, match="down"):
        list(model.stream(kit.code))
    assert late.events[-1] == ("error", "down", ["coder"])
    late.events.clear()
    with pytest.raises(ConnectionError, match="down"):
        [chunk async for chunk in model.astream(kit.code)]
    assert late.events[-1] == ("error", "down", ["coder"])


class Guard(BaseCallbackHandler):
    """Lets no call through."""

    raise_error = True

    def on_chat_model_start(self, serialized, messages, **kwargs):
        raise PermissionError("not this one")


def test_a_guard_on_an_expert_keeps_it_from_being_called(router, kit):
    guarded = kit.Whole(label="coder", callbacks=[Guard()])
    model = ChatTryage(router, {**kit.experts(), "coder": guarded})
    record = model.invoke(kit.code).response_metadata["tryage"]
    assert (record["expert"], record["answered_by"]) == ("coder", "giant")
    assert record["tried"][0]["error"] == "PermissionError: not this one"
    assert guarded.calls == []


def test_a_middleware_s_experts_keep_theirs(router, kit):
    mine, bound = Events(), Events()
    expert = kit.Whole(label="coder", callbacks=[mine], tags=["mine"])
    expert = expert.with_config(callbacks=[bound], tags=["bound"], metadata={"team": "x"})
    middleware = TryageMiddleware(router, {"coder": expert})
    agent = create_agent(kit.Whole(label="own"), [], middleware=[middleware])
    agent.invoke({"messages": [("human", kit.code)]})
    assert [event[0] for event in mine.events] == ["start", "end"]
    assert [event[0] for event in bound.events] == ["start", "end"]
    (start,) = bound.starts
    assert {"mine", "bound", "expert:coder"} <= set(start["tags"])
    assert start["metadata"]["team"] == "x"


def test_what_cannot_act_is_refused(router, kit):
    for config in ({"run_name": "x"}, {"configurable": {"a": 1}}):
        with pytest.raises(TypeError, match="more than callbacks, tags and metadata; ChatTryage"):
            ChatTryage(router, {"coder": kit.Whole(label="coder").with_config(config)})
    listened = kit.Whole(label="coder").with_listeners(on_start=lambda run: None)
    with pytest.raises(TypeError, match="more than callbacks, tags and metadata"):
        ChatTryage(router, {"coder": listened})
    with pytest.raises(TypeError, match="for retries give the model max_retries= of its own"):
        ChatTryage(router, {"coder": kit.Whole(label="coder").with_retry()})
