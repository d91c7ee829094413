"""Routers inside routers: goals of a call hold in both."""

import threading

import pytest
from langchain_core.language_models import FakeListLLM

from langchain_tryage import ChatTryage, TryageLLM, TryageRouter
from tryage import Goals
from tryage.checks import Check

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
    assert not any("tryage" in call["kwargs"] for e in own.values() for call in e.calls)


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


ACCEPTS = Check(lambda _prompt, _answer: True, accepts_right=1.0, accepts_wrong=0.0)


async def whole_streams(model, prompt):
    """What a stream adds up to, synchronous and not."""
    whole = None
    for chunk in model.stream(prompt):
        whole = chunk if whole is None else whole + chunk
    other = None
    async for chunk in model.astream(prompt):
        other = chunk if other is None else other + chunk
    return whole, other


@pytest.mark.parametrize("inner_late", [False, True])
@pytest.mark.parametrize("outer_late", [False, True])
@pytest.mark.parametrize("outer", [ChatTryage, TryageRouter])
async def test_streams_tell_both_decisions_whenever_each_is_known(
    scored_router, kit, outer, outer_late, inner_late
):
    late = {"check": ACCEPTS, "stream_unchecked": True}
    own = {name: kit.Streaming(label=name) for name in ("coder", "writer", "giant")}
    nested = ChatTryage(scored_router, own, **(late if inner_late else {}))
    model = outer(scored_router, {"writer": nested}, **(late if outer_late else {}))
    for message in await whole_streams(model, kit.code):
        record = message.response_metadata["tryage"]
        assert record["answered_by"] == "writer"
        assert record["inner"]["answered_by"] == "coder"
        assert message.text.startswith("coder says")


@pytest.mark.parametrize("inner_late", [False, True])
async def test_text_models_tell_both_decisions(scored_router, kit, inner_late):
    late = {"check": ACCEPTS, "stream_unchecked": True} if inner_late else {}
    own = {name: FakeListLLM(responses=[name] * 9) for name in ("coder", "writer", "giant")}
    model = TryageLLM(scored_router, {"writer": TryageLLM(scored_router, own, **late)})
    heard = kit.Recorder()
    config = {"callbacks": [heard]}
    generations = [
        model.generate([kit.code]).generations[0][0],
        (await model.agenerate([kit.code, kit.code])).generations[1][0],
    ]
    assert list(model.stream(kit.code, config)) == ["coder"]
    assert [text async for text in model.astream(kit.code, config)] == ["coder"]
    generations += [result.generations[0][0] for result in heard.ends]
    assert len(generations) == 4
    for generation in generations:
        record = generation.generation_info["tryage"]
        assert (record["answered_by"], record["inner"]["answered_by"]) == ("writer", "coder")
