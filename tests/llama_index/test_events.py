"""Events and callbacks: those of a direct call of the expert, and one that tells the decision."""

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from llama_index_tryage import TryageDecisionEvent, TryageFunctionCallingLLM, TryageLLM
from tryage import Goals


def user(text):
    return [ChatMessage("Be brief.", role="system"), ChatMessage(text)]


def names_of(events):
    return [type(event).__name__ for event in events]


async def every_way(llm, text):
    """Call an LLM in all eight ways; yields after each."""
    llm.chat(user(text))
    yield
    llm.complete(text)
    yield
    list(llm.stream_chat(user(text)))
    yield
    list(llm.stream_complete(text))
    yield
    await llm.achat(user(text))
    yield
    await llm.acomplete(text)
    yield
    [r async for r in await llm.astream_chat(user(text))]
    yield
    [r async for r in await llm.astream_complete(text)]
    yield


@pytest.mark.parametrize("kind", ["Scripted", "Simple"])
@pytest.mark.parametrize("options", [{}, {"timeout": 60}], ids=["", "in threads"])
async def test_events_are_those_of_a_direct_call_and_one_decision(
    router, kit, heard, kind, options
):
    experts = kit.experts(getattr(kit, kind))
    direct = []
    async for _ in every_way(experts["coder"], kit.code):
        direct.append(names_of(heard))
        heard.clear()
    async for _ in every_way(TryageLLM(router, experts, **options), kit.code):
        assert names_of(heard) == ["TryageDecisionEvent", *direct.pop(0)]
        heard.clear()
    assert not direct


@pytest.mark.parametrize("options", [{}, {"timeout": 60}], ids=["", "in threads"])
async def test_the_expert_s_span_stands_inside_the_router_s(router, kit, options):
    dispatcher, spans = get_dispatcher(), SimpleSpanHandler()
    dispatcher.add_span_handler(spans)
    try:
        async for _ in every_way(TryageLLM(router, kit.experts(), **options), kit.code):
            inner, outer = spans.completed_spans
            assert inner.id_.startswith("ScriptedLLM.")
            assert outer.id_.startswith("TryageLLM.")
            assert inner.parent_id == outer.id_
            assert not spans.open_spans
            spans.completed_spans.clear()
    finally:
        dispatcher.span_handlers.remove(spans)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Sum(BaseModel):
    """Two numbers."""

    a: int
    b: int


async def test_events_of_tools_and_structured_output(router, kit, heard):
    tool = FunctionTool.from_defaults(add)
    experts = kit.experts(kit.Caller)
    text = f"{kit.code} add 1 and 2"
    prompt = PromptTemplate("{text} Sum 3 and 4")

    async def calls(llm):
        llm.chat_with_tools([tool], text)
        yield
        [r async for r in await llm.astream_chat_with_tools([tool], text)]
        yield
        llm.structured_predict(Sum, prompt, text=kit.code)
        yield
        await llm.astructured_predict(Sum, prompt, text=kit.code)
        yield
        list(llm.stream_structured_predict(Sum, prompt, text=kit.code))
        yield

    direct = []
    async for _ in calls(experts["coder"]):
        direct.append(names_of(heard))
        heard.clear()
    async for _ in calls(TryageFunctionCallingLLM(router, experts)):
        routed = names_of(heard)
        assert routed.count("TryageDecisionEvent") == 1
        routed.remove("TryageDecisionEvent")
        assert routed == direct.pop(0)
        heard.clear()


def test_the_decision_event_tells_the_decision_and_no_text(router, kit, heard):
    response = TryageLLM(router, kit.experts(), goals=Goals(size=2)).complete(kit.code)
    (event,) = [event for event in heard if isinstance(event, TryageDecisionEvent)]
    record = response.additional_kwargs["tryage"]
    assert event.expert == record["expert"] == "writer"
    assert event.decision == {key: record[key] for key in event.decision}
    assert event.model_dump()["class_name"] == "TryageDecisionEvent"
    assert "alpha_count" not in str(event)


def test_a_failed_expert_s_events_are_there_too(router, kit, heard):
    TryageLLM(router, kit.experts(coder={"fault": ValueError("no")})).chat(user(kit.code))
    assert names_of(heard) == [
        "TryageDecisionEvent",
        "LLMChatStartEvent",
        "SpanDropEvent",
        "LLMChatStartEvent",
        "LLMChatEndEvent",
    ]


def test_callbacks_are_those_of_a_direct_call(router, kit):
    def counts(debug):
        return [(pair[0].event_type, len(pair)) for pair in debug.get_event_pairs()]

    direct = LlamaDebugHandler(print_trace_on_end=False)
    kit.Scripted(label="coder", callback_manager=CallbackManager([direct])).chat(user(kit.code))
    expected = counts(direct)
    of_expert = LlamaDebugHandler(print_trace_on_end=False)
    of_router = LlamaDebugHandler(print_trace_on_end=False)
    for own, expert in (([], [of_expert]), ([of_router], []), ([of_router], [of_expert])):
        for debug in (of_router, of_expert):
            debug.flush_event_logs()
        manager = CallbackManager(expert)
        experts = {"coder": kit.Scripted(label="coder", callback_manager=manager)}
        llm = TryageLLM(router, experts, callback_manager=CallbackManager(own))
        llm.chat(user(kit.code))
        list(llm.stream_chat(user(kit.code)))
        for debug in [*own, *expert]:
            assert counts(debug) == expected * 2
        assert experts["coder"].callback_manager is manager


def test_a_copy_of_an_expert_is_kept_while_nothing_changes(router, kit):
    copies = []

    class Looking(kit.Scripted):
        def _text(self, call_input, kwargs):
            copies.append((id(self), self.window))
            return super()._text(call_input, kwargs)

    expert = Looking(label="coder")
    manager = CallbackManager([LlamaDebugHandler(print_trace_on_end=False)])
    llm = TryageLLM(router, {"coder": expert}, callback_manager=manager)
    llm.chat(user(kit.code))
    llm.chat(user(kit.code))
    expert.window = 7
    llm.chat(user(kit.code))
    assert copies[0] == copies[1]
    assert [window for _, window in copies] == [4096, 4096, 7]
    assert id(expert) not in {identity for identity, _ in copies}


@pytest.mark.parametrize("owner", ["expert", "router"])
def test_handlers_that_are_added_or_removed_later_are_heeded(router, kit, owner):
    first, second, of_expert = (LlamaDebugHandler(print_trace_on_end=False) for _ in range(3))
    managers = {"expert": CallbackManager([of_expert]), "router": CallbackManager([first])}
    expert = kit.Scripted(label="coder", callback_manager=managers["expert"])
    llm = TryageLLM(router, {"coder": expert}, callback_manager=managers["router"])

    def counts():
        llm.chat(user(kit.code))
        numbers = [len(handler.get_event_pairs()) for handler in (first, second, of_expert)]
        for handler in (first, second, of_expert):
            handler.flush_event_logs()
        return numbers

    assert counts() == [1, 0, 1]
    managers[owner].add_handler(second)
    assert counts() == [1, 1, 1]
    managers[owner].remove_handler(second)
    assert counts() == [1, 0, 1]
    managers["router"].remove_handler(first)
    managers["router"].add_handler(second)
    assert counts() == [0, 1, 1]
    managers["router"].remove_handler(second)
    assert counts() == [0, 0, 1]


@pytest.mark.parametrize("kind", ["Scripted", "Simple"])
@pytest.mark.parametrize("owner", ["router", "experts", "both"])
async def test_tokens_are_those_of_a_direct_call(router, kit, kind, owner):
    make = getattr(kit, kind)
    counter = TokenCountingHandler(tokenizer=str.split)
    manager = CallbackManager([counter])
    own = {} if owner == "router" else {"callback_manager": manager}
    names = ("coder", "writer", "giant")
    experts = {name: make(label=name, **own) for name in names}
    options = {} if owner == "experts" else {"callback_manager": manager}

    async def counts(llm):
        numbers = []
        async for _ in every_way(llm, kit.code):
            numbers.append((counter.prompt_llm_token_count, counter.completion_llm_token_count))
            counter.reset_counts()
        return numbers

    direct = await counts(make(label="coder", callback_manager=manager))
    assert await counts(TryageLLM(router, experts, **options)) == direct
    assert all(prompt > 0 and completion > 0 for prompt, completion in direct)


def test_tokens_count_in_the_settings(router, kit, settings):
    counter = TokenCountingHandler(tokenizer=str.split)
    settings.callback_manager = CallbackManager([counter])
    settings.llm = kit.Scripted(label="coder")
    settings.llm.chat(user(kit.code))
    direct = counter.total_llm_token_count
    counter.reset_counts()
    settings.llm = TryageLLM(router, kit.experts())
    settings.llm.chat(user(kit.code))
    assert counter.total_llm_token_count == direct > 0
