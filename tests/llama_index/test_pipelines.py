"""The LLM over a local pipeline: both tasks, all eight ways, streams that end when closed."""

import threading

import pytest
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

from llama_index_tryage.pipelines import TryagePipeline
from tryage import Expert, Library
from tryage.errors import ModelNotFoundError, PromptError
from tryage.runtime import Runtime

TEXT = "The quiet river follows the"
MARKED = "The quiet [MASK] follows the garden."


@pytest.fixture(scope="session")
def runtime(tiny_library):
    return Runtime(Library.read(tiny_library))


@pytest.fixture(autouse=True)
def _no_thread_left():
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("tryage-stream")]


async def every_way(llm, text, **kwargs):
    """The last response of each way."""
    messages = [ChatMessage(text)]
    return [
        llm.complete(text, **kwargs).text,
        llm.chat(messages, **kwargs).message.content,
        list(llm.stream_complete(text, **kwargs))[-1].text,
        list(llm.stream_chat(messages, **kwargs))[-1].message.content,
        (await llm.acomplete(text, **kwargs)).text,
        (await llm.achat(messages, **kwargs)).message.content,
        [r async for r in await llm.astream_complete(text, **kwargs)][-1].text,
        [r async for r in await llm.astream_chat(messages, **kwargs)][-1].message.content,
    ]


async def test_every_way_gives_the_same_answer(runtime):
    llm = TryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=6)
    (text,) = set(await every_way(llm, TEXT))
    assert text
    assert not text.startswith(TEXT)
    (filled,) = set(await every_way(TryagePipeline(runtime=runtime, expert="prose-bert"), MARKED))
    assert filled.startswith("The quiet ")
    assert "[MASK]" not in filled


def test_streams_piece_by_piece_and_tells_usage_last(runtime):
    llm = TryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=6)
    responses = list(llm.stream_complete(TEXT))
    assert "".join(response.delta for response in responses) == responses[-1].text
    assert responses[-1].raw["usage"]["completion_tokens"] <= 6
    assert responses[-1].raw["finish_reason"] in ("stop", "length")


async def test_stop_may_be_given_once_for_all_calls_and_what_a_call_says_wins(runtime):
    whole = TryagePipeline(runtime=runtime, expert="prose-gpt", max_tokens=9)
    text = whole.complete(TEXT).text
    mark, later = text[3:6], text[12:15]
    for stop in (mark, [mark], (mark,)):
        llm = TryagePipeline(runtime=runtime, expert="prose-gpt", max_tokens=9, stop=stop)
        assert set(await every_way(llm, TEXT)) == {text.partition(mark)[0]}
        assert set(await every_way(llm, TEXT, stop=[later])) == {text.partition(later)[0]}
        assert set(await every_way(llm, TEXT, stop=later)) == {text.partition(later)[0]}
        assert llm.complete(TEXT, stop=[]).text == text
        assert llm.complete(TEXT, stop=None).text == text.partition(mark)[0]


def test_options_of_a_call(runtime):
    llm = TryagePipeline(runtime=runtime, expert="prose-gpt")
    text = llm.complete(TEXT, max_tokens=6).text
    assert llm.complete(TEXT, max_tokens=6, stop=[text[3:6]]).text == text[:3]
    with pytest.raises(TypeError, match="unexpected keyword argument 'tools'"):
        llm.complete(TEXT, tools=[])
    image = ImageBlock(url="https://example.org/a.png")
    with pytest.raises(PromptError, match="not a block of 'image'"):
        llm.chat([ChatMessage(blocks=[TextBlock(text=TEXT), image])])


def test_metadata_loads_nothing(tiny_library, tmp_path):
    runtime = Runtime(Library.read(tiny_library))
    windows = [
        TryagePipeline(runtime=runtime, expert=name).metadata.context_window
        for name in ("code-gpt", "prose-gpt")
    ]
    assert windows == [128, 128]
    states = {runtime.health(name).state for name in ("code-gpt", "prose-gpt")}
    assert states == {"not loaded"}
    absent = TryagePipeline.from_model(tmp_path / "absent")
    assert absent.metadata.context_window == 3900
    with pytest.raises(ModelNotFoundError, match="absent"):
        absent.complete("text")


@pytest.mark.parametrize("text", ["{", "[" * 10**5])
def test_a_config_that_cannot_be_read_tells_no_window(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    expert = Expert(name="odd", model=str(tmp_path), task="text-generation")
    pipeline = TryagePipeline(runtime=Runtime(Library([expert])), expert="odd")
    assert pipeline.metadata.context_window == 3900


def test_callbacks_count_its_tokens(runtime):
    counter = TokenCountingHandler(tokenizer=str.split)
    manager = CallbackManager([counter])
    llm = TryagePipeline(runtime=runtime, expert="prose-gpt", callback_manager=manager)
    usage = llm.complete(TEXT, max_tokens=4).raw["usage"]
    assert counter.total_llm_token_count == usage["total_tokens"]


async def test_a_closed_stream_ends_the_generation(runtime):
    llm = TryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=100)
    stream = llm.stream_complete(TEXT)
    next(stream)
    stream.close()
    assert llm.complete(TEXT, max_tokens=2).text


def picture():
    return ImageBlock(image=b"\x89PNG")


THOUGHT = ThinkingBlock(content="17 times 3 is 51")
CALL = ToolCallBlock(tool_name="search", tool_kwargs={"a": "ö"})
CACHE = CachePoint(cache_control=CacheControl(type="ephemeral"))
SOURCE = CitableBlock(title="t", source="s", content=[TextBlock(text="51")])
CITED = CitationBlock(
    cited_content=TextBlock(text="51"), source="s", title="t", additional_location_info={}
)


@pytest.mark.parametrize(
    ("blocks", "text"),
    [
        ([THOUGHT, TextBlock(text="51")], "51"),
        ([TextBlock(text="I look."), CALL], 'I look.\nsearch({"a": "ö"})'),
        ([ToolCallBlock(tool_name="search", tool_kwargs="")], "search()"),
        ([TextBlock(text="51"), CACHE], "51"),
        ([SOURCE], "51"),
        ([CITED, TextBlock(text="It is 51.")], "51\nIt is 51."),
        ([TextBlock(text="5"), TextBlock(text="1")], "5\n1"),
        ([], ""),
    ],
)
async def test_what_other_experts_wrote_is_read_as_text(runtime, monkeypatch, blocks, text):
    """A conversation goes on with a pipeline, whoever answered before."""
    sent = []
    llm = TryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=2)
    run = runtime.run

    def record_run(expert, prompt, **options):
        sent.append(prompt)
        return run(expert, prompt, **options)

    monkeypatch.setattr(runtime, "run", record_run)
    messages = [
        ChatMessage("What is 17 * 3?"),
        ChatMessage(role="assistant", blocks=blocks),
        ChatMessage(TEXT),
    ]
    assert llm.chat(messages).message.content
    assert sent[0][1] == {"role": "assistant", "content": text}
    assert sent[0][2] == {"role": "user", "content": TEXT}


def test_a_picture_inside_a_citation_is_refused(runtime):
    llm = TryagePipeline(runtime=runtime, expert="prose-gpt")
    cited = CitationBlock(
        cited_content=picture(), source="s", title="t", additional_location_info={}
    )
    with pytest.raises(PromptError, match="reads text, not a block of 'image'"):
        llm.chat([ChatMessage(role="assistant", blocks=[cited]), ChatMessage(TEXT)])


def test_a_template_without_a_system_role_gets_what_the_system_says(tiny_library):
    runtime = Runtime(Library.read(tiny_library))
    llm = TryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=2)
    runtime.load("prose-gpt").tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m.role }}: {{ m.content }} {% endfor %}"
    )
    messages = [ChatMessage("Be brief.", role="system"), ChatMessage(TEXT)]
    joined = [ChatMessage(f"Be brief.\n\n{TEXT}")]
    assert llm.chat(messages).raw["usage"] == llm.chat(joined).raw["usage"]
