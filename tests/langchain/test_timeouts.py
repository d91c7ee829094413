"""Time-outs and the circuit breaker, through the constructors of everything that dispatches."""

import asyncio
import threading
import time

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import HumanMessage

from langchain_tryage import ChatTryage, TryageLLM, TryageMiddleware, TryageRouter
from tryage.dispatch import Breaker
from tryage.errors import DispatchError
from tryage.testing import Gate


@pytest.fixture
def hang():
    hang = Gate()
    yield hang
    hang.open()
    for thread in threading.enumerate():
        if thread.name.startswith("tryage-call"):
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def hanging(kit, hang):
    """Chat models of which the coder hangs, before its first chunk too."""

    return kit.experts() | {"coder": kit.Streaming(label="coder", gate=hang)}


def left_behind(message, name="coder"):
    decision = message.response_metadata["tryage"]
    first, *_, last = decision["tried"]
    assert first["expert"] == name
    assert "did not answer within 0.05 s" in first["error"]
    assert last["expert"] == decision["answered_by"] != name
    return True


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
def test_an_expert_that_hangs_is_left_and_the_next_answers(kind, router, kit, hanging):
    model = kind(router, hanging, timeout=0.05)
    assert left_behind(model.invoke([HumanMessage(kit.code)]))
    first, *_ = model.stream([HumanMessage(kit.code)])
    assert left_behind(first)


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
async def test_an_awaited_expert_that_hangs_is_cancelled(kind, router, kit, hanging, hang):
    model = kind(router, hanging, timeout=0.05)
    assert left_behind(await model.ainvoke([HumanMessage(kit.code)]))
    chunks = [chunk async for chunk in model.astream([HumanMessage(kit.code)])]
    assert left_behind(chunks[0])
    assert hang.cancelled == 2
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
def test_the_time_for_all_experts_together_ends_the_call(kind, router, kit, hanging):
    everybody = dict.fromkeys(hanging, hanging["coder"])
    model = kind(router, everybody, total_timeout=0.05)
    with pytest.raises(DispatchError, match=r"0\.05 s for the whole dispatch are over"):
        model.invoke([HumanMessage(kit.code)])


def test_a_text_model_that_hangs_is_left(router, kit, hang):
    experts = kit.experts(kit.WholeText, coder={"gate": hang})
    model = TryageLLM(router, experts, timeout=0.05)
    generation = model.generate([kit.code]).generations[0][0]
    decision = generation.generation_info["tryage"]
    assert generation.text == f"{decision['answered_by']} says {kit.code}"
    assert decision["tried"][0]["expert"] == "coder"


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
def test_the_breaker_opens_half_opens_and_closes(kind, router, kit):
    experts = kit.experts(coder={"fault": ConnectionError("refused")})
    model = kind(router, experts, breaker=Breaker(failures=2, seconds=0.2))

    def tried():
        tried = model.invoke([HumanMessage(kit.code)]).response_metadata["tryage"]["tried"]
        return tried[0]["error"]

    assert "refused" in tried()
    assert "refused" in tried()
    calls = len(experts["coder"].calls)
    assert "left alone" in tried()
    assert len(experts["coder"].calls) == calls
    time.sleep(0.3)
    experts["coder"].fault = None
    assert tried() is None
    assert tried() is None


def test_assigned_time_outs_act(router, kit, hanging):
    model = ChatTryage(router, hanging)
    model.timeout = 0.05
    assert left_behind(model.invoke(kit.code))


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter, TryageLLM])
@pytest.mark.parametrize("option", ["timeout", "total_timeout"])
def test_a_time_out_of_nothing_is_refused(kind, option, router, kit):
    models = {name: FakeListLLM(responses=[""]) for name in router.library.names}
    with pytest.raises(ValueError, match=rf"{option} is 0(\.0)?; it is above 0 seconds"):
        kind(router, kit.experts() if kind is ChatTryage else models, **{option: 0})


async def test_an_agent_leaves_a_model_that_hangs(router, kit, hanging, hang):
    left = TryageMiddleware(router, hanging, timeout=0.05)
    agent = create_agent(kit.Calling(label="own"), middleware=[left])
    state = {"messages": [HumanMessage(kit.code)]}
    assert left_behind(agent.invoke(state)["messages"][-1])
    assert left_behind((await agent.ainvoke(state))["messages"][-1])
    assert hang.cancelled == 1
