"""Conversations that stay with an expert: chat models and agents, by price, tools and reasoning."""

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tryage import ChatTryage, TryageMiddleware
from tryage import Goals, Router

LONG = "Some words of a long document. " * 1200


@pytest.fixture(scope="module")
def priced(table, table_library):
    """The fitted router, with prices: those who read from a cache pay a twentieth."""
    from tryage import Library

    prices = {
        "coder": {"input": 1.9, "output": 2.0, "cached_input": 0.1},
        "writer": {"input": 2.0, "output": 2.0, "cached_input": 0.1},
        "giant": {"input": 8.0, "output": 8.0},
    }
    rows = [{**row, "price": prices[row["name"]]} for row in table_library.to_dict()["experts"]]
    library = Library.from_dict({"name": "priced", "experts": rows})
    return Router.fit(table, library=library, predictor="clusters")


def expert_of(message):
    return message.response_metadata["tryage"]["answered_by"]


async def ways(model, messages):
    """Who answers in each of the four ways."""
    chunks = list(model.stream(messages))
    achunks = [chunk async for chunk in model.astream(messages)]
    return {
        expert_of(message)
        for message in (
            model.invoke(messages),
            await model.ainvoke(messages),
            sum(chunks[1:], chunks[0]),
            sum(achunks[1:], achunks[0]),
        )
    }


async def test_a_long_conversation_stays_and_a_short_one_switches(priced, kit):
    goals = Goals(cost=0.2)
    model = ChatTryage(priced, kit.experts(), sticky="price", goals=goals)
    fresh = ChatTryage(priced, kit.experts(), goals=goals)
    for text, stays in ((LONG, True), ("Hello.", False)):
        first = model.invoke([SystemMessage(text), HumanMessage(kit.code)])
        assert expert_of(first) == "coder"
        talk = [SystemMessage(text), HumanMessage(kit.code), first, HumanMessage(kit.prose)]
        assert await ways(model, talk) == {"coder" if stays else "writer"}
        assert await ways(fresh, talk) == {"writer"}
    # Without a weight on the cost money counts nothing.
    free = ChatTryage(priced, kit.experts(), sticky="price")
    assert expert_of(free.invoke([SystemMessage(LONG), *talk[1:]])) == "writer"


def test_what_came_after_its_answer_is_not_in_its_cache(priced, kit):
    model = ChatTryage(priced, kit.experts(), sticky="price", goals=Goals(cost=0.2))
    first = model.invoke([HumanMessage(kit.code)])
    talk = [HumanMessage(kit.code), first, HumanMessage(LONG), HumanMessage(kit.prose)]
    assert expert_of(model.invoke(talk)) == "writer"


@pytest.mark.parametrize("sticky", [False, "price", 0.0, True])
async def test_nobody_else_goes_on_in_a_tool_loop(router, kit, sticky):
    model = ChatTryage(router, kit.experts(), sticky=sticky)
    record = {"tryage": {"answered_by": "coder"}}
    call = {"name": "look", "args": {}, "id": "1", "type": "tool_call"}
    calling = AIMessage("", tool_calls=[call], response_metadata=record)
    talk = [HumanMessage(kit.prose), calling, ToolMessage("found", tool_call_id="1")]
    assert await ways(model, talk) == {"coder"}
    unknown = AIMessage("", tool_calls=[call])
    assert await ways(model, [talk[0], unknown, talk[2]]) == {"writer"}
    if sticky is not True:
        answer = AIMessage("done", response_metadata=record)
        assert await ways(model, [*talk, answer, HumanMessage(kit.prose)]) == {"writer"}


SIGNED = [
    {"type": "thinking", "thinking": "so", "signature": "Er4B"},
    {"type": "text", "text": "a"},
]


@pytest.mark.parametrize(
    "fields",
    [
        {"content": SIGNED},
        {"content": "a", "additional_kwargs": {"reasoning": {"encrypted_content": "gAAA"}}},
    ],
)
@pytest.mark.parametrize("sticky", [False, "price"])
async def test_nor_while_encrypted_reasoning_is_in_the_messages(router, kit, fields, sticky):
    model = ChatTryage(router, kit.experts(), sticky=sticky)
    thought = AIMessage(**fields, response_metadata={"tryage": {"answered_by": "coder"}})
    talk = [HumanMessage(kit.code), thought, HumanMessage(kit.prose)]
    assert await ways(model, talk) == {"coder"}
    later = AIMessage("b", response_metadata={"tryage": {"answered_by": "coder"}})
    assert await ways(model, [*talk, later, HumanMessage(kit.prose)]) == {"coder"}
    assert await ways(model, [talk[0], later, talk[2]]) == {"writer"}


async def test_unless_it_failed(router, kit):
    experts = kit.experts(coder={"fault": ConnectionError("down")})
    model = ChatTryage(router, experts, sticky="price")
    call = {"name": "look", "args": {}, "id": "1", "type": "tool_call"}
    calling = AIMessage(
        "", tool_calls=[call], response_metadata={"tryage": {"answered_by": "coder"}}
    )
    talk = [HumanMessage(kit.prose), calling, ToolMessage("found", tool_call_id="1")]
    assert await ways(model, talk) == {"writer"}
    answer = model.invoke(talk)
    tried = [attempt["expert"] for attempt in answer.response_metadata["tryage"]["tried"]]
    assert tried == ["coder", "writer"]
    # From then on the conversation is the other one's.
    both = ChatTryage(router, kit.experts(), sticky=True)
    assert expert_of(both.invoke([*talk, answer, HumanMessage(kit.code)])) == "writer"


@tool
def look_around(text: str) -> str:
    """Look around."""
    return "7"


def agent(router, kit, **options):
    middleware = TryageMiddleware(router, kit.experts(kit.Calling), **options)
    return create_agent(
        kit.Calling(label="default"),
        [look_around],
        middleware=[middleware],
        checkpointer=InMemorySaver(),
    )


def answerers(agent, text, thread):
    config = {"configurable": {"thread_id": thread}}
    messages = agent.invoke({"messages": [HumanMessage(text)]}, config)["messages"]
    start = max(i for i, message in enumerate(messages) if isinstance(message, HumanMessage))
    return [expert_of(message) for message in messages[start:] if isinstance(message, AIMessage)]


async def test_runs_of_an_agent_stay_too(router, kit):
    for sticky, second in (
        (False, "writer"),
        (True, "coder"),
        (0.0, "writer"),
        ("price", "writer"),
    ):
        one = agent(router, kit, sticky=sticky)
        assert answerers(one, kit.code, "a") == ["coder"]
        assert answerers(one, kit.prose, "a") == [second]


def test_a_run_that_decides_every_call_keeps_to_one_expert_between_tool_and_result(
    router, kit, monkeypatch
):
    text = f"{kit.prose} Look at 'this'."
    for sticky in (True, "price", 0.0):
        one = agent(router, kit, choose="call", sticky=sticky)
        assert answerers(one, text, "b") == ["writer", "writer"]


def test_only_a_run_that_decides_every_call_may_switch_between_tool_and_result(router, kit):
    call = {"name": "look", "args": {}, "id": "1", "type": "tool_call"}
    result = ToolMessage("found", tool_call_id="1")
    record = {"tryage": {"answered_by": "coder"}}

    def next_expert(content, **options):
        calling = AIMessage(content, tool_calls=[call], response_metadata=record)
        one = create_agent(
            kit.Calling(label="default"),
            middleware=[TryageMiddleware(router, kit.experts(), **options)],
        )
        talk = [HumanMessage(kit.prose), calling, result]
        return expert_of(one.invoke({"messages": talk})["messages"][-1])

    assert next_expert("") == "coder"
    assert next_expert("", choose="call") == "writer"
    assert next_expert("", choose="call", sticky=0.0) == "coder"
    assert next_expert(SIGNED, choose="call") == "coder"


def test_what_the_middleware_refuses(router, kit):
    with pytest.raises(ValueError, match="sticky is 'prise'; it is True, False, 'price'"):
        TryageMiddleware(router, kit.experts(), sticky="prise")
