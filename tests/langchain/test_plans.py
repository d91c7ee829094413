"""A call is planned once, whichever method makes it, and its plan shows no prompt."""

from collections import Counter

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

from langchain_tryage import ChatTryage, TryageLLM, TryageMiddleware, TryageRouter, TryageSelector
from tryage import Goals, Router

# What is left after the flag was taken off still looks as if it could hold one, so that whoever
# reads it again is counted.
FLAGGED = "def alpha_count(x):  # flag x[0]\n    return total [Flag: size=0.1]"
PLAIN = FLAGGED.partition(" [Flag:")[0]


class Answer(BaseModel):
    """What the model says."""

    text: str


def text_experts(kit):
    return kit.experts(kit.WholeText)


@pytest.fixture
def decisions(monkeypatch):
    """Texts that were decided on, in order."""
    texts = []
    route, route_batch = Router.route, Router.route_batch

    def one(self, prompt, **kwargs):
        texts.append(prompt)
        return route(self, prompt, **kwargs)

    def many(self, prompts, **kwargs):
        texts.extend(prompts)
        return route_batch(self, prompts, **kwargs)

    monkeypatch.setattr(Router, "route", one)
    monkeypatch.setattr(Router, "route_batch", many)
    return texts


@pytest.fixture
def parses(monkeypatch):
    """Texts that were searched for flags, in order."""
    from tryage.flags import parser

    texts = []
    take_off = parser.take_off

    def counted(text):
        texts.append(text)
        return take_off(text)

    monkeypatch.setattr(parser, "take_off", counted)
    return texts


async def drain(chunks):
    return [chunk async for chunk in chunks]


async def drain_v3(model, text):
    events = await model.astream_events(text, version="v3")
    await drain(events)
    return await events.output


CALLS = {
    "invoke": lambda model, text: model.invoke(text),
    "stream": lambda model, text: list(model.stream(text)),
    "batch": lambda model, text: model.batch([text]),
    "batch_as_completed": lambda model, text: list(model.batch_as_completed([text])),
}
AWAITED = {
    "ainvoke": lambda model, text: model.ainvoke(text),
    "astream": lambda model, text: drain(model.astream(text)),
    "abatch": lambda model, text: model.abatch([text]),
    "astream_events": lambda model, text: drain(model.astream_events(text, version="v2")),
}
CALLS_OF_MODELS = CALLS | {
    "generate": lambda model, text: model.generate_prompt([model._convert_input(text)]),
    "goals": lambda model, text: model.invoke(text, tryage=Goals(size=0.1)),
    "forced": lambda model, text: model.invoke(text, model="writer"),
}
AWAITED_OF_MODELS = AWAITED | {
    "agenerate": lambda model, text: model.agenerate_prompt([model._convert_input(text)]),
}
CALLS_OF_CHAT_MODELS = CALLS_OF_MODELS | {
    "messages": lambda model, text: model.generate([[HumanMessage(text)]]),
    "bind_tools": lambda model, text: model.bind_tools([Answer]).invoke(text),
    "structured": lambda model, text: model.with_structured_output(Answer).invoke(text),
    "events_v3": lambda model, text: model.stream_events(text, version="v3").output,
}
AWAITED_OF_CHAT_MODELS = AWAITED_OF_MODELS | {
    "structured": lambda model, text: model.with_structured_output(Answer).ainvoke(text),
    "events_v3": drain_v3,
}
NO_BETA = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


def assert_planned_once(decisions, parses):
    assert len(decisions) == 1
    assert parses == [FLAGGED]


@NO_BETA
@pytest.mark.parametrize("name", CALLS_OF_CHAT_MODELS)
def test_a_call_of_a_chat_model_is_planned_once(router, kit, decisions, parses, name):
    experts = kit.experts(kit.Calling)
    model = ChatTryage(router, experts, flags_from="last_message")
    CALLS_OF_CHAT_MODELS[name](model, FLAGGED)
    assert_planned_once(decisions, parses)
    (call,) = [call for expert in experts.values() for call in expert.calls]
    assert call["messages"][-1].text == PLAIN


@NO_BETA
@pytest.mark.parametrize("name", AWAITED_OF_CHAT_MODELS)
async def test_an_awaited_call_of_a_chat_model_is_planned_once(
    router, kit, decisions, parses, name
):
    model = ChatTryage(router, kit.experts(kit.Calling), flags_from="last_message")
    await AWAITED_OF_CHAT_MODELS[name](model, FLAGGED)
    assert_planned_once(decisions, parses)


async def test_a_call_of_a_text_model_is_planned_once(router, kit, decisions, parses):
    model = TryageLLM(router, text_experts(kit), flags_from="last_message")
    for call in CALLS_OF_MODELS.values():
        call(model, FLAGGED)
        assert_planned_once(decisions, parses)
        decisions.clear()
        parses.clear()
    for call in AWAITED_OF_MODELS.values():
        await call(model, FLAGGED)
        assert_planned_once(decisions, parses)
        decisions.clear()
        parses.clear()
    assert model.generate([FLAGGED]).generations[0][0].text.endswith(PLAIN)
    assert_planned_once(decisions, parses)


@pytest.mark.parametrize("kind", [TryageRouter, TryageSelector])
async def test_a_call_of_a_runnable_is_planned_once(router, kit, decisions, parses, kind):
    model = kind(router, kit.experts(), flags_from="last_message")
    for call in CALLS.values():
        call(model, FLAGGED)
        assert_planned_once(decisions, parses)
        decisions.clear()
        parses.clear()
    for call in AWAITED.values():
        await call(model, FLAGGED)
        assert_planned_once(decisions, parses)
        decisions.clear()
        parses.clear()


async def test_a_model_call_of_an_agent_is_planned_once(router, kit, decisions, parses):
    middleware = TryageMiddleware(router, kit.experts(kit.Calling), flags_from="last_message")
    agent = create_agent(kit.Calling(label="own"), [], middleware=[middleware])
    agent.invoke({"messages": [HumanMessage(FLAGGED)]})
    assert_planned_once(decisions, parses)


def test_a_model_that_may_not_stream_is_planned_once(router, kit, decisions, parses):
    model = ChatTryage(router, kit.experts(), disable_streaming=True, flags_from="last_message")
    assert len(list(model.stream(FLAGGED))) == 1
    assert_planned_once(decisions, parses)


@pytest.mark.parametrize("text_from", ["last_message", 3])
def test_no_message_of_a_conversation_is_parsed_twice(router, kit, decisions, parses, text_from):
    experts = kit.experts()
    model = ChatTryage(router, experts, flags_from="last_message", text_from=text_from)
    blocks = [{"type": "text", "text": f"Here: {FLAGGED}"}]
    model.invoke([HumanMessage(f"First {FLAGGED}"), AIMessage("Yes."), HumanMessage(blocks)])
    assert len(decisions) == 1
    assert set(Counter(parses).values()) == {1}
    (call,) = [call for expert in experts.values() for call in expert.calls]
    texts = [message.text for message in call["messages"]]
    assert texts == [f"First {PLAIN}", "Yes.", f"Here: {PLAIN}"]


async def test_a_router_among_the_experts_plans_its_own_part_once(router, kit, decisions):
    inner = ChatTryage(router, {"writer": kit.Streaming(label="inner")})
    model = ChatTryage(router, {"coder": inner})
    expected = f"inner says {kit.code}"
    assert model.invoke(kit.code).content == expected
    assert "".join(chunk.content for chunk in model.stream(kit.code)) == expected
    assert (await model.ainvoke(kit.code)).content == expected
    assert "".join([chunk.content async for chunk in model.astream(kit.code)]) == expected
    assert len(decisions) == 4 * 2


def test_tracers_see_the_expert_and_no_prompt(router, kit):
    class Starts(kit.Recorder):
        def on_chat_model_start(self, serialized, messages, **kwargs):
            self.starts.append(kwargs)

        def on_llm_start(self, serialized, prompts, **kwargs):
            self.starts.append(kwargs)

    for model in (ChatTryage(router, kit.experts()), TryageLLM(router, text_experts(kit))):
        recorder = Starts()
        model.invoke("a secret word", {"callbacks": [recorder]})
        list(model.stream("a secret word", {"callbacks": [recorder]}))
        for start in recorder.starts:
            assert "expert:" in start["tags"][0]
        assert "secret" not in repr(recorder.starts)
