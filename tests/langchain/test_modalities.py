"""Pictures, sounds, videos and documents go only to who reads them, in any vendor's form."""

import base64
from urllib.parse import quote

import pytest
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.runnables import ConfigurableField, RunnableLambda

from langchain_tryage import ChatTryage, TryageLLM, TryageRouter, TryageSelector
from langchain_tryage._message_texts import read_text
from langchain_tryage._sent import sent_tokens
from langchain_tryage.testing import ScriptedChat
from tryage import Decision, Library, Router
from tryage.errors import NoEligibleExpertError, PromptError

DATA = "data:application/pdf;base64,JVBE"
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

BLOCKS = [
    ("image", {"type": "image", "url": "https://example.org/a.png"}),
    ("image", {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}),
    ("image", {"type": "input_image", "image_url": "data:image/png;base64,"}),
    ("image", {"type": "image", "source": {"type": "base64", "media_type": "image/png"}}),
    ("image", {"image": {"format": "png", "source": {"bytes": b""}}}),
    ("image", {"type": "media", "mime_type": "image/png", "data": "x"}),
    ("image", {"inline_data": {"mime_type": "image/png", "data": "x"}}),
    ("image", {"type": "file", "mime_type": "image/png", "base64": "x"}),
    ("image", {"type": "tool_result", "content": [{"type": "image", "source": {}}]}),
    ("image", {"type": "document", "source": {"type": "content", "content": [{"type": "image"}]}}),
    ("audio", {"type": "audio", "base64": "x", "mime_type": "audio/wav"}),
    ("audio", {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}),
    ("audio", {"fileData": {"mimeType": "audio/mp3", "fileUri": "x"}}),
    ("video", {"type": "video", "url": "https://example.org/a.mp4"}),
    ("video", {"type": "video_url", "video_url": {"url": "https://example.org/a"}}),
    ("video", {"type": "media", "mime_type": "video/mp4", "file_uri": "gs://a"}),
    ("video", {"video": {"format": "mp4", "source": {}}}),
    ("pdf", {"type": "file", "base64": "x", "mime_type": "application/pdf"}),
    ("pdf", {"type": "file", "file": {"filename": "a.pdf", "file_data": DATA}}),
    ("pdf", {"type": "file", "file": {"file_id": "f1"}}),
    ("pdf", {"type": "file", "base64": "x", "mime_type": WORD}),
    ("pdf", {"type": "input_file", "file_id": "f1"}),
    ("pdf", {"type": "document", "source": {"type": "base64", "media_type": "application/pdf"}}),
    ("pdf", {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}}),
    ("pdf", {"type": "document_url", "document_url": "https://example.org/a.pdf?x=1"}),
    ("pdf", {"document": {"format": "pdf", "name": "x", "source": {"bytes": b""}}}),
    (None, {"type": "file", "url": "https://example.org/a", "mime_type": "text/plain"}),
    (None, {"type": "file", "url": "https://example.org/notes.md"}),
    (None, {"type": "file", "base64": "x", "mime_type": "application/json"}),
    (None, {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,x"}),
    (None, {"type": "text-plain", "text": "x", "mime_type": "text/plain"}),
    (None, {"type": "document", "source": {"type": "text", "media_type": "text/plain"}}),
    (None, {"document": {"format": "csv", "name": "x", "source": {"bytes": b""}}}),
    (None, {"type": "tool_use", "name": "image", "input": {}}),
    (None, {"cachePoint": {"type": "default"}}),
]


def reads(kit, name, *kinds):
    """A model that says of every kind whether it reads it."""
    profile = {f"{kind}_inputs": kind in kinds for kind in ("image", "audio", "video", "pdf")}
    return kit.Whole(label=name, profile=profile)


@pytest.mark.parametrize(("kind", "block"), BLOCKS)
def test_every_form_of_block_goes_to_who_reads_it(router, kit, kind, block):
    experts = {"coder": reads(kit, "coder"), "writer": reads(kit, "writer", kind)}
    messages = [HumanMessage([{"type": "text", "text": kit.code}, block])]
    for model in (ChatTryage(router, experts), TryageRouter(router, experts)):
        record = model.invoke(messages).response_metadata["tryage"]
        assert record["expert"] == ("coder" if kind is None else "writer")
        reasons = {row["expert"]: row.get("reason") for row in record["ranking"]}
        expected = (
            None if kind is None else f"the call holds {kind} content, which it does not read"
        )
        assert reasons["coder"] == expected


def test_what_a_tool_shows_counts_too(router, kit):
    experts = {"coder": reads(kit, "coder"), "writer": reads(kit, "writer", "image")}
    shown = ToolMessage([{"type": "image", "url": "https://example.org/a.png"}], tool_call_id="1")
    message = ChatTryage(router, experts).invoke([HumanMessage(kit.code), shown])
    assert message.response_metadata["tryage"]["answered_by"] == "writer"


IMAGE = {"type": "image", "url": "https://example.org/a.png"}


async def test_every_input_of_a_runnable_is_looked_at(router, kit):
    experts = {"coder": reads(kit, "coder"), "giant": reads(kit, "giant", "image").with_retry()}
    mixed = [{"type": "text", "text": kit.code}, IMAGE]
    messages = [HumanMessage(mixed)]
    whole = TryageRouter(router, experts)
    keyed = TryageRouter(router, experts, key="messages")
    by_function = TryageRouter(router, experts, text_from=lambda input: kit.code)
    for model, input in (
        (whole, messages),
        (whole, ChatPromptValue(messages=messages)),
        (whole, [("human", mixed)]),
        (keyed, {"messages": messages, "number": 7}),
        (by_function, messages),
    ):
        (batched,) = model.batch([input])
        streams = [*model.stream(input), *[chunk async for chunk in model.astream(input)]]
        for message in (model.invoke(input), batched, await model.ainvoke(input), *streams):
            assert message.response_metadata["tryage"]["answered_by"] == "giant"
    lambdas = {name: RunnableLambda(lambda _, name=name: name) for name in experts}
    assert TryageRouter(router, lambdas).invoke(messages[0]) == "coder"
    assert whole.invoke(kit.code).response_metadata["tryage"]["answered_by"] == "coder"


def stated(table, table_library, **kinds):
    """A router whose library says of some experts what they take."""
    rows = [e.model_dump() | {"modalities": kinds.get(e.name)} for e in table_library]
    return Router.fit(table, library=Library.from_dict({"name": "l", "experts": rows}))


def test_the_library_says_it_for_chains_and_selectors(table, table_library, kit):
    router = stated(table, table_library, coder=("text",), writer=("text", "document"))
    document = {"type": "file", "base64": "x", "mime_type": "application/pdf"}
    messages = [HumanMessage([{"type": "text", "text": kit.code}, document])]
    chains = {name: RunnableLambda(lambda _, name=name: name) for name in ("coder", "writer")}
    assert TryageRouter(router, chains).invoke(messages) == "writer"
    assert TryageSelector(router, list(chains), output="name").invoke(messages) == "writer"
    assert TryageSelector(router, output="name").batch([messages])[0] == "giant"
    with pytest.raises(NoEligibleExpertError, match="coder: the call holds pdf content"):
        TryageSelector(router, ["coder"]).invoke(messages)


def test_text_models_read_text_alone(router, kit):
    model = TryageLLM(router, {"coder": FakeListLLM(responses=["coder"])})
    assert model.invoke([HumanMessage(kit.code)]) == "coder"
    with pytest.raises(NoEligibleExpertError, match="coder: the call holds image content"):
        model.invoke([HumanMessage([{"type": "text", "text": kit.code}, IMAGE])])


async def test_what_holds_no_text_goes_to_the_best_on_average_that_reads_it(router, kit):
    alone = [HumanMessage([IMAGE])]
    best = router.route("[image]", flags=False)
    assert best.out_of_distribution
    for kind in (ChatTryage, TryageRouter):
        every = kind(router, kit.experts())
        record = every.invoke(alone).response_metadata["tryage"]
        assert (record["expert"], record["out_of_distribution"]) == (best.expert, True)
        others = {n: reads(kit, n, *(["image"] if n != best.expert else [])) for n in best.names}
        message = await kind(router, others).ainvoke(alone)
        assert message.response_metadata["tryage"]["answered_by"] == best.order[1]
    assert TryageSelector(router).invoke(alone).prompt == "[image]"
    with pytest.raises(PromptError, match="the prompt is empty"):
        TryageSelector(router).invoke([HumanMessage("")])


HELD = "def alpha_count(total, count=3):\n    return total\n"
ENCODED = base64.b64encode(HELD.encode()).decode()
TEXT_FILES = {
    "LangChain": {"type": "file", "base64": ENCODED, "mime_type": "text/plain"},
    "LangChain, JSON": {"type": "file", "base64": ENCODED, "mime_type": "application/json"},
    "plain": {"type": "text-plain", "text": HELD, "mime_type": "text/plain"},
    "plain, encoded": {"type": "text-plain", "base64": ENCODED, "mime_type": "text/plain"},
    "version 0": {
        "type": "file",
        "source_type": "base64",
        "data": ENCODED,
        "mime_type": "text/csv",
    },
    "OpenAI": {
        "type": "file",
        "file": {"filename": "a.txt", "file_data": f"data:text/plain;base64,{ENCODED}"},
    },
    "OpenAI, responses": {"type": "input_file", "filename": "a.md", "file_data": ENCODED},
    "Anthropic": {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": HELD},
    },
    "Anthropic, encoded": {
        "type": "document",
        "source": {"type": "base64", "media_type": "text/plain", "data": ENCODED},
    },
    "Anthropic, blocks": {
        "type": "document",
        "source": {"type": "content", "content": [{"type": "text", "text": HELD}]},
    },
    "Google": {"type": "media", "mime_type": "text/plain", "data": ENCODED},
    "Google, bytes": {"type": "media", "mime_type": "text/plain", "data": HELD.encode()},
    "Google, inline": {"inline_data": {"mime_type": "text/plain", "data": ENCODED}},
    "Google, camel case": {"inlineData": {"mimeType": "text/plain", "data": ENCODED}},
    "Bedrock": {"document": {"format": "txt", "name": "x", "source": {"bytes": HELD.encode()}}},
    "Bedrock, text": {"document": {"format": "txt", "name": "x", "source": {"text": HELD}}},
    "Mistral": {"type": "document_url", "document_url": f"data:text/plain;base64,{ENCODED}"},
    "address": {"type": "file", "url": f"data:text/plain,{quote(HELD)}"},
}
"""Form → a file of the same text."""


@pytest.mark.parametrize("form", TEXT_FILES)
def test_a_file_of_text_is_its_text_in_every_form(router, kit, form):
    file = TEXT_FILES[form]
    experts = {"coder": reads(kit, "coder"), "writer": reads(kit, "writer")}
    for model in (ChatTryage(router, experts), TryageSelector(router)):
        for before in ([], [SystemMessage("Be brief.")], [SystemMessage(kit.prose)]):
            answer = model.invoke([*before, HumanMessage([file])])
            if isinstance(answer, Decision):
                assert answer.prompt == HELD
            else:
                assert answer.response_metadata["tryage"]["expert"] == "coder"
    assert sent_tokens([HumanMessage([file])]) == sent_tokens(HELD)
    assert read_text(HumanMessage([{"type": "text", "text": "Look:"}, file])) == f"Look:\n{HELD}"
    both = TryageSelector(router, text_from="system_and_last")
    assert both.invoke([SystemMessage("Be brief."), HumanMessage([file])]).prompt == (
        f"Be brief.\n\n{HELD}"
    )


def test_a_file_of_text_counts_wherever_it_stands(kit):
    file = TEXT_FILES["LangChain"]
    inside = {"type": "tool_result", "content": [file]}
    assert sent_tokens([ToolMessage([file], tool_call_id="1")]) == sent_tokens(HELD)
    assert sent_tokens([HumanMessage([inside])]) > sent_tokens(HELD)
    assert sent_tokens([HumanMessage([inside])]) < sent_tokens(HELD) + 10
    assert sent_tokens([HumanMessage(content_blocks=[file])]) == sent_tokens(HELD)


@pytest.mark.parametrize(
    "block",
    [
        {"inlineData": {"mimeType": "image/png", "data": "A" * 4000}},
        {"type": "input_file", "filename": "a.pdf", "file_data": "A" * 4000},
        {"type": "image", "source": {"type": "base64", "data": "A" * 4000}},
        {"type": "image", "base64": "A" * 4000},
        {"type": "image_generation_call", "result": "A" * 4000},
        {"type": "file", "mime_type": "application/pdf", "base64": "A" * 4000},
    ],
)
def test_data_that_are_no_text_count_nothing(block):
    assert sent_tokens([HumanMessage([block])]) == 0


def test_what_the_user_wrote_is_routed_before_a_file(router, kit):
    messages = [HumanMessage(kit.prose), AIMessage("Yes."), HumanMessage([TEXT_FILES["OpenAI"]])]
    assert TryageSelector(router).invoke(messages).prompt == kit.prose
    beside = [HumanMessage([{"type": "text", "text": kit.prose}, TEXT_FILES["OpenAI"]])]
    assert TryageSelector(router).invoke(beside).prompt == kit.prose


def test_a_file_of_text_that_is_not_in_the_message_is_no_text(router, kit):
    for file in (
        {"type": "file", "url": "https://example.org/notes.md"},
        {"type": "file", "base64": "not base64!", "mime_type": "text/plain"},
    ):
        assert TryageSelector(router).invoke([HumanMessage([file])]).prompt == "[file]"
        system = [SystemMessage(kit.prose), HumanMessage([file])]
        assert TryageSelector(router).invoke(system).prompt == kit.prose
        with pytest.raises(PromptError, match="reads text, not a block of 'file'"):
            read_text(HumanMessage([file]))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ({"type": "text-plain", "mime_type": "text/plain", "text": "{}"}, "{}"),
        ({"type": "document", "source": {"type": "text", "data": "x", "content": "{}"}}, "{}"),
        ({"type": "file", "mime_type": "text/plain", "base64": "eA=="}, "x"),
    ],
)
async def test_a_file_of_text_alone_is_routed_and_sets_no_flag(router, kit, file, text):
    held = f"{kit.code} [Flag: size=2]"
    file = {key: held if value == "{}" else value for key, value in file.items()}
    if isinstance(file.get("source"), dict):
        file["source"] = {**file["source"], "content": held}
    messages = [HumanMessage([file])]
    expected = held if text == "{}" else text
    decision = await TryageSelector(router, flags_from="last_message").ainvoke(messages)
    assert (decision.prompt, decision.flags) == (expected, ())
    experts = kit.experts()
    message = ChatTryage(router, experts, flags_from="last_message").invoke(messages)
    record = message.response_metadata["tryage"]
    assert record["expert"] == decision.expert
    assert experts[decision.expert].calls[0]["messages"] == messages


def around(model):
    """Form → what an expert of `TryageRouter` may be around a model that takes its input."""
    return {
        "retries": model.with_retry(),
        "chain": model | StrOutputParser(),
        "fields": model.configurable_fields(label=ConfigurableField("label")),
        "alternatives": model.configurable_alternatives(ConfigurableField("which"), other=model),
        "fallbacks": model.with_fallbacks([model]),
        "bound": model.bind(stop=["zzz"]).with_config(tags=["x"]),
    }


@pytest.mark.parametrize("form", around(ScriptedChat(label="x")))
def test_what_a_model_behind_a_wrapper_reads_counts(router, kit, form):
    experts = {
        name: around(reads(kit, name, *kinds))[form]
        for name, kinds in (("coder", []), ("writer", ["image"]))
    }
    picture = {"type": "image", "url": "https://example.org/a.png"}
    messages = [HumanMessage([{"type": "text", "text": kit.code}, picture])]
    model = TryageRouter(router, experts, with_decision=True)
    assert model.invoke(messages)["decision"].expert == "writer"
    assert model.invoke(kit.code)["decision"].expert == "coder"


def test_a_model_reads_what_one_of_its_fallbacks_reads(router, kit):
    seeing = reads(kit, "coder").with_fallbacks([reads(kit, "seeing", "image")])
    blind = reads(kit, "writer").with_fallbacks([reads(kit, "blind")])
    picture = {"type": "image", "url": "https://example.org/a.png"}
    messages = [HumanMessage([{"type": "text", "text": kit.prose}, picture])]
    model = TryageRouter(router, {"coder": seeing, "writer": blind}, with_decision=True)
    assert model.invoke(messages)["decision"].expert == "coder"
    unknown = RunnableLambda(lambda _: "x").with_fallbacks([reads(kit, "blind")])
    model = TryageRouter(router, {"coder": blind, "writer": unknown}, with_decision=True)
    assert model.invoke(messages)["decision"].expert == "writer"


@pytest.mark.parametrize("form", around(ScriptedChat(label="x")))
async def test_a_model_behind_a_wrapper_gets_the_value_of_the_key(router, kit, form):
    expert = ScriptedChat(label="coder")
    model = TryageRouter(router, {"coder": around(expert)[form]}, key="question")
    values = {"question": kit.code, "context": "none"}
    assert model.invoke(values)
    assert await model.ainvoke(values)
    assert model.batch([values])
    assert [call["messages"][-1].text for call in expert.calls] == [kit.code] * 3
