"""Structured output: in all four ways, natively where the expert can, through every program."""

import json

import pytest
from llama_index.core import PromptTemplate, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel

from llama_index_tryage import (
    TryageDecisionEvent,
    TryageFunctionCallingLLM,
    TryageLLM,
    last_decision,
)
from tryage.errors import DispatchError

# LlamaIndex's structured LLM uses a method that the newest pydantic advises against.
# Its workflows look at deprecated attributes of pydantic, too.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The `json` method is deprecated"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning"),
]

WAYS_TO_CHAT = ("chat", "achat", "stream_chat", "astream_chat")

FLAG = "[Flag: size=2]"


class Sum(BaseModel):
    """Two numbers."""

    a: int
    b: int


@pytest.fixture
def writing(kit):
    """An LLM that answers with JSON, whose keys its prompt must have asked for."""

    class Writing(kit.Scripted):
        def _text(self, call_input, kwargs):
            super()._text(call_input, kwargs)
            text = (
                call_input
                if isinstance(call_input, str)
                else "\n".join(m.content for m in call_input)
            )
            assert '"properties"' in text
            return json.dumps({"a": len(self.label), "b": text.count("river")})

    return Writing


PROMPT = PromptTemplate("{text}\nSum 6 and 7")


async def every_way(llm, prompt, **args):
    return [
        llm.structured_predict(Sum, prompt, **args),
        await llm.astructured_predict(Sum, prompt, **args),
        list(llm.stream_structured_predict(Sum, prompt, **args))[-1],
        [o async for o in await llm.astream_structured_predict(Sum, prompt, **args)][-1],
    ]


async def test_by_text_where_the_expert_calls_no_functions(router, kit, writing, heard):
    experts = kit.experts(writing)
    llm = TryageLLM(router, experts)
    prompt = PromptTemplate("{text}")
    for number, answer in enumerate(await every_way(llm, prompt, text=kit.prose), 1):
        assert (answer.a, answer.b) == (len("writer"), 1)
        assert len(experts["writer"].calls) >= number
    events = [event for event in heard if isinstance(event, TryageDecisionEvent)]
    assert [event.expert for event in events] == ["writer"] * 4
    assert prompt.output_parser is None


async def test_by_function_where_the_expert_calls_them(router, kit):
    for kind in (TryageLLM, TryageFunctionCallingLLM):
        experts = kit.experts(kit.Caller)
        llm = kind(router, experts)
        for answer in await every_way(llm, PROMPT, text=kit.code):
            assert (answer.a, answer.b) == (6, 7)
        assert all(kwargs["tools"] == ["coder:Sum"] for _, kwargs in experts["coder"].calls)


async def test_natively_where_the_expert_has_a_way_of_its_own(router, kit):
    class Native(kit.Scripted):
        def structured_predict(self, output_cls, prompt, llm_kwargs=None, **args):
            self.calls.append((prompt.format(**args), llm_kwargs))
            return output_cls(a=1, b=2)

    experts = kit.experts(Native)
    llm = TryageLLM(router, experts)
    options = {"temperature": 0.2}
    assert llm.structured_predict(Sum, PROMPT, options, text=kit.code) == Sum(a=1, b=2)
    assert experts["coder"].calls == [(f"{kit.code}\nSum 6 and 7", options)]


async def test_an_answer_that_does_not_fit_fails_over(router, kit, writing):
    class Wrong(writing):
        def _text(self, call_input, kwargs):
            text = super()._text(call_input, kwargs)
            return "no JSON at all" if self.label == "coder" else text

    llm = TryageLLM(router, kit.experts(Wrong))
    assert llm.structured_predict(Sum, PROMPT, text=kit.code).a == len("giant")
    assert (await llm.astructured_predict(Sum, PROMPT, text=kit.code)).a == len("giant")
    mixed = {"coder": Wrong(label="coder"), "giant": kit.Caller(label="giant")}
    assert TryageLLM(router, mixed).structured_predict(Sum, PROMPT, text=kit.code).a == 6
    with pytest.raises(DispatchError, match="the one expert"):
        TryageLLM(router, {"coder": Wrong(label="coder")}).structured_predict(
            Sum, PROMPT, text=kit.code
        )


async def test_no_answer_at_all_fails_over(router, kit, writing):
    class Nothing(writing):
        def structured_predict(self, *args, **kwargs):
            return None

        async def astructured_predict(self, *args, **kwargs):
            return None

    llm = TryageLLM(router, kit.experts(writing) | {"coder": Nothing(label="coder")})
    assert llm.structured_predict(Sum, PROMPT, text=kit.code).a == len("giant")
    assert (await llm.astructured_predict(Sum, PROMPT, text=kit.code)).a == len("giant")
    alone = TryageLLM(router, {"coder": Nothing(label="coder")})
    with pytest.raises(DispatchError, match="coder returned nothing"):
        alone.structured_predict(Sum, PROMPT, text=kit.code)


async def test_flags_act_and_are_taken_off_and_braces_stay(router, kit):
    experts = kit.experts(kit.Caller)
    llm = TryageLLM(router, experts, flags_from="last_message", system_prompt="Be exact.")
    text = f'{kit.code} {{"a": 1}} {{a}} {FLAG}'
    for answer in await every_way(llm, PROMPT, text=text):
        assert answer.a == 6
    for sent, _ in experts["writer"].calls:
        assert sent[0] == ChatMessage("Be exact.", role="system")
        assert sent[-1].content == f'{kit.code} {{"a": 1}} {{a}}\nSum 6 and 7'


async def test_as_structured_llm(router, kit, writing):
    for kind, of in ((writing, len("coder")), (kit.Caller, 6)):
        llm = TryageFunctionCallingLLM(router, kit.experts(kind)).as_structured_llm(Sum)
        messages = [ChatMessage(f"{kit.code}\nSum 6 and 7")]
        assert llm.chat(messages).raw.a == of
        assert (await llm.achat(messages)).raw.a == of
        assert list(llm.stream_chat(messages))[-1].raw.a == of
        assert [r async for r in await llm.astream_chat(messages)][-1].raw.a == of
        assert llm.complete(messages[0].content).raw.a == of
        assert (await llm.acomplete(messages[0].content)).raw.a == of


async def test_as_structured_llm_tells_once_who_answered(router, kit, writing):
    llm = TryageLLM(router, kit.experts(writing)).as_structured_llm(Sum)
    messages = [ChatMessage(f"{kit.code}\nSum 6 and 7")]
    responses = [
        llm.chat(messages),
        await llm.achat(messages),
        llm.complete(messages[0].content),
        await llm.acomplete(messages[0].content),
        *llm.stream_chat(messages),
        *[response async for response in await llm.astream_chat(messages)],
    ]
    for response in responses:
        record = response.additional_kwargs["tryage"]
        assert record["answered_by"] == "coder"
        assert "inner" not in record  # no router stands inside


async def test_as_structured_llm_opens_as_many_spans_as_any(router, kit, writing):
    dispatcher, spans = get_dispatcher(), SimpleSpanHandler()
    messages = [ChatMessage(f"{kit.code}\nSum 6 and 7")]
    routed = TryageLLM(router, kit.experts(writing)).as_structured_llm(Sum)
    direct = kit.experts(writing)["coder"].as_structured_llm(Sum)
    opened = []
    dispatcher.add_span_handler(spans)
    try:
        for llm in (direct, routed):
            llm.chat(messages)
            await llm.achat(messages)
            assert list(llm.stream_chat(messages))
            assert [response async for response in await llm.astream_chat(messages)]
            names = [span.id_.partition("-")[0] for span in spans.completed_spans]
            opened.append([name for name in names if "StructuredLLM" in name])
            spans.completed_spans.clear()
    finally:
        dispatcher.span_handlers.remove(spans)
    assert opened[0] == [f"StructuredLLM.{way}" for way in WAYS_TO_CHAT]
    assert opened[1] == [f"RoutedStructuredLLM.{way}" for way in WAYS_TO_CHAT]


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
async def test_in_query_engines(router, kit, shelves, writing, mode):
    index = VectorStoreIndex.from_documents([shelves["heaps"]], embed_model=kit.Embedding())
    llm = TryageLLM(router, kit.experts(writing))
    for engine in (
        index.as_query_engine(llm=llm, output_cls=Sum, response_mode=mode),
        index.as_query_engine(llm=llm.as_structured_llm(Sum), response_mode=mode),
    ):
        for response in (engine.query(kit.code), await engine.aquery(kit.code)):
            assert isinstance(response.response, Sum)
            assert response.response.a in {len(name) for name in ("coder", "writer", "giant")}


async def test_an_agent_s_answer_as_an_object(router, kit):
    class Summing(kit.Caller):
        """Calls the tool that makes the object, where it is among the tools."""

        def _requested_call(self, messages, tools):
            if f"{self.label}:Sum" in tools:
                return "Sum", {"a": 6, "b": 7}
            return super()._requested_call(messages, tools)

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    llm = TryageFunctionCallingLLM(router, kit.experts(Summing))
    agent = FunctionAgent(tools=[add], llm=llm, output_cls=Sum)
    text = f"{kit.code} add 6 and 7"
    result = await agent.run(text, memory=ChatMemoryBuffer.from_defaults())
    assert str(result) == "coder says 13"
    assert result.structured_response == {"a": 6, "b": 7}


async def test_llama_index_s_own_programs(router, kit, writing):
    llm = TryageFunctionCallingLLM(router, kit.experts(kit.Caller))
    program = FunctionCallingProgram.from_defaults(Sum, prompt=PROMPT, llm=llm)
    assert program(text=kit.code).a == 6
    assert (await program.acall(text=kit.code)).a == 6
    assert list(program.stream_call(text=kit.code))[-1].a == 6
    by_text = LLMTextCompletionProgram.from_defaults(
        output_cls=Sum,
        prompt=PromptTemplate("{text}"),
        llm=TryageLLM(router, kit.experts(writing)),
    )
    assert by_text(text=kit.code).a == len("coder")


async def test_a_program_mode_of_the_router_holds(router, kit, writing):
    class Talking(writing, kit.Caller):
        pass

    llm = TryageLLM(router, kit.experts(Talking), pydantic_program_mode=PydanticProgramMode.LLM)
    for answer in await every_way(llm, PromptTemplate("{text}"), text=kit.code):
        assert answer.a == len("coder")


def test_a_prompt_keeps_the_expert_s_messages_apart(router, kit):
    # MockLLM takes no part in function calling; its text fits no class.
    llm = TryageLLM(router, {"coder": MockLLM(), "giant": kit.Caller(label="giant")})
    assert llm.structured_predict(Sum, PROMPT, text=kit.code).b == 7


async def test_who_made_an_object_is_told_after_failover_too(router, kit, writing):
    class Wrong(writing):
        def _text(self, call_input, kwargs):
            return "no JSON" if self.label == "coder" else super()._text(call_input, kwargs)

    llm = TryageLLM(router, kit.experts(Wrong))
    prompt = PromptTemplate("{text}")
    for call in (
        lambda: llm.structured_predict(Sum, prompt, text=kit.code),
        lambda: list(llm.stream_structured_predict(Sum, prompt, text=kit.prose)),
    ):
        call()
        record = last_decision()
        if record["expert"] == "coder":
            assert record["answered_by"] == "giant"
            assert [attempt["expert"] for attempt in record["tried"]] == ["coder", "giant"]
        else:
            assert record["answered_by"] == "writer"
    assert (await llm.astructured_predict(Sum, prompt, text=kit.code)).a == len("giant")
    assert last_decision()["answered_by"] == "giant"


@pytest.mark.parametrize("mode", [PydanticProgramMode.DEFAULT, PydanticProgramMode.LLM])
async def test_a_structured_llm_s_responses_carry_the_decision(router, kit, writing, mode):
    experts = kit.experts(writing, coder={"fault": ConnectionError("down")})
    llm = TryageLLM(router, experts, pydantic_program_mode=mode).as_structured_llm(Sum)
    messages = [ChatMessage(kit.code)]
    responses = [
        llm.chat(messages),
        await llm.achat(messages),
        llm.complete(kit.code),
        await llm.acomplete(kit.code),
        *list(llm.stream_chat(messages)),
        *[response async for response in await llm.astream_chat(messages)],
    ]
    assert len(responses) > 6
    for response in responses:
        record = response.additional_kwargs["tryage"]
        assert (record["expert"], record["answered_by"]) == ("coder", "giant")
        assert record["tried"][0]["error"] == "ConnectionError: down"
    assert responses[0].raw == Sum(a=len("giant"), b=0)


async def test_a_streamed_object_s_last_state_is_not_checked(router, kit, writing):
    """As in LlamaIndex; docs/llama-index.md says so."""

    class Wrong(writing):
        def _text(self, call_input, kwargs):
            return "no JSON"

    llm = TryageLLM(router, {"coder": Wrong(label="coder"), "giant": writing(label="giant")})
    prompt = PromptTemplate("{text}")
    states = list(llm.stream_structured_predict(Sum, prompt, text=kit.code))
    assert not isinstance(states[-1], Sum)
    assert last_decision()["answered_by"] == "coder"
    assert llm.structured_predict(Sum, prompt, text=kit.code).a == len("giant")
