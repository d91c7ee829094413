"""Everything that is sent counts against an expert's context: history, system prompts, tools."""

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompt_values import StringPromptValue
from langchain_core.tools import tool

from langchain_tryage import ChatTryage, TryageLLM, TryageMiddleware, TryageRouter, TryageSelector
from langchain_tryage._sent import sent_tokens
from tryage import Library, Router

LONG = "x" * 400
TOO_LONG = "context_length is 100, the prompt has about"


@pytest.fixture(scope="module")
def short_writer(table, table_library):
    """A router whose best expert for prose takes 100 tokens."""
    experts = [
        {**expert, "context_length": 100 if expert["name"] == "writer" else 4096}
        for expert in table_library.to_dict()["experts"]
    ]
    return Router.fit(table, library=Library.from_dict({"experts": experts}))


@tool(description=f"Look it up. {LONG}")
def look_up(words: str) -> str:
    return words


def reason(record):
    """Why the short expert was left out; None where it was chosen."""
    if record["expert"] == "writer":
        return None
    return next(row["reason"] for row in record["ranking"] if row["expert"] == "writer")


CALL = {"name": "look_up", "args": {"words": LONG}, "id": "1"}


def conversations(prose):
    """What goes around the same last question, each longer than the short expert takes."""
    return {
        "system": [SystemMessage(LONG), HumanMessage(prose)],
        "history": [HumanMessage(LONG), AIMessage("Yes."), HumanMessage(prose)],
        "blocks": [HumanMessage([{"type": "text", "text": LONG}]), HumanMessage(prose)],
        "result": [ToolMessage(LONG, tool_call_id="1"), HumanMessage(prose)],
        "call": [AIMessage("", tool_calls=[CALL]), HumanMessage(prose)],
    }


@pytest.mark.parametrize("kind", ["system", "history", "blocks", "result", "call"])
async def test_what_stands_around_the_question_counts(short_writer, kit, kind):
    messages = conversations(kit.prose)[kind]
    experts = kit.experts(kit.Whole)
    for model in (ChatTryage(short_writer, experts), TryageRouter(short_writer, experts)):
        (batched,) = model.batch([messages])
        for message in (model.invoke(messages), batched, await model.ainvoke(messages)):
            assert reason(message.response_metadata["tryage"]).startswith(TOO_LONG)
        assert reason(model.invoke(kit.prose).response_metadata["tryage"]) is None
    keyed = TryageRouter(short_writer, experts, key="messages")
    input = {"messages": messages, "more": LONG}
    assert reason(keyed.invoke(input).response_metadata["tryage"]).startswith(TOO_LONG)
    input = {"messages": kit.prose, "more": LONG}
    assert reason(keyed.invoke(input).response_metadata["tryage"]) is None
    decision = TryageSelector(short_writer).invoke(messages)
    assert decision.reasons["writer"].startswith(TOO_LONG)


def test_it_counts_where_a_function_finds_the_question(short_writer, kit):
    model = ChatTryage(
        short_writer,
        kit.experts(kit.Whole),
        text_from=lambda input: input[-1].text[-len(kit.prose) :],
    )
    input = f"{LONG}\n\n{kit.prose}"
    record = model.invoke(input).response_metadata["tryage"]
    assert reason(record).startswith(TOO_LONG)
    texts = {name: FakeListLLM(responses=[name]) for name in ("coder", "writer", "giant")}
    llm = TryageLLM(short_writer, texts, text_from=lambda input: kit.prose)
    assert llm.invoke(kit.prose) == "writer"
    assert llm.invoke(input) != "writer"


def test_tools_count_too(short_writer, kit):
    model = ChatTryage(short_writer, kit.experts(kit.Calling))
    record = model.bind_tools([look_up]).invoke(kit.prose).response_metadata["tryage"]
    assert reason(record).startswith(TOO_LONG)
    middleware = TryageMiddleware(short_writer, kit.experts(kit.Calling))
    state = {"messages": [("human", kit.prose)]}
    for tools, system, fits in (([], None, True), ([look_up], None, False), ([], LONG, False)):
        agent = create_agent(
            kit.Whole(label="own"), tools, middleware=[middleware], system_prompt=system
        )
        record = agent.invoke(state)["tryage"]
        assert (reason(record) is None) == fits


def test_what_is_counted(kit):
    assert sent_tokens(StringPromptValue(text="four")) == 1
    assert sent_tokens("四四四") == 3
    assert sent_tokens(7) is None
    assert sent_tokens("four", [{"type": "function"}, kit]) == (4 + 4 + 8) / 4
    assert sent_tokens("", [look_up]) == sent_tokens("", [look_up]) > len(LONG) / 4
