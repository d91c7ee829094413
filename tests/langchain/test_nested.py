"""Routers inside routers: goals of a call hold in both."""

import threading

import pytest
from langchain_core.language_models import FakeListLLM

from langchain_tryage import ChatTryage, TryageLLM, TryageRouter
from tryage import Goals

SMALL = Goals(size=2.0)


def inner_answers(model, kit, **options):
    """Which of the inner experts answers, in each way that a call can have goals."""
    config = {"configurable": {"tryage_goals": {"size": 2}}}
    return [
        model.invoke(kit.code).text,
        model.invoke(kit.code, tryage=SMALL).text,
        model.invoke(kit.code, config).text,
        model.bind(tryage=SMALL).invoke(kit.code).text,
        next(iter(model.stream(kit.code, tryage=SMALL))).text,
        model.batch([kit.code, kit.code], tryage=SMALL)[1].text,
    ]


@pytest.mark.parametrize(
    ("outer", "inner"),
    [(ChatTryage, ChatTryage), (TryageRouter, ChatTryage), (TryageRouter, TryageRouter)],
)
async def test_goals_of_a_call_reach_the_router_inside(router, kit, outer, inner):
    own = {name: kit.Whole(label=name) for name in ("coder", "writer", "giant")}
    nested = {"coder": inner(router, own), "writer": inner(router, own)}
    model = outer(router, nested)
    answers = inner_answers(model, kit)
    assert [text.partition(" ")[0] for text in answers] == ["coder", *["writer"] * 5]
    for answer in (
        await model.ainvoke(kit.code, tryage=SMALL),
        (await model.abatch([kit.code], tryage=SMALL))[0],
        await anext(model.astream(kit.code, tryage=SMALL)),
    ):
        assert answer.text.startswith("writer")
    assert not any("tryage" in call["kwargs"] for e in own.values() for call in e._calls)


def test_goals_bound_to_the_nested_one_hold_besides(router, kit):
    own = {name: kit.Whole(label=name) for name in ("coder", "writer", "giant")}
    nested = ChatTryage(router, own)
    newest = Goals(recency=3.0)
    assert ChatTryage(router, {"coder": nested}).invoke(kit.code, tryage=newest).text[:5] == "giant"
    bound = nested.bind(tryage=Goals(limits={"parameters": "<=10B"}))
    model = ChatTryage(router, {"coder": bound})
    assert model.invoke(kit.code).text.startswith("coder")
    assert model.invoke(kit.code, tryage=newest).text.startswith("writer")


def test_text_models_too(router, kit):
    own = {name: FakeListLLM(responses=[name] * 3) for name in ("coder", "writer", "giant")}
    model = TryageLLM(router, {"coder": TryageLLM(router, own), "writer": TryageLLM(router, own)})
    assert model.invoke(kit.code) == "coder"
    assert model.invoke(kit.code, tryage=SMALL) == "writer"
    assert list(model.stream(kit.code, tryage=SMALL)) == ["writer"]


@pytest.mark.parametrize("broken", [False, True])
async def test_models_given_as_strings_are_made_off_the_event_loop(
    router, kit, monkeypatch, broken
):
    from langchain.chat_models import base

    threads = []

    def make(model, *, model_provider=None, **kwargs):
        threads.append(threading.current_thread())
        if broken and model == "openai:first":
            raise ValueError("no key")
        return kit.Streaming(label=model)

    monkeypatch.setattr(base, "_init_chat_model_helper", make)
    experts = {"coder": "openai:first", "giant": "openai:second", "writer": "openai:third"}
    faults = {} if broken else {"errors": (ConnectionError,)}
    model = ChatTryage(router, experts, **faults)
    messages = [await model.ainvoke(kit.code)]
    messages += [chunk async for chunk in model.astream(kit.code)][:1]
    expected = "openai:second" if broken else "openai:first"
    assert {message.text.partition(" ")[0] for message in messages} == {expected}
    assert threads
    assert threading.current_thread() not in threads
