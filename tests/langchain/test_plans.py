"""A call is planned once, whichever method makes it, and its plan shows no prompt."""

import pytest
from langchain_core.language_models import LLM
from pydantic import BaseModel

from langchain_tryage import ChatTryage, TryageLLM
from tryage import Goals, Router


class Answer(BaseModel):
    """What the model says."""

    text: str


class Text(LLM):
    """Repeats the prompt under its label."""

    label: str

    @property
    def _llm_type(self):
        return "scripted"

    def _call(self, prompt, stop=None, run_manager=None, **kwargs):
        return f"{self.label} says {prompt}"


@pytest.fixture
def text_experts():
    return {name: Text(label=name) for name in ("coder", "writer", "giant")}


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


async def drain(chunks):
    return [chunk async for chunk in chunks]


CALLS = {
    "invoke": lambda model, text: model.invoke(text),
    "stream": lambda model, text: list(model.stream(text)),
    "batch": lambda model, text: model.batch([text]),
    "generate": lambda model, text: model.generate_prompt([model._convert_input(text)]),
    "bind_tools": lambda model, text: model.bind_tools([Answer]).invoke(text),
    "structured": lambda model, text: model.with_structured_output(Answer).invoke(text),
    "goals": lambda model, text: model.invoke(text, tryage=Goals(size=0.1)),
    "forced": lambda model, text: model.invoke(text, model="writer"),
}
ASYNC_CALLS = {
    "ainvoke": lambda model, text: model.ainvoke(text),
    "astream": lambda model, text: drain(model.astream(text)),
    "abatch": lambda model, text: model.abatch([text]),
    "agenerate": lambda model, text: model.agenerate_prompt([model._convert_input(text)]),
    "events": lambda model, text: drain(model.astream_events(text, version="v2")),
}
OF_CHAT_MODELS = ("bind_tools", "structured")


@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_a_chat_model_is_decided_once(router, kit, decisions, name):
    model = ChatTryage(router, kit.experts(kit.Calling), flags_from="last_message")
    CALLS[name](model, f"{kit.code} [Flag: size=0.1]")
    assert len(decisions) == 1


@pytest.mark.parametrize("name", ASYNC_CALLS)
async def test_an_awaited_call_of_a_chat_model_is_decided_once(router, kit, decisions, name):
    model = ChatTryage(router, kit.experts(kit.Calling), flags_from="last_message")
    await ASYNC_CALLS[name](model, f"{kit.code} [Flag: size=0.1]")
    assert len(decisions) == 1


async def test_a_call_of_a_text_model_is_decided_once(router, kit, decisions, text_experts):
    model = TryageLLM(router, text_experts)
    for name, call in CALLS.items():
        if name not in OF_CHAT_MODELS:
            decisions.clear()
            call(model, kit.code)
            assert len(decisions) == 1, name
    for name, awaited in ASYNC_CALLS.items():
        decisions.clear()
        await awaited(model, kit.code)
        assert len(decisions) == 1, name


def test_a_model_that_may_not_stream_is_decided_once(router, kit, decisions):
    model = ChatTryage(router, kit.experts(), disable_streaming=True)
    assert len(list(model.stream(kit.code))) == 1
    assert len(decisions) == 1


def test_tracers_see_the_expert_and_no_prompt(router, kit):
    class Starts(kit.Recorder):
        def on_chat_model_start(self, serialized, messages, **kwargs):
            self.starts.append(kwargs)

    recorder = Starts()
    ChatTryage(router, kit.experts()).invoke("a secret word", {"callbacks": [recorder]})
    assert "expert:" in recorder.starts[0]["tags"][0]
    assert "secret" not in repr(recorder.starts)
