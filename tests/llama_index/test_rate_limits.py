"""Experts' own rate limiters: a wait is no failure, and nobody pays for a call given up."""

import asyncio
import copy
import threading
import time

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.rate_limiter import BaseRateLimiter

from llama_index_tryage import TryageLLM
from tryage.errors import DispatchError

SHORT = 0.4
WAIT = 0.7


class Slow(BaseRateLimiter):
    """Each turn comes after a while."""

    def __init__(self):
        self.tokens = []

    def acquire(self, num_tokens=0):
        time.sleep(WAIT)
        self.tokens.append(num_tokens)

    async def async_acquire(self, num_tokens=0):
        await asyncio.sleep(WAIT)
        self.tokens.append(num_tokens)


@pytest.mark.parametrize("handlers", [[], [TokenCountingHandler()]])
async def test_the_wait_for_a_turn_is_no_time_out(router, kit, handlers):
    expert = kit.Scripted(label="coder", rate_limiter=Slow())
    llm = TryageLLM(
        router, {"coder": expert}, timeout=SHORT, callback_manager=CallbackManager(handlers)
    )
    messages, template = [ChatMessage(kit.code)], PromptTemplate(kit.code.replace("{", "{{"))

    async def last(opened):
        return [chunk async for chunk in await opened][-1]

    answers = await asyncio.gather(
        asyncio.to_thread(llm.chat, messages),
        asyncio.to_thread(llm.complete, kit.code),
        asyncio.to_thread(lambda: list(llm.stream_chat(messages))[-1]),
        asyncio.to_thread(lambda: list(llm.stream_complete(kit.code))[-1]),
        llm.achat(messages),
        llm.acomplete(kit.code),
        last(llm.astream_chat(messages)),
        last(llm.astream_complete(kit.code)),
    )
    for answer in answers:
        record = answer.additional_kwargs["tryage"]
        assert (record["answered_by"], len(record["tried"])) == ("coder", 1)
    assert len(expert.rate_limiter.tokens) == len(expert._calls) == 8
    texts = await asyncio.gather(asyncio.to_thread(llm.predict, template), llm.apredict(template))
    assert [text.partition(" ")[0] for text in texts] == ["coder", "coder"]


async def test_a_wait_inside_a_nested_router_counts_nowhere(router, kit):
    expert = kit.Scripted(label="coder", rate_limiter=Slow())
    inner = TryageLLM(router, {"coder": expert}, timeout=SHORT, rate_limiter=Slow())
    llm = TryageLLM(router, {"coder": inner}, timeout=SHORT)
    messages = [ChatMessage(kit.code)]
    for answer in await asyncio.gather(asyncio.to_thread(llm.chat, messages), llm.achat(messages)):
        record = answer.additional_kwargs["tryage"]
        assert [len(record["tried"]), len(record["inner"]["tried"])] == [1, 1]
    assert [len(llm_.rate_limiter.tokens) for llm_ in (inner, expert)] == [2, 2]


async def test_a_call_given_up_while_it_waits_is_never_made(router, kit):
    expert = kit.Scripted(label="coder", rate_limiter=Slow())
    llm = TryageLLM(router, {"coder": expert}, timeout=SHORT, total_timeout=WAIT / 2)
    for call in (lambda: llm.chat([ChatMessage(kit.code)]), lambda: llm.complete(kit.code)):
        with pytest.raises(DispatchError, match="for the whole dispatch are over"):
            call()
    with pytest.raises(DispatchError, match="for the whole dispatch are over"):
        await llm.acomplete(kit.code)
    for thread in threading.enumerate():
        if thread.name == "tryage-call-coder":
            thread.join(10)
    assert expert._calls == []


def test_the_user_s_object_is_the_one_that_is_called(router, kit):
    expert = kit.Scripted(label="coder", rate_limiter=Slow())
    llm = TryageLLM(router, {"coder": expert}, timeout=SHORT)
    before = expert.rate_limiter
    assert llm.complete(kit.code).text.startswith("coder")
    assert (len(expert._calls), expert.rate_limiter) == (1, before)
    copied = copy.deepcopy(llm)
    assert copied.complete(kit.code).text.startswith("coder")
    assert len(expert._calls) == 1
