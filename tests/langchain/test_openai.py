"""`ChatOpenAI` as an expert, against a real HTTP server: slow, failing, busy, cut off."""

import asyncio
import threading

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.tools import tool

from langchain_tryage import ChatTryage, TryageRouter
from tryage.errors import DispatchError
from tryage.testing import FakeOpenAI

openai = pytest.importorskip("openai", reason="needs langchain-openai")
from langchain_openai import ChatOpenAI  # noqa: E402

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]


@tool
def alpha_count(number: int) -> int:
    """Count alphas."""
    return number + 1


@pytest.fixture(scope="module")
def server():
    with FakeOpenAI() as running:
        yield running


@pytest.fixture
async def chat(server, router):
    """Make a ChatTryage of three of the server's models, by what each does."""
    # Clients of their own: LangChain's are shared by all models, across event loops.
    client, aclient = openai.DefaultHttpxClient(), openai.DefaultAsyncHttpxClient()

    def make(coder="ok", giant="ok", writer="ok", kind=ChatTryage, **options):
        experts = {
            name: ChatOpenAI(
                model=f"{name}-{what}",
                base_url=server.url,
                api_key="sk-test-0123456789",
                max_retries=0,
                timeout=0.5 if what == "hang" else 30,
                stream_usage=True,
                http_client=client,
                http_async_client=aclient,
            )
            for name, what in {"coder": coder, "giant": giant, "writer": writer}.items()
        }
        return kind(router, experts, **options)

    yield make
    client.close()
    await aclient.aclose()


async def every_way(model, input):
    chunks = list(model.stream(input))
    achunks = [chunk async for chunk in model.astream(input)]
    return [
        model.invoke(input),
        await model.ainvoke(input),
        sum(chunks[1:], chunks[0]),
        sum(achunks[1:], achunks[0]),
    ]


async def test_it_answers_with_its_own_name_and_usage(chat, kit):
    model = chat()
    with get_usage_metadata_callback() as usage:
        messages = await every_way(model, kit.code)
    for message in messages:
        assert message.content == f"coder-ok says {kit.code}"
        assert message.response_metadata["model_name"] == "coder-ok"
        assert message.response_metadata["tryage"]["answered_by"] == "coder"
    total = sum(message.usage_metadata["total_tokens"] for message in messages)
    assert usage.usage_metadata["coder-ok"]["total_tokens"] == total


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("hang", "timed out"),
        ("fail", "500 - "),
        ("busy", "429 - "),
        ("drop", "Connection error"),
    ],
)
async def test_the_next_expert_takes_over(chat, kit, fault, error):
    for message in await every_way(chat(coder=fault), kit.code):
        assert message.content == f"giant-ok says {kit.code}"
        decision = message.response_metadata["tryage"]
        assert (decision["expert"], decision["answered_by"]) == ("coder", "giant")
        assert error in decision["tried"][0]["error"]
        assert "sk-test" not in repr(decision)


async def test_a_stream_cut_off_is_an_error_and_a_whole_answer_fails_over(chat, kit):
    model = chat(coder="sever")
    stream = model.stream(kit.code)
    assert next(stream).content in ("", "coder-sever")
    with pytest.raises(Exception, match=r"incomplete|peer closed|Connection error") as caught:
        list(stream)
    assert not isinstance(caught.value, DispatchError)
    astream = model.astream(kit.code)
    await anext(astream)
    with pytest.raises(Exception, match=r"incomplete|peer closed|Connection error"):
        [chunk async for chunk in astream]
    assert model.invoke(kit.code).content == f"giant-ok says {kit.code}"
    assert (await model.ainvoke(kit.code)).content == f"giant-ok says {kit.code}"


async def test_all_down_lists_what_was_tried(chat, kit):
    model = chat(coder="fail", giant="busy", writer="drop")
    for call in (model.invoke, lambda text: list(model.stream(text))):
        with pytest.raises(DispatchError, match="each of the 3") as caught:
            await asyncio.to_thread(call, kit.code)
        for attempt, error in zip(caught.value.tried, ("500", "429", "Connection"), strict=True):
            assert error in attempt.error
    with pytest.raises(DispatchError):
        await model.ainvoke(kit.code)


async def test_tools_go_through_openai_s_own_form(chat, kit, server):
    model = chat().bind_tools([alpha_count], tool_choice="any", parallel_tool_calls=False)
    for message in await every_way(model, kit.code):
        (call,) = message.tool_calls
        assert alpha_count.invoke(call).content == "8"
    sent = server.requests[-1]
    assert sent["tool_choice"] == "required"
    assert sent["parallel_tool_calls"] is False
    assert "tryage" not in sent


async def test_tryage_router_over_the_same_server(chat, kit):
    runnable = chat(coder="busy", kind=TryageRouter)
    assert runnable.invoke(kit.code).content == f"giant-ok says {kit.code}"
    answers = await runnable.abatch([kit.code, kit.prose])
    assert [a.content for a in answers] == [
        f"giant-ok says {kit.code}",
        f"writer-ok says {kit.prose}",
    ]


async def test_a_string_makes_a_chat_openai(router, kit, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    model = ChatTryage(router, {"coder": "openai:coder-ok", "giant": "openai:giant-ok"})
    assert model.invoke(kit.code).content == f"coder-ok says {kit.code}"
    assert "sk-test" not in repr(model)
    model._binding.experts["coder"].model.root_client.close()


async def test_cancelling_and_closing_leave_nothing_behind(chat, kit):
    model = chat(coder="hang")
    before = set(threading.enumerate())
    task = asyncio.create_task(model.ainvoke(kit.code))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    astream = chat().astream(kit.code)
    await anext(astream)
    await astream.aclose()
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    left = set(threading.enumerate()) - before
    assert not [t for t in left if "tryage" in t.name]


async def test_refused_requests_open_no_circuit(chat, kit):
    model = chat(coder="refuse", breaker=True)
    for _ in range(2):
        for message in await every_way(model, kit.code):
            tried = message.response_metadata["tryage"]["tried"]
            assert "Error code: 400" in tried[0]["error"]
            assert tried[-1]["error"] is None
    assert model._binding.health.state("coder") == "closed"


async def test_half_a_surrogate_pair_opens_no_circuit(chat, kit):
    model = chat(breaker=True)
    for _ in range(6):
        with pytest.raises(DispatchError, match="surrogates not allowed"):
            model.invoke(f"{kit.code} \ud83d")
    assert model.invoke(kit.code).response_metadata["tryage"]["answered_by"] == "coder"
