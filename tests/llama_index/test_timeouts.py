"""Time-outs and the circuit breaker, through the constructors of both LLMs."""

import asyncio
import threading
import time

import pytest
from llama_index.core.base.llms.types import ChatMessage

from llama_index_tryage import TryageFunctionCallingLLM, TryageLLM
from tryage.dispatch import Breaker
from tryage.errors import DispatchError
from tryage.testing import Gate

KINDS = pytest.mark.parametrize("kind", [TryageLLM, TryageFunctionCallingLLM])


@pytest.fixture
def gate():
    """Holds calls that hang until the test is over."""
    gate = Gate()
    yield gate
    gate.open()
    for thread in threading.enumerate():
        if thread.name.startswith("tryage-call"):
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def hanging(kit, gate):
    """LLMs of which the coder hangs in every one of the eight methods."""
    return kit.experts(coder={"gate": gate})


def left_behind(response):
    decision = response.additional_kwargs["tryage"]
    first, *_, last = decision["tried"]
    assert first["expert"] == "coder"
    assert "did not answer within 0.05 s" in first["error"]
    assert last["expert"] == decision["answered_by"] != "coder"
    return True


@KINDS
async def test_an_expert_that_hangs_is_left_in_all_eight_ways(kind, router, kit, hanging, gate):
    llm = kind(router, hanging, timeout=0.05)
    messages = [ChatMessage(kit.code)]
    assert left_behind(llm.chat(messages))
    assert left_behind(llm.complete(kit.code))
    assert left_behind(next(iter(llm.stream_chat(messages))))
    assert left_behind(next(iter(llm.stream_complete(kit.code))))
    assert left_behind(await llm.achat(messages))
    assert left_behind(await llm.acomplete(kit.code))
    for stream in (await llm.astream_chat(messages), await llm.astream_complete(kit.code)):
        first, *_ = [response async for response in stream]
        assert left_behind(first)
    assert gate.cancelled == 4  # the four awaited ways
    assert asyncio.all_tasks() == {asyncio.current_task()}


@KINDS
def test_the_time_for_all_experts_together_ends_the_call(kind, router, kit, hanging):
    llm = kind(router, dict.fromkeys(hanging, hanging["coder"]), total_timeout=0.05)
    with pytest.raises(DispatchError, match=r"0\.05 s for the whole dispatch are over"):
        llm.complete(kit.code)


@KINDS
def test_the_breaker_opens_half_opens_and_closes(kind, router, kit):
    experts = kit.experts(coder={"fault": ConnectionError("refused")})
    llm = kind(router, experts, breaker=Breaker(failures=2, seconds=0.2))

    def tried():
        return llm.complete(kit.code).additional_kwargs["tryage"]["tried"][0]["error"]

    assert "refused" in tried()
    assert "refused" in tried()
    assert "left alone" in tried()
    time.sleep(0.3)
    llm.experts["coder"].fault = None
    assert tried() is None
    assert tried() is None


@KINDS
def test_assigned_time_outs_act(kind, router, kit, hanging):
    llm = kind(router, hanging)
    llm.timeout = 0.05
    assert left_behind(llm.complete(kit.code))


@KINDS
@pytest.mark.parametrize("option", ["timeout", "total_timeout"])
def test_a_time_out_of_nothing_is_refused(kind, option, router, kit):
    with pytest.raises(ValueError, match=rf"{option} is 0; it is above 0 seconds"):
        kind(router, kit.experts(), **{option: 0})
