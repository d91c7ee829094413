"""Messages with more than text: limits where experts state what they take, else passed through."""

import base64
from io import BytesIO

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
)
from llama_index.core.schema import ImageNode

from llama_index_tryage import TryageLLM
from llama_index_tryage._inputs import TextSource
from llama_index_tryage._message_texts import read_text
from llama_index_tryage._modalities import modalities_of
from llama_index_tryage._sent import sent_tokens
from tryage import Library, Router
from tryage.errors import NoEligibleExpertError, PromptError

IMAGE = ImageBlock(url="https://example.org/a.png")
SOUND = AudioBlock(url="https://example.org/a.mp3")


@pytest.fixture(scope="module")
def stating(table, table_library):
    """A router whose library states what coder and giant take; writer says nothing."""
    rows = [expert.model_dump(exclude_none=True) for expert in table_library]
    stated = {"coder": ["text"], "giant": ["text", "image"]}
    for row in rows:
        row.update({"modalities": stated[row["name"]]} if row["name"] in stated else {})
    return Router.fit(table, library=Library.from_dict({"name": "made-up", "experts": rows}))


def with_blocks(text, *blocks):
    return [ChatMessage(blocks=[TextBlock(text=text), *blocks])]


async def every_way(llm, messages):
    return [
        llm.chat(messages),
        await llm.achat(messages),
        list(llm.stream_chat(messages))[-1],
        [r async for r in await llm.astream_chat(messages)][-1],
    ]


async def test_experts_that_do_not_take_images_are_not_eligible(stating, kit):
    experts = kit.experts()
    llm = TryageLLM(stating, experts)
    assert llm.chat([ChatMessage(kit.code)]).additional_kwargs["tryage"]["expert"] == "coder"
    messages = with_blocks(kit.code, IMAGE)
    for response in await every_way(llm, messages):
        decision = response.additional_kwargs["tryage"]
        assert decision["expert"] == "giant"
        reasons = {row["expert"]: row.get("reason") for row in decision["ranking"]}
        assert reasons["coder"] == "it takes text; the messages hold image"
        assert reasons["writer"] is None
    assert all(sent == messages for sent, _ in experts["giant"].calls)


async def test_an_expert_that_says_nothing_gets_the_blocks_as_they_are(router, kit):
    experts = kit.experts()
    messages = with_blocks(kit.code, IMAGE, SOUND)
    await every_way(TryageLLM(router, experts), messages)
    assert [sent for sent, _ in experts["coder"].calls] == [messages] * 4


def test_blocks_anywhere_in_the_conversation_count(stating, kit):
    earlier = [*with_blocks("Look.", IMAGE), ChatMessage("I see.", role=MessageRole.ASSISTANT)]
    inside = CitableBlock(title="a", source="b", content=[DocumentBlock(data=b"%PDF-1.4")])
    for before, held in ((earlier, "image"), (with_blocks("Read.", inside), "document")):
        llm = TryageLLM(stating, kit.experts())
        decision = llm.chat([*before, ChatMessage(kit.code)]).additional_kwargs["tryage"]
        reasons = {row["expert"]: row.get("reason") for row in decision["ranking"]}
        assert reasons["coder"] == f"it takes text; the messages hold {held}"


def test_nobody_takes_it(stating, kit):
    llm = TryageLLM(stating, {"coder": kit.Scripted(label="coder")})
    with pytest.raises(NoEligibleExpertError, match="the messages hold image, audio"):
        llm.chat(with_blocks(kit.code, SOUND, IMAGE))


def test_an_image_alone_is_routed_by_what_was_written_before(router, kit):
    experts = kit.experts()
    llm = TryageLLM(router, experts)
    messages = [ChatMessage(kit.code), ChatMessage(blocks=[IMAGE])]
    decision = llm.chat(messages).additional_kwargs["tryage"]
    assert decision["expert"] == "coder"
    assert experts["coder"].calls[0][0] == messages


async def test_an_image_alone_goes_to_the_best_on_average_that_reads_it(router, kit):
    """As everything does that is unlike the training prompts."""
    alone = [ChatMessage(blocks=[IMAGE])]
    best = router.route("[image]")
    assert best.out_of_distribution
    experts = kit.experts()
    llm = TryageLLM(router, experts, flags_from="last_message")
    for response in (llm.chat(alone), await llm.achat(alone), list(llm.stream_chat(alone))[-1]):
        assert response.additional_kwargs["tryage"]["answered_by"] == best.expert
    assert experts[best.expert].calls[0][0] == alone
    sounds = [ChatMessage("Hello.", role="assistant"), ChatMessage(blocks=[SOUND, IMAGE])]
    assert llm.chat(sounds).additional_kwargs["tryage"]["weights"] == {}
    with pytest.raises(PromptError, match="the prompt is empty"):
        llm.complete("")
    with pytest.raises(PromptError, match="the prompt is empty"):
        llm.chat([ChatMessage("")])


def test_local_pipelines_read_text(tiny_router):
    messages = with_blocks("The quiet river follows", IMAGE)
    with pytest.raises(NoEligibleExpertError, match="it takes text; the messages hold image"):
        TryageLLM(tiny_router).chat(messages)


def test_images_beside_a_prompt_count(stating, kit):
    """As multi-modal LLMs take them."""
    experts = kit.experts()
    llm = TryageLLM(stating, experts)
    pictures = [ImageNode(image_url="https://example.org/a.png")]
    for response in (
        llm.complete(kit.code, image_documents=pictures),
        list(llm.stream_complete(kit.code, image_documents=pictures))[-1],
    ):
        decision = response.additional_kwargs["tryage"]
        assert decision["answered_by"] == "giant"
        reasons = {row["expert"]: row.get("reason") for row in decision["ranking"]}
        assert reasons["coder"] == "it takes text; the messages hold image"
    assert experts["giant"].calls[0][1]["image_documents"] == pictures
    decision = llm.complete(kit.code, image_documents=[]).additional_kwargs["tryage"]
    assert decision["answered_by"] == "coder"


def test_a_cited_image_counts(stating, kit):
    cited = CitationBlock(cited_content=IMAGE, source="s", title="t", additional_location_info={})
    response = TryageLLM(stating, kit.experts()).chat(with_blocks(kit.code, cited))
    assert response.additional_kwargs["tryage"]["answered_by"] == "giant"


HELD = "def alpha_count(total, count=3):\n    return total\n"


def text_documents(tmp_path):
    """Form → a document that is the same text."""
    path = tmp_path / "notes.txt"
    path.write_text(HELD)
    nameless = tmp_path / "notes"
    nameless.write_text(HELD)
    return {
        "stated": DocumentBlock(data=HELD.encode(), document_mimetype="text/plain"),
        "stated, JSON": DocumentBlock(data=HELD.encode(), document_mimetype="application/json"),
        "nothing stated": DocumentBlock(data=HELD.encode()),
        "title": DocumentBlock(data=HELD.encode(), title="notes.md"),
        "encoded": DocumentBlock(data=base64.b64encode(HELD.encode())),
        "path": DocumentBlock(path=path),
        "path without an ending": DocumentBlock(path=nameless),
        "buffer": DocumentBlock(data=BytesIO(HELD.encode()), title="notes.csv"),
    }


async def test_a_document_that_is_text_is_its_text(stating, kit, tmp_path):
    for block in text_documents(tmp_path).values():
        llm = TryageLLM(stating, kit.experts())
        beside = llm.chat(with_blocks(kit.code, block)).additional_kwargs["tryage"]
        assert beside["expert"] == "coder"  # which takes text alone
        for before in ([], [ChatMessage("Be brief.", role="system")]):
            for response in await every_way(llm, [*before, ChatMessage(blocks=[block])]):
                assert response.additional_kwargs["tryage"]["expert"] == "coder"
        routed = TextSource().read([ChatMessage("x", role="system"), ChatMessage(blocks=[block])])
        assert (routed.text, routed.flags_act) == (HELD, False)
        assert sent_tokens([ChatMessage(blocks=[block])]) == sent_tokens(HELD)
        assert read_text([TextBlock(text="Look:"), block]) == f"Look:\n{HELD}".rstrip("\n") + "\n"


def test_flags_in_a_file_do_not_act(stating, kit):
    block = DocumentBlock(data=f"{kit.code} [Flag: size=2]".encode())
    llm = TryageLLM(stating, kit.experts(), flags_from="last_message")
    record = llm.chat([ChatMessage(blocks=[block])]).additional_kwargs["tryage"]
    assert (record["expert"], record["flags"]) == ("coder", [])


def test_other_documents_are_documents(stating, tmp_path):
    pdf, zipped = b"%PDF-1.4\n\x00\xff", b"PK\x03\x04\x00\x00"
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf)
    for block in (
        DocumentBlock(data=pdf),
        DocumentBlock(data=zipped),
        DocumentBlock(path=path),
        DocumentBlock(url="https://example.org/a"),
        DocumentBlock(data=b"\xff\xfe\x00\x01 binary"),
        DocumentBlock(data=b"text in a", document_mimetype="application/msword"),
    ):
        assert modalities_of([ChatMessage(blocks=[block])]) == ("document",)
        assert sent_tokens([ChatMessage(blocks=[block])]) == 0
        with pytest.raises(PromptError, match="not a block of 'document'"):
            read_text([block])
    notes = DocumentBlock(url="https://example.org/notes.md")
    assert modalities_of([ChatMessage(blocks=[notes])]) == ()
    assert TextSource().read([ChatMessage(blocks=[notes])]).text == "[file]"
    with pytest.raises(PromptError, match="not a block of 'document'"):
        read_text([notes])
