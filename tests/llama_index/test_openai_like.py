"""Experts behind an OpenAI-compatible server on loopback: real clients, slow, failing, cut off.

Needs a vendor's client, so it runs in an environment of its own: ``make test-openai-like``.
"""

import asyncio
import os
import threading

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from llama_index_tryage import TryageFunctionCallingLLM, TryageLLM
from tryage.dispatch import Breaker
from tryage.errors import DispatchError
from tryage.testing import FakeOpenAI

if not os.environ.get("TRYAGE_TEST_OPENAI_LIKE"):
    pytest.skip("needs an environment of its own: make test-openai-like", allow_module_level=True)

from llama_index.llms.openai_like import OpenAILike

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning"),
]

WAIT = 30


@pytest.fixture
def server():
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
async def experts(server):
    made = []

    def make(coder="fast", giant="fast", writer="fast", timeout=WAIT):
        ways = {"coder": coder, "giant": giant, "writer": writer}
        experts = {
            name: OpenAILike(
                model=f"{way}-{name}",
                api_base=server.url,
                api_key="sk-notasecret123",
                is_chat_model=True,
                is_function_calling_model=True,
                max_retries=0,
                timeout=timeout,
            )
            for name, way in ways.items()
        }
        made.extend(experts.values())
        return experts

    yield make
    for expert in made:
        if expert._aclient is not None:
            await expert._aclient.close()
        if expert._client is not None:
            expert._client.close()


def memory():
    """Return a memory in memory: LlamaIndex's default leaves an open database behind."""
    return ChatMemoryBuffer.from_defaults()


def record_of(response):
    return response.additional_kwargs["tryage"]


async def every_way(llm, text):
    """The last response of all eight ways."""
    messages = [ChatMessage(text)]
    return [
        llm.chat(messages),
        llm.complete(text),
        list(llm.stream_chat(messages))[-1],
        list(llm.stream_complete(text))[-1],
        await llm.achat(messages),
        await llm.acomplete(text),
        [r async for r in await llm.astream_chat(messages)][-1],
        [r async for r in await llm.astream_complete(text)][-1],
    ]


def text_of(response):
    return response.message.content if hasattr(response, "message") else response.text


async def test_every_way(router, kit, experts):
    for response in await every_way(TryageLLM(router, experts()), kit.code):
        assert text_of(response) == f"fast-coder says {kit.code}"
        assert record_of(response)["answered_by"] == "coder"
        assert response.raw is not None
    response = TryageLLM(router, experts()).chat([ChatMessage(kit.code)])
    assert response.raw.usage.prompt_tokens == 5


@pytest.mark.parametrize(
    ("way", "error"),
    [("fail", "InternalServerError"), ("busy", "RateLimitError")],
)
async def test_a_server_that_refuses(router, kit, experts, way, error):
    for response in await every_way(TryageLLM(router, experts(coder=way)), kit.code):
        assert text_of(response).startswith("fast-giant says")
        assert (record_of(response)["expert"], record_of(response)["answered_by"]) == (
            "coder",
            "giant",
        )
        assert record_of(response)["tried"][0]["error"].startswith(error)


async def test_a_server_that_hangs_until_the_client_s_time_out(router, kit, experts):
    llm = TryageLLM(router, experts(coder="hang", timeout=0.3))
    for response in (
        llm.chat([ChatMessage(kit.code)]),
        await llm.achat([ChatMessage(kit.code)]),
        list(llm.stream_chat([ChatMessage(kit.code)]))[-1],
    ):
        assert record_of(response)["answered_by"] == "giant"
        assert record_of(response)["tried"][0]["error"].startswith("APITimeoutError")


async def test_a_server_that_hangs_until_the_router_s_time_out(router, kit, experts, server):
    llm = TryageLLM(router, experts(coder="hang"), timeout=0.5)
    for response in await every_way(llm, kit.code):
        assert record_of(response)["answered_by"] == "giant"
        error = "ExpertTimeoutError: coder did not answer within 0.5 s"
        assert record_of(response)["tried"][0]["error"] == error
    assert asyncio.all_tasks() == {asyncio.current_task()}
    server.release()
    for thread in threading.enumerate():
        if thread.name.startswith("tryage-call"):
            await asyncio.to_thread(thread.join, WAIT)
            assert not thread.is_alive()


async def test_a_server_that_keeps_failing_is_left_alone(router, kit, experts, server):
    llm = TryageLLM(router, experts(coder="fail"), breaker=Breaker(failures=2, seconds=600))
    for response in await every_way(llm, kit.code):
        assert record_of(response)["answered_by"] == "giant"
    models = [models["model"] for models in server.requests]
    assert models.count("fail-coder") == 2
    assert models.count("fast-giant") == 8


async def test_an_answer_that_is_cut_off(router, kit, experts):
    llm = TryageLLM(router, experts(coder="sever"))
    for response in (llm.chat([ChatMessage(kit.code)]), await llm.acomplete(kit.code)):
        assert record_of(response)["answered_by"] == "giant"
    # What a reader has seen cannot be taken back, so a stream that dies is an error.
    stream = llm.stream_chat([ChatMessage(kit.code)])
    assert next(stream).delta == "sever-coder"
    with pytest.raises(Exception, match=r"incomplete|peer closed"):
        list(stream)
    astream = await llm.astream_chat([ChatMessage(kit.code)])
    assert (await anext(astream)).delta == "sever-coder"
    with pytest.raises(Exception, match=r"incomplete|peer closed"):
        [r async for r in astream]


async def test_all_down(router, kit, experts):
    llm = TryageLLM(router, experts("fail", "busy", "fail"))
    with pytest.raises(DispatchError, match="each of the 3 experts") as caught:
        await llm.achat([ChatMessage(kit.code)])
    assert "sk-notasecret123" not in str(caught.value)


async def test_slow_servers_are_waited_for_side_by_side(router, kit, experts, server):
    llm = TryageLLM(router, experts(coder="wait"))
    calls = [asyncio.create_task(llm.achat([ChatMessage(kit.code)])) for _ in range(20)]
    while len(server.requests) < 20:
        await asyncio.sleep(0.01)
    server.release()
    responses = await asyncio.gather(*calls)
    assert {record_of(response)["answered_by"] for response in responses} == {"coder"}


async def test_a_cancelled_call_leaves_no_task_and_asks_nobody_else(router, kit, experts, server):
    llm = TryageLLM(router, experts(coder="hang"))
    before = asyncio.all_tasks()
    call = asyncio.create_task(llm.achat([ChatMessage(kit.code)]))
    async with asyncio.timeout(30):
        while not server.requests:
            await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert asyncio.all_tasks() == before
    assert [body["model"] for body in server.requests] == ["hang-coder"]


class Sum(BaseModel):
    """Two numbers."""

    a: int
    b: int


async def test_tools_and_structured_output(router, kit, experts, server):
    def multiply(a: int, b: int) -> int:
        """Multiply two numbers."""
        return a * b

    llm = TryageFunctionCallingLLM(router, experts(coder="fail"))
    for streaming in (True, False):
        agent = FunctionAgent(tools=[multiply], llm=llm, streaming=streaming)
        assert str(await agent.run(kit.code, memory=memory())) == "fast-giant says 49"
    assert server.requests[0]["tools"][0]["function"]["name"] == "multiply"
    prompt = PromptTemplate("{text}")
    assert llm.structured_predict(Sum, prompt, text=kit.code) == Sum(a=7, b=7)
    assert await llm.astructured_predict(Sum, prompt, text=kit.code) == Sum(a=7, b=7)


def test_an_image_is_passed_through(router, kit, experts, server):
    image = ImageBlock(url="https://example.org/a.png")
    message = ChatMessage(blocks=[TextBlock(text=kit.code), image])
    response = TryageLLM(router, experts()).chat([message])
    assert response.message.content == f"fast-coder says {kit.code} and image_url"
    parts = server.requests[0]["messages"][0]["content"]
    assert parts[1]["image_url"]["url"] == "https://example.org/a.png"
