"""Errors of routing are heard where a model's own errors are: by callbacks, tracers, listeners."""

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListLLM
from langchain_core.runnables import RunnableLambda

from langchain_tryage import ChatTryage, TryageFlags, TryageLLM, TryageRouter, TryageSelector
from tryage import Goals
from tryage.errors import (
    DispatchError,
    GoalError,
    LibraryError,
    NoEligibleExpertError,
    PromptError,
    TryageError,
)

NONE = Goals(limits={"parameters": "<=1"})


class Heard(BaseCallbackHandler):
    """Notes starts, ends and errors of runs of any kind."""

    def __init__(self):
        self.kinds = []
        self.tags = []

    def on_chat_model_start(self, *args, tags=None, **kwargs):
        self.kinds.append("start")
        self.tags = tags

    on_llm_start = on_chain_start = on_chat_model_start

    def on_llm_end(self, *args, **kwargs):
        self.kinds.append("end")

    on_chain_end = on_llm_end

    def on_llm_error(self, error, **kwargs):
        self.kinds.append(type(error).__name__)

    on_chain_error = on_llm_error


def chat(router, kit, **options):
    return ChatTryage(router, kit.experts(), **options)


def text(router, kit, **options):
    experts = {name: FakeListLLM(responses=[name]) for name in ("coder", "writer", "giant")}
    return TryageLLM(router, experts, **options)


def runnable(router, kit, **options):
    return TryageRouter(router, kit.experts(), **options)


def selector(router, kit, **options):
    return TryageSelector(router, **options)


async def ways(called, input, config, **kwargs):
    """Call a runnable in every way; return the kinds of errors."""
    errors = []

    async def caught(act):
        try:
            await act()
        except (TryageError, ValueError) as error:
            errors.append(type(error))

    async def stream():
        list(called.stream(input, config, **kwargs))

    async def astream():
        [chunk async for chunk in called.astream(input, config, **kwargs)]

    async def invoke():
        called.invoke(input, config, **kwargs)

    async def batch():
        called.batch([input], config, **kwargs)

    for act in (
        invoke,
        lambda: called.ainvoke(input, config, **kwargs),
        stream,
        astream,
        batch,
        lambda: called.abatch([input], config, **kwargs),
    ):
        await caught(act)
    return errors


@pytest.mark.parametrize("make", [chat, text, runnable, selector])
async def test_a_call_that_nobody_may_answer_is_heard(router, kit, make):
    heard, listened = Heard(), []
    model = make(router, kit, goals=NONE)
    errors = await ways(model, kit.code, {"callbacks": [heard]})
    assert errors == [NoEligibleExpertError] * 6
    assert heard.kinds == ["start", "NoEligibleExpertError"] * 6
    loud = model.with_listeners(on_error=lambda run: listened.append(run.error))
    with pytest.raises(NoEligibleExpertError):
        loud.invoke(kit.code)
    assert len(listened) == 1
    assert "NoEligibleExpertError" in listened[0]


@pytest.mark.parametrize("make", [chat, text])
async def test_every_kind_of_error_is_heard(router, kit, make):
    model = make(router, kit)
    for input, kwargs, kind in (
        (" ", {}, PromptError),
        (kit.code, {"model": "nobody"}, LibraryError),
        (kit.code, {"tryage": "small"}, GoalError),
        (kit.code, {"tryage": Goals(limits={"parameters": "<=1"})}, NoEligibleExpertError),
    ):
        heard = Heard()
        assert await ways(model, input, {"callbacks": [heard]}, **kwargs) == [kind] * 6
        assert heard.kinds == ["start", kind.__name__] * 6
        assert not [tag for tag in heard.tags if tag.startswith("expert:")]


async def test_events_of_version_3_tell_it(router, kit):
    model = chat(router, kit, goals=NONE)
    heard = Heard()
    with pytest.raises(NoEligibleExpertError):
        list(model.stream_events(kit.code, {"callbacks": [heard]}, version="v3"))
    with pytest.raises(NoEligibleExpertError):
        async for _ in await model.astream_events(kit.code, {"callbacks": [heard]}, version="v3"):
            pass
    # As of a model's own error, LangChain tells of it in a task of its own.
    await kit.until(lambda: heard.kinds == ["start", "NoEligibleExpertError"] * 2)


def test_generate_and_prompts_tell_it_too(router, kit):
    heard = Heard()
    llm = text(router, kit, goals=NONE)
    with pytest.raises(NoEligibleExpertError):
        llm.generate_prompt([llm._convert_input(kit.code)], callbacks=[heard])
    with pytest.raises(NoEligibleExpertError):
        llm.generate([kit.code], callbacks=[heard])
    assert heard.kinds == ["start", "NoEligibleExpertError"] * 2


async def test_a_fallback_outside_gets_its_turn(router, kit):
    fallback = kit.Whole(label="fallback")
    for make in (chat, runnable):
        model = make(router, kit, goals=NONE).with_fallbacks([fallback])
        assert model.invoke(kit.code).text.startswith("fallback")
        assert (await model.ainvoke(kit.code)).text.startswith("fallback")
    down = {name: {"fault": ConnectionError("down")} for name in ("coder", "writer", "giant")}
    model = ChatTryage(router, kit.experts(**down))
    heard = Heard()
    with pytest.raises(DispatchError):
        model.invoke(kit.code, {"callbacks": [heard]})
    assert heard.kinds == ["start", "DispatchError"]


async def test_flags_that_cannot_be_read_are_heard(router, kit):
    chain = TryageFlags(RunnableLambda(lambda input: input["q"]) | chat(router, kit), key="q")
    heard = Heard()
    errors = await ways(chain, {"x": kit.code}, {"callbacks": [heard]})
    assert errors == [PromptError] * 6
    assert heard.kinds == ["start", "PromptError"] * 6
    heard.kinds.clear()
    chain.invoke({"q": kit.code}, {"callbacks": [heard]})
    assert heard.kinds.count("start") == heard.kinds.count("end") == 3
