"""`ModelFallbackMiddleware` and the like around the router's middleware and inside it."""

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelFallbackMiddleware, ModelResponse
from langchain_core.messages import AIMessage

from langchain_tryage import TryageMiddleware
from tryage.errors import DispatchError

NAMES = ("coder", "writer", "giant")
DOWN = ConnectionError("down")


def all_down(kit):
    return {name: kit.Whole(label=name, fault=DOWN) for name in NAMES}


def state_of(text):
    return {"messages": [("human", text)]}


async def both(kit, middleware, text):
    """The states after the question was asked in both ways."""
    agent = create_agent(kit.Whole(label="own"), [], middleware=middleware)
    return [agent.invoke(state_of(text)), await agent.ainvoke(state_of(text))]


async def test_outside_it_gets_its_turn_when_no_expert_answers(router, kit):
    experts = all_down(kit)
    dead, last = kit.Whole(label="dead", fault=DOWN), kit.Whole(label="last")
    middleware = [ModelFallbackMiddleware(dead, last), TryageMiddleware(router, experts)]
    states = await both(kit, middleware, kit.code)
    for state in states:
        assert state["messages"][-1].text.startswith("last says")
        record = state["tryage"]
        assert (record["expert"], record["answered_by"]) == ("coder", None)
        assert [row["error"] for row in record["tried"]] == ["ConnectionError: down"] * 3
    assert [len(expert.calls) for expert in experts.values()] == [2, 2, 2]
    assert (len(dead.calls), len(last.calls)) == (2, 2)


async def test_it_gets_its_turn_when_nothing_could_be_decided_too(router, kit):
    middleware = TryageMiddleware(router, kit.experts(kit.Whole), goals=None)
    last = kit.Whole(label="last")
    agent = create_agent(
        kit.Whole(label="own"), [], middleware=[ModelFallbackMiddleware(last), middleware]
    )
    config = {"configurable": {"tryage_goals": {"limits": {"parameters": "<=1"}}}}
    for state in (
        agent.invoke(state_of(kit.code), config),
        await agent.ainvoke(state_of(kit.code), config),
    ):
        assert state["messages"][-1].text.startswith("last says")
        assert state["tryage"] is None
    # The next run decides again.
    assert agent.invoke(state_of(kit.code))["tryage"]["answered_by"] == "coder"


class Twice(AgentMiddleware):
    """Asks for the same model again."""

    def wrap_model_call(self, request, handler):
        try:
            return handler(request)
        except DispatchError:
            return handler(request)


def test_who_tries_the_same_model_again_gets_the_experts_again(router, kit):
    experts = all_down(kit)
    middleware = [Twice(), TryageMiddleware(router, experts)]
    with pytest.raises(DispatchError):
        create_agent(kit.Whole(label="own"), [], middleware=middleware).invoke(state_of(kit.code))
    assert [len(expert.calls) for expert in experts.values()] == [2, 2, 2]


async def test_inside_no_expert_is_named_for_another_model_s_answer(router, kit):
    last = kit.Whole(label="last")
    middleware = [TryageMiddleware(router, all_down(kit)), ModelFallbackMiddleware(last)]
    for state in await both(kit, middleware, kit.code):
        assert state["messages"][-1].text.startswith("last says")
        for record in (state["tryage"], state["messages"][-1].response_metadata["tryage"]):
            assert (record["expert"], record["answered_by"]) == ("coder", None)
            (attempt,) = record["tried"]
            assert attempt["error"] == "ConnectionError: down; another model answered"


class Instead(AgentMiddleware):
    """Calls another model in the first place, or none at all."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def wrap_model_call(self, request, handler):
        if self.model is None:
            return ModelResponse(result=[AIMessage("from a cache")])
        return handler(request.override(model=self.model))


def test_a_model_that_was_put_in_its_place_is_told_apart(router, kit):
    def record(inside):
        middleware = [TryageMiddleware(router, kit.experts(kit.Whole)), inside]
        agent = create_agent(kit.Whole(label="own"), [], middleware=middleware)
        return agent.invoke(state_of(kit.code))["tryage"]

    other = record(Instead(kit.Whole(label="other")))
    assert other["answered_by"] is None
    assert other["tried"][0]["error"] == "another model was called in its place"
    assert record(Twice())["answered_by"] == "coder"
    assert record(Instead(None))["answered_by"] == "coder"


class Moderated(AgentMiddleware):
    """Asks another model whether the answer may go out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def wrap_model_call(self, request, handler):
        response = handler(request)
        self.model.invoke(response.result[-1].text)
        return response


def test_another_model_beside_the_expert_takes_nothing_from_it(router, kit):
    moderator = kit.Whole(label="moderator")
    middleware = [TryageMiddleware(router, kit.experts(kit.Whole)), Moderated(moderator)]
    agent = create_agent(kit.Whole(label="own"), [], middleware=middleware)
    record = agent.invoke(state_of(kit.code))["tryage"]
    assert (record["answered_by"], record["tried"][0]["error"]) == ("coder", None)
    assert len(moderator.calls) == 1
