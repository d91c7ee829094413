"""Callbacks and events of a stream equal those of a direct call, whether or not experts stream."""

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser

from langchain_tryage import ChatTryage, TryageLLM, TryageRouter
from langchain_tryage.testing import (
    ScriptedChat,
    ScriptedText,
    ScriptedWholeChat,
    ScriptedWholeText,
)


class Heard(BaseCallbackHandler):
    """What a callback hears of a model's run, in order."""

    def __init__(self):
        self.events = []

    def on_chat_model_start(self, *args, **kwargs):
        self.events.append("start")

    on_llm_start = on_chat_model_start

    def on_llm_new_token(self, token, **kwargs):
        self.events.append(("token", token))

    def on_llm_end(self, response, **kwargs):
        self.events.append(("end", response.generations[0][0].text))


class ReportingText(ScriptedText):
    """Reports its tokens, as vendors' text models do; LangChain leaves it to them."""

    def _stream(self, prompt, stop=None, run_manager=None, **kwargs):
        for chunk in super()._stream(prompt, stop, **kwargs):
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(self, prompt, stop=None, run_manager=None, **kwargs):
        for chunk in super()._stream(prompt, stop, **kwargs):
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


async def heard_in_every_way(model, text):
    """Way of calling → what was heard."""
    heard = {}

    def config(way):
        heard[way] = Heard()
        return {"callbacks": [heard[way]]}

    pieces = list(model.stream(text, config("stream")))
    assert pieces
    async for _ in model.astream(text, config("astream")):
        pass
    model.invoke(text, config("invoke"))
    await model.ainvoke(text, config("ainvoke"))
    model.batch([text], config("batch"))
    chain = model | StrOutputParser()
    list(chain.stream(text, config("stream in a chain")))
    async for _ in chain.astream(text, config("astream in a chain")):
        pass
    events = [e["event"] async for e in model.astream_events(text, version="v2")]
    in_chain = [e["event"] async for e in chain.astream_events(text, version="v2")]
    names = [e for e in in_chain if "model" in e or "llm" in e]
    return {way: one.events for way, one in heard.items()} | {"v2": events, "v2 chain": names}


@pytest.mark.parametrize(
    ("own", "kind"),
    [
        (ChatTryage, ScriptedChat),
        (ChatTryage, ScriptedWholeChat),
        (TryageLLM, ReportingText),
        (TryageLLM, ScriptedWholeText),
    ],
)
async def test_events_are_those_of_a_direct_call(router, kit, own, kind):
    routed = own(router, {"coder": kind(label="coder")})
    direct = await heard_in_every_way(kind(label="coder"), kit.code)
    assert await heard_in_every_way(routed, kit.code) == direct


async def test_a_whole_answer_is_the_one_chunk_of_a_stream(router, kit):
    model = ChatTryage(router, {"coder": ScriptedWholeChat(label="coder")})
    chunks = [*model.stream(kit.code), *[chunk async for chunk in model.astream(kit.code)]]
    assert len(chunks) == 2
    for chunk in chunks:
        assert isinstance(chunk, AIMessageChunk)
        assert chunk.text.startswith("coder says")
        assert chunk.chunk_position == "last"
        assert chunk.response_metadata["tryage"]["answered_by"] == "coder"


async def test_who_answers_after_a_whole_expert_failed_is_heard_too(router, kit):
    experts = {
        "coder": ScriptedWholeChat(label="coder", fault=ConnectionError("down")),
        "writer": ScriptedChat(label="writer"),
        "giant": ScriptedChat(label="giant"),
    }
    heard = Heard()
    chunks = list(ChatTryage(router, experts).stream(kit.code, {"callbacks": [heard]}))
    text = "".join(chunk.text for chunk in chunks)
    assert heard.events[0] == "start"
    assert heard.events[-1] == ("end", text)
    assert text.startswith("giant says")


async def test_an_expert_of_a_runnable_router_is_heard_as_itself(router, kit):
    whole = ScriptedWholeChat(label="coder")
    direct = await heard_in_every_way(whole, kit.code)
    routed = await heard_in_every_way(TryageRouter(router, {"coder": whole}), kit.code)
    for way in ("stream", "astream", "invoke", "ainvoke", "batch"):
        assert routed[way] == direct[way]
