"""Flags that an outer router reads hold for every decision that its call causes."""

import asyncio

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.prompts import ChatPromptTemplate
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage

import langchain_tryage
import llama_index_tryage
from langchain_tryage import ChatTryage, TryageFlags, TryageRouter
from langchain_tryage.middleware import TryageMiddleware
from langchain_tryage.testing import ScriptedChat, ScriptedText, ScriptedWholeChat
from llama_index_tryage.testing import ScriptedLLM
from tryage.errors import DispatchError, NoEligibleExpertError

CODE = "def alpha_count(total, count=3):\n    return total\n"
FLAGGED = f"{CODE} [Flag: size=2]"
LIMITED = f"{CODE} [Flag: parameters<=7B]"


def of(kind, router):
    return {name: kind(label=name) for name in router.library.names}


def own_text(value):
    """The last text of an input, as an operator's function reads it."""
    return value if isinstance(value, str) else value[-1].text


def chat_record(message):
    return message.response_metadata["tryage"]


FLAGS_FROM = ["last_message", own_text]


def nested_chats(router, flags_from):
    inner_chat = ChatTryage(router, of(ScriptedChat, router))
    inner_router = TryageRouter(router, of(ScriptedWholeChat, router))
    template = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{text}")])
    chain = (lambda text: {"text": own_text(text)}) | template | inner_chat
    for outer, inner in (
        (ChatTryage, inner_chat),
        (TryageRouter, inner_chat),
        (TryageRouter, inner_router),
        (TryageRouter, chain),
    ):
        yield outer(router, dict.fromkeys(router.library.names, inner), flags_from=flags_from)


@pytest.mark.parametrize("flags_from", FLAGS_FROM)
async def test_langchain_routers_inside_obey(router, flags_from):
    assert router.route(CODE).expert == "coder"
    for model in nested_chats(router, flags_from):
        messages = [
            model.invoke(FLAGGED),
            await model.ainvoke(FLAGGED),
            *model.batch([FLAGGED]),
            *await model.abatch([FLAGGED]),
        ]
        for chunks in (
            list(model.stream(FLAGGED)),
            [chunk async for chunk in model.astream(FLAGGED)],
        ):
            messages.append(sum(chunks[1:], chunks[0]))
        for message in messages:
            record = chat_record(message)
            assert record["expert"] == record["inner"]["expert"] == "writer"
            assert record["inner"]["flags"] == record["flags"]
        plain = chat_record(model.invoke(CODE))
        assert (plain["inner"]["expert"], plain["inner"]["flags"]) == ("coder", [])


async def test_rows_of_a_batch_pass_on_their_own_flags(router):
    outer = {
        "chat": TryageRouter(
            router,
            dict.fromkeys(router.library.names, ChatTryage(router, of(ScriptedChat, router))),
            flags_from="last_message",
        ),
        "text": langchain_tryage.TryageLLM(
            router,
            dict.fromkeys(
                router.library.names, langchain_tryage.TryageLLM(router, of(ScriptedText, router))
            ),
            flags_from="last_message",
        ),
    }
    texts = [FLAGGED, CODE, LIMITED, FLAGGED]
    for answers in (outer["chat"].batch(texts), await outer["chat"].abatch(texts)):
        records = [chat_record(answer) for answer in answers]
        assert [record["inner"]["expert"] for record in records] == [
            "writer",
            "coder",
            "coder",
            "writer",
        ]
        assert [len(record["inner"]["flags"]) for record in records] == [1, 0, 1, 1]
    model = outer["text"]
    for result in (model.generate(texts), await model.agenerate(texts)):
        inner = [row[0].generation_info["tryage"]["inner"] for row in result.generations]
        assert [record["expert"] for record in inner] == ["writer", "coder", "coder", "writer"]


async def test_limits_hold_inside_too(router):
    inner = ChatTryage(router, {"giant": ScriptedChat(label="giant")})
    model = TryageRouter(
        router, dict.fromkeys(("coder", "giant"), inner), flags_from="last_message"
    )
    with pytest.raises((DispatchError, NoEligibleExpertError), match="'made-up' may answer"):
        model.invoke(LIMITED)
    with pytest.raises((DispatchError, NoEligibleExpertError), match="'made-up' may answer"):
        await model.ainvoke(LIMITED)
    assert chat_record(model.invoke(CODE))["inner"]["expert"] == "giant"


async def test_flags_end_with_the_call(router):
    inner = ChatTryage(router, of(ScriptedChat, router))
    outer = TryageRouter(
        router, dict.fromkeys(router.library.names, inner), flags_from="last_message"
    )
    stream, astream = outer.stream(FLAGGED), outer.astream(FLAGGED)
    next(stream)
    await anext(astream)
    assert chat_record(inner.invoke(CODE))["expert"] == "coder"
    stream.close()
    await astream.aclose()
    results = await asyncio.gather(outer.ainvoke(FLAGGED), inner.ainvoke(CODE))
    assert [chat_record(result)["expert"] for result in results] == ["writer", "coder"]


def test_flags_of_an_outer_wrapper_and_of_a_router_inside_both_hold(router):
    inner = ChatTryage(router, of(ScriptedChat, router))
    outer = TryageRouter(
        router, dict.fromkeys(router.library.names, inner), flags_from="last_message"
    )
    record = chat_record(TryageFlags(outer).invoke(FLAGGED))
    assert record["flags"] == record["inner"]["flags"] != []


def test_an_agent_s_nested_model_obeys(router):
    inner = ChatTryage(router, of(ScriptedChat, router))
    middleware = TryageMiddleware(
        router, dict.fromkeys(router.library.names, inner), flags_from="last_message"
    )
    agent = create_agent(ScriptedChat(label="own"), [], middleware=[middleware])
    usage = UsageMetadataCallbackHandler()
    state = agent.invoke({"messages": [FLAGGED]}, {"callbacks": [usage]})
    record = chat_record(state["messages"][-1])
    assert record["expert"] == record["inner"]["expert"] == "writer"


@pytest.mark.parametrize("flags_from", ["last_message", lambda value: value[-1].content])
async def test_llama_index_llms_inside_obey(router, flags_from):
    inner = llama_index_tryage.TryageLLM(router, of(ScriptedLLM, router))
    llm = llama_index_tryage.TryageLLM(
        router, dict.fromkeys(router.library.names, inner), flags_from=flags_from
    )
    messages = [ChatMessage(FLAGGED)]
    answers = [
        llm.chat(messages),
        await llm.achat(messages),
        list(llm.stream_chat(messages))[-1],
        [chunk async for chunk in await llm.astream_chat(messages)][-1],
    ]
    if flags_from == "last_message":
        answers += [
            llm.complete(FLAGGED),
            await llm.acomplete(FLAGGED),
            list(llm.stream_complete(FLAGGED))[-1],
            [chunk async for chunk in await llm.astream_complete(FLAGGED)][-1],
        ]
        template = PromptTemplate("{text}")
        texts = [
            llm.predict(template, text=FLAGGED),
            await llm.apredict(template, text=FLAGGED),
            "".join(llm.stream(template, text=FLAGGED)),
            "".join([token async for token in await llm.astream(template, text=FLAGGED)]),
        ]
        assert {text.partition(" ")[0] for text in texts} == {"writer"}
    for answer in answers:
        record = answer.additional_kwargs["tryage"]
        assert record["expert"] == record["inner"]["expert"] == "writer"
        assert record["inner"]["flags"] == record["flags"]
    plain = llm.chat([ChatMessage(CODE)]).additional_kwargs["tryage"]
    assert (plain["inner"]["expert"], plain["inner"]["flags"]) == ("coder", [])
