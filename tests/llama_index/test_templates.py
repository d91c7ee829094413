"""`predict` and `stream`: experts' own prompt settings act as in a direct call."""

import pytest
from llama_index.core import Document, PromptTemplate, SummaryIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import CondensePlusContextChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import ChatPromptTemplate, SelectorPromptTemplate
from llama_index.core.prompts.utils import is_chat_model
from llama_index.core.types import BaseOutputParser

from llama_index_tryage import TryageDecisionEvent, TryageFeedback, TryageLLM, last_decision
from tryage.errors import DispatchError

PROMPT = PromptTemplate("{question}")
FLAG = "[Flag: size=2]"
FAULT = {"fault": ConnectionError("down")}


class Shouting(BaseOutputParser):
    """Asks for capitals, and makes them."""

    def format(self, query):
        return f"{query} LOUD"

    def parse(self, output):
        return output.upper()


@pytest.fixture
def whole(kit):
    """Experts that answer with everything that they are sent."""

    class Whole(kit.Scripted):
        def _text(self, call_input, kwargs):
            super()._text(call_input, kwargs)
            if isinstance(call_input, str):
                return (
                    call_input
                    if kwargs.get("formatted", True)
                    else self.completion_to_prompt(call_input)
                )
            return "".join(f"<{m.role.value}>{m.content}" for m in call_input)

    return Whole


async def every_way(llm, prompt, **args):
    return [
        llm.predict(prompt, **args),
        await llm.apredict(prompt, **args),
        "".join(llm.stream(prompt, **args)),
        "".join([token async for token in await llm.astream(prompt, **args)]),
    ]


def instruct(prompt):
    return f"[INST]{prompt}[/INST]"


def joined(messages):
    return "|".join(m.content for m in messages)


CHAT = ChatPromptTemplate([ChatMessage("Be brief.", role="system"), ChatMessage("{question}")])
SELECTED = SelectorPromptTemplate(default_template=PROMPT, conditionals=[(is_chat_model, CHAT)])
SETTINGS = {
    "system prompt": {"system_prompt": "BE-A-PIRATE"},
    "completion template": {"chatty": False, "completion_to_prompt": instruct},
    "messages template": {"chatty": False, "messages_to_prompt": joined},
    "query wrapper": {
        "chatty": False,
        "query_wrapper_prompt": PromptTemplate("<|user|>{query_str}<|end|>"),
    },
    "nothing": {},
}


@pytest.mark.parametrize("prompt", [PROMPT, CHAT, SELECTED], ids=["text", "chat", "selected"])
@pytest.mark.parametrize("settings", SETTINGS)
async def test_an_expert_s_settings_act_as_in_a_direct_call(router, kit, whole, settings, prompt):
    made = SETTINGS[settings]
    direct = await every_way(whole(label="coder", **made), prompt, question=kit.code)
    llm = TryageLLM(router, {"coder": whole(label="coder", **made)})
    assert await every_way(llm, prompt, question=kit.code) == direct
    assert len(set(direct)) == 1
    index = SummaryIndex.from_documents([Document(text="A heap is a tree.")])
    answers = [
        str(index.as_query_engine(llm=one, streaming=streaming).query(kit.code))
        for one in (llm, whole(label="coder", **made))
        for streaming in (False, True)
    ]
    assert len(set(answers)) == 1


def test_an_expert_s_parser_acts_and_cannot_stream(router, kit, whole):
    experts = {
        "coder": whole(label="coder", output_parser=Shouting()),
        "giant": whole(label="giant"),
    }
    llm = TryageLLM(router, experts)
    assert llm.predict(PROMPT, question=kit.code) == f"<USER>{kit.code.upper()} LOUD"
    # As in a direct call, such an expert cannot stream, so the next one does.
    assert "".join(llm.stream(PROMPT, question=kit.code)) == f"<user>{kit.code}"


async def test_each_expert_is_asked_in_its_own_kind(router, kit, whole):
    experts = {
        "coder": whole(label="coder", chatty=False, completion_to_prompt=instruct, **FAULT),
        "giant": whole(label="giant", system_prompt="Be exact."),
    }
    llm = TryageLLM(router, experts)
    expected = f"<system>Be exact.<user>{kit.code}"
    assert await every_way(llm, PROMPT, question=kit.code) == [expected] * 4
    assert last_decision()["answered_by"] == "giant"
    assert [attempt["expert"] for attempt in last_decision()["tried"]] == ["coder", "giant"]
    alone = TryageLLM(router, {"coder": experts["coder"]})
    with pytest.raises(DispatchError):
        alone.stream(PROMPT, question=kit.code)


async def test_the_router_s_own_settings_come_first(router, kit, whole):
    own = {"system_prompt": "Be kind."}
    chat = TryageLLM(router, {"coder": whole(label="coder", system_prompt="Be exact.")}, **own)
    expected = f"<system>Be exact.<system>Be kind.<user>{kit.code}"
    assert await every_way(chat, PROMPT, question=kit.code) == [expected] * 4
    text = whole(label="coder", chatty=False, completion_to_prompt=instruct)
    completing = TryageLLM(router, {"coder": text}, **own)
    expected = f"[INST]Be kind.\n\n{kit.code}[/INST]"
    assert await every_way(completing, PROMPT, question=kit.code) == [expected] * 4
    loud = TryageLLM(router, {"coder": whole(label="coder")}, output_parser=Shouting())
    assert loud.predict(PROMPT, question="why") == "<USER>WHY LOUD"
    assert await loud.apredict(PROMPT, question="why") == "<USER>WHY LOUD"
    for template, llm in ((PROMPT, loud), (PromptTemplate("x", output_parser=Shouting()), chat)):
        with pytest.raises(NotImplementedError, match="not supported for streaming"):
            llm.stream(template, question="why")
        with pytest.raises(NotImplementedError, match="not supported for streaming"):
            await llm.astream(template, question="why")


@pytest.mark.parametrize("made", [{}, {"chatty": False, "completion_to_prompt": instruct}])
async def test_flags_that_the_operator_points_at_are_taken_off(router, kit, whole, made):
    text = f'{kit.code} {{"a": 1}} {{question}}'
    llm = TryageLLM(
        router,
        {name: whole(label=name, **made) for name in ("coder", "writer")},
        flags_from="last_message",
    )
    sent = await every_way(llm, PromptTemplate("{text}"), text=f"{text} {FLAG}")
    expected = instruct(text) if made else f"<user>{text}"
    assert sent == [expected] * 4
    assert last_decision()["answered_by"] == "writer"


def test_the_query_of_a_template_is_what_is_routed(router, kit, heard):
    """Whatever the template puts around it: LlamaIndex says which argument holds it."""
    texts = [Document(text=kit.prose), Document(text=f"{kit.prose} {FLAG}")]
    llm = TryageLLM(router, kit.experts())
    engine = SummaryIndex.from_documents(texts).as_query_engine(llm=llm)
    history = [ChatMessage(kit.prose), ChatMessage(kit.prose, role="assistant")]
    chat = CondensePlusContextChatEngine.from_defaults(
        SummaryIndex.from_documents(texts).as_retriever(),
        llm=llm,
        memory=ChatMemoryBuffer.from_defaults(history, tokenizer_fn=str.split),
    )
    for ask in (engine.query, chat.chat):
        for question, expert in ((kit.code, "coder"), (kit.prose, "writer")):
            heard.clear()
            ask(question)
            decisions = [e for e in heard if isinstance(e, TryageDecisionEvent)]
            assert decisions[0].expert == expert
            assert not decisions[0].decision["out_of_distribution"]
            assert decisions[0].decision["weights"] == {}


def test_a_function_of_the_operator_s_beats_the_query(router, kit):
    llm = TryageLLM(router, kit.experts(), text_from=lambda prompt: kit.prose)
    index = SummaryIndex.from_documents([Document(text="A heap is a tree.")])
    index.as_query_engine(llm=llm).query(kit.code)
    assert last_decision()["expert"] == "writer"


async def test_last_decision_tells_of_every_way(router, kit):
    llm = TryageLLM(router, kit.experts(coder={"fault": ConnectionError("down")}))
    for call in (
        lambda: llm.complete(kit.code),
        lambda: llm.chat([ChatMessage(kit.code)]),
        lambda: llm.predict(PROMPT, question=kit.code),
        lambda: list(llm.stream(PROMPT, question=kit.code)),
    ):
        call()
        assert last_decision()["answered_by"] == "giant"
        TryageLLM(router, kit.experts()).complete(kit.prose)
        assert last_decision()["answered_by"] == "writer"
    await llm.acomplete(kit.code)
    assert last_decision()["answered_by"] == "giant"


async def test_answers_of_query_engines_are_scored(kit, feedback_router, feedback_rows):
    from llama_index_instrumentation import get_dispatcher

    dispatcher = get_dispatcher()
    handler = TryageFeedback(feedback_router, lambda prompt, answer: 0.5)
    dispatcher.add_span_handler(handler)
    try:
        index = SummaryIndex.from_documents([Document(text="A heap is a tree.")])
        engine = index.as_query_engine(llm=TryageLLM(feedback_router, kit.experts()))
        engine.query(kit.code)
        await engine.aquery(kit.prose)
    finally:
        dispatcher.span_handlers.remove(handler)
    assert feedback_rows() == [(kit.code, {"coder": 0.5}), (kit.prose, {"writer": 0.5})]
