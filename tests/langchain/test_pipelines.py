"""Models over local pipelines: text and chat, both tasks, streams that end when closed."""

import asyncio
import threading

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tryage.pipelines import ChatTryagePipeline, TryagePipeline
from tryage import Expert, Library
from tryage.errors import ExpertError, ModelNotFoundError, PromptError
from tryage.runtime import Runtime

TEXT = "The quiet river follows the"
MARKED = "The quiet [MASK] follows the garden."


@pytest.fixture(scope="session")
def runtime(tiny_library):
    return Runtime(Library.read(tiny_library))


@pytest.fixture(autouse=True)
def _no_thread_left():
    before = {t for t in threading.enumerate() if t.name.startswith("tryage-stream")}
    yield
    after = {t for t in threading.enumerate() if t.name.startswith("tryage-stream")}
    assert after <= before


async def test_text_model(runtime):
    model = TryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=6)
    text = model.invoke(TEXT)
    assert text
    assert not text.startswith(TEXT)
    assert await model.ainvoke(TEXT) == text
    assert "".join(model.stream(TEXT)) == text
    assert "".join([piece async for piece in model.astream(TEXT)]) == text
    result = model.generate([TEXT, TEXT])
    usage = result.llm_output["token_usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] == 12
    assert result.llm_output["model_name"].endswith("prose-gpt")


@pytest.mark.parametrize("kind", [TryagePipeline, ChatTryagePipeline])
async def test_callbacks_are_told_every_token_of_a_stream_once(runtime, kit, kind):
    model = kind(runtime=runtime, expert="prose-gpt", max_new_tokens=6)
    whole, chunked = kit.Recorder(), kit.Recorder()
    text = [piece for piece in model.stream(TEXT, {"callbacks": [whole]})]
    pieces = [getattr(piece, "text", piece) for piece in text]
    assert [token for token in whole.tokens if token] == [piece for piece in pieces if piece]
    assert [piece async for piece in model.astream(TEXT, {"callbacks": [chunked]})]
    assert chunked.tokens == whole.tokens


async def test_text_model_fills_masks(runtime):
    model = TryagePipeline(runtime=runtime, expert="prose-bert")
    text = model.invoke(MARKED)
    assert "[MASK]" not in text
    assert text.startswith("The quiet ")
    assert "".join(model.stream(MARKED)) == text
    assert await model.ainvoke(MARKED) == text
    assert "".join([piece async for piece in model.astream(MARKED)]) == text


async def test_chat_model(runtime):
    model = ChatTryagePipeline(runtime=runtime, expert="prose-gpt")
    message = model.invoke(TEXT, max_tokens=6)
    assert message.usage_metadata["output_tokens"] <= 6
    assert message.response_metadata["finish_reason"] in ("stop", "length")
    assert message.response_metadata["model_name"].endswith("prose-gpt")
    assert (await model.ainvoke(TEXT, max_tokens=6)).content == message.content
    chunks = [chunk async for chunk in model.astream(TEXT, max_tokens=6)]
    whole = sum(chunks[1:], chunks[0])
    assert whole.content == message.content
    assert whole.usage_metadata == message.usage_metadata
    cut = model.invoke(TEXT, stop=[message.content[3:6]])
    assert cut.content == message.content[:3]


async def test_chat_model_fills_the_last_human_message(runtime):
    model = ChatTryagePipeline(runtime=runtime, expert="prose-bert")
    messages = [SystemMessage("Fill."), HumanMessage(MARKED)]
    message = model.invoke(messages)
    assert message.content.startswith("The quiet ")
    assert (await model.ainvoke(messages)).content == message.content
    chunks = list(model.stream(messages))
    assert [chunk.content for chunk in chunks] == [message.content, ""]


def test_tokens_are_counted_by_its_own_tokenizer(runtime):
    tokenizer = runtime.load("prose-gpt").tokenizer
    for kind in (TryagePipeline, ChatTryagePipeline):
        model = kind(runtime=runtime, expert="prose-gpt")
        assert model.get_token_ids(TEXT) == tokenizer(TEXT, add_special_tokens=False)["input_ids"]
        assert model.get_num_tokens(TEXT) == len(model.get_token_ids(TEXT)) > 0
    served = Expert(
        name="far", model="far", endpoint={"url": "http://127.0.0.1:9/v1", "model": "x"}
    )
    far = ChatTryagePipeline(runtime=Runtime(Library([served])), expert="far")
    with pytest.raises(ExpertError, match="custom_get_token_ids="):
        far.get_num_tokens(TEXT)


def test_one_model_without_a_library(tiny_causal, tmp_path):
    model = ChatTryagePipeline.from_model(tiny_causal, max_new_tokens=3)
    assert model.invoke("def alpha").usage_metadata["output_tokens"] <= 3
    absent = TryagePipeline.from_model(tmp_path / "absent")
    with pytest.raises(ModelNotFoundError, match="absent"):
        absent.invoke("text")


def test_what_a_pipeline_cannot_do_is_refused(runtime):
    model = ChatTryagePipeline(runtime=runtime, expert="prose-gpt")
    with pytest.raises(TypeError, match="unexpected keyword argument 'tools'"):
        model.invoke(TEXT, tools=[])
    image = {"type": "image_url", "image_url": {"url": "u"}}
    with pytest.raises(PromptError, match="image_url"):
        model.invoke([HumanMessage([{"type": "text", "text": TEXT}, image])])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "51"}], "51"),
        ([{"type": "reasoning", "content": [{"text": "hm"}]}, "51"], "51"),
        ([{"type": "tool_use", "id": "1", "name": "add", "input": {}}], ""),
        ([{"type": "text", "text": "51"}, {"cachePoint": {"type": "default"}}], "51"),
        ([{"type": "web_search_call", "id": "1"}, {"type": "text", "text": "5"}, "1"], "5\n1"),
    ],
)
async def test_a_history_of_thoughts_and_calls_is_read(runtime, monkeypatch, content, expected):
    prompts = []
    run, arun = type(runtime).run, type(runtime).arun

    def keep(self, name, prompt, **options):
        prompts.append(prompt)
        return run(self, name, prompt, **options)

    async def akeep(self, name, prompt, **options):
        prompts.append(prompt)
        return await arun(self, name, prompt, **options)

    monkeypatch.setattr(type(runtime), "run", keep)
    monkeypatch.setattr(type(runtime), "arun", akeep)
    call = {"name": "add", "args": {"a": 2, "b": "é"}, "id": "1", "type": "tool_call"}
    odd = {"name": "sub", "args": '{"a', "id": "2", "error": None, "type": "invalid_tool_call"}
    messages = [
        HumanMessage("What is 17 * 3?"),
        AIMessage(content, tool_calls=[call], invalid_tool_calls=[odd]),
        ToolMessage([{"type": "text", "text": "19"}], tool_call_id="1"),
        HumanMessage(["And ", {"type": "document", "source": {"type": "text", "content": "18"}}]),
    ]
    model = ChatTryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=2)
    model.invoke(messages)
    await model.ainvoke(messages)
    written = 'add({"a": 2, "b": "é"})\nsub({"a)'
    assert prompts == 2 * [
        [
            {"role": "user", "content": "What is 17 * 3?"},
            {"role": "assistant", "content": f"{expected}\n{written}".lstrip()},
            {"role": "tool", "content": "19"},
            {"role": "user", "content": "And \n18"},
        ]
    ]


def test_what_is_no_text_is_refused_wherever_it_stands(runtime):
    model = ChatTryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=2)
    picture = {"type": "image", "url": "https://example.org/a.png"}
    nested = {"type": "tool_result", "tool_use_id": "1", "content": [picture]}
    for message in (
        AIMessage([picture]),
        HumanMessage([nested]),
        ToolMessage([picture], tool_call_id="1"),
    ):
        with pytest.raises(PromptError, match="'image'"):
            model.invoke([message, HumanMessage(TEXT)])
    with pytest.raises(PromptError, match="'odd'"):
        model.invoke([HumanMessage([{"type": "odd", "value": 1}]), HumanMessage(TEXT)])


async def test_a_closed_stream_ends_the_generation(runtime):
    model = ChatTryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=100)
    chunks = model.stream(TEXT)
    next(chunks)
    chunks.close()
    achunks = model.astream(TEXT)
    await anext(achunks)
    await achunks.aclose()
    await asyncio.sleep(0)
    assert model.invoke(TEXT, max_tokens=2).content
