"""Context lengths count against everything that an expert is sent."""

import pytest
from llama_index.core import Document, PromptTemplate, SummaryIndex
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.tools import FunctionTool, ToolMetadata
from pydantic import BaseModel, Field

from llama_index_tryage import TryageFunctionCallingLLM, TryageLLM, last_decision
from tryage import Library, Router

LONG = "fact " * 2000
QUESTION = "What is a heap?"


@pytest.fixture(scope="module")
def short(table, table_library):
    """A router whose coder and writer take 1,000 tokens."""
    experts = [
        {**expert, "context_length": 100_000 if expert["name"] == "giant" else 1000}
        for expert in table_library.to_dict()["experts"]
    ]
    return Router.fit(table, library=Library.from_dict({"experts": experts}))


def search(a: int, b: int) -> str:
    """Search."""
    return "found"


def message(*blocks):
    return [
        ChatMessage("Hello"),
        ChatMessage(role="assistant", blocks=list(blocks)),
        ChatMessage(QUESTION),
    ]


SENT = {
    "system": [ChatMessage(LONG, role="system"), ChatMessage(QUESTION)],
    "history": message(TextBlock(text=LONG)),
    "tool result": [*message(TextBlock(text="I look.")), ChatMessage(LONG, role="tool")],
    "tool call": message(ToolCallBlock(tool_name="search", tool_kwargs={"text": LONG})),
    "tool call as JSON": message(ToolCallBlock(tool_name="search", tool_kwargs=LONG)),
    "thinking": message(ThinkingBlock(content=LONG)),
    "document": message(DocumentBlock(data=LONG.encode(), document_mimetype="text/plain")),
    "citable": message(CitableBlock(title="t", source="s", content=[TextBlock(text=LONG)])),
    "older tool call": [
        ChatMessage(role="assistant", additional_kwargs={"tool_calls": [{"args": LONG}]}),
        ChatMessage(QUESTION),
    ],
}


@pytest.mark.parametrize("messages", SENT.values(), ids=SENT)
async def test_long_calls_go_where_they_fit(short, kit, messages):
    llm = TryageLLM(short, kit.experts())
    for response in (llm.chat(messages), await llm.achat(messages)):
        decision = response.additional_kwargs["tryage"]
        assert decision["answered_by"] == "giant"
        reasons = {row["expert"]: row.get("reason") for row in decision["ranking"]}
        assert "context_length is 1000, the prompt has about 2" in reasons["coder"]


def test_short_calls_go_anywhere(short, kit):
    llm = TryageLLM(short, kit.experts())
    blocks = [TextBlock(text="51"), CachePoint(cache_control=CacheControl(type="ephemeral"))]
    picture = ImageBlock(image=b"\x89PNG" + b"0" * 20_000)
    pdf = DocumentBlock(data=b"%PDF" + b"0" * 20_000, document_mimetype="application/pdf")
    for messages in (message(*blocks), message(picture), message(pdf)):
        decision = llm.chat(messages).additional_kwargs["tryage"]
        assert all(row["eligible"] for row in decision["ranking"])


def test_tools_count(short, kit):
    tool = FunctionTool.from_defaults(search, description=LONG)
    llm = TryageFunctionCallingLLM(short, kit.experts(kit.Caller))
    text = f"{kit.code} search 1 and 2"
    decision = llm.chat_with_tools([tool], text).additional_kwargs["tryage"]
    assert decision["answered_by"] == "giant"
    brief = FunctionTool.from_defaults(search, description="Search.")
    decision = llm.chat_with_tools([brief], text).additional_kwargs["tryage"]
    assert decision["answered_by"] == "coder"

    class Arguments(BaseModel):
        """Long."""

        a: int = Field(description=LONG)

    wide = FunctionTool.from_defaults(search, description="Search.", fn_schema=Arguments)
    assert llm.chat_with_tools([wide], text).additional_kwargs["tryage"]["answered_by"] == "giant"

    class Unhashable(FunctionTool):
        __hash__ = None

    odd = Unhashable(search, ToolMetadata(name="search", description=LONG))
    assert llm.chat_with_tools([odd], text).additional_kwargs["tryage"]["answered_by"] == "giant"
    vendor = [{"type": "function", "function": {"name": "search", "description": LONG}}]
    response = TryageLLM(short, kit.experts()).chat([ChatMessage(kit.code)], tools=vendor)
    assert response.additional_kwargs["tryage"]["answered_by"] == "giant"


def test_what_a_template_is_filled_with_counts(short, kit):
    """Though the query alone is routed."""
    llm = TryageLLM(short, kit.experts())
    prompt = PromptTemplate("{context_str}\n{query_str}")
    llm.predict(prompt, context_str=LONG, query_str=kit.code)
    assert last_decision()["answered_by"] == "giant"
    llm.predict(prompt, context_str="A heap.", query_str=kit.code)
    assert last_decision()["answered_by"] == "coder"
    index = SummaryIndex.from_documents([Document(text=LONG)])
    index.as_query_engine(llm=TryageLLM(short, kit.experts(), context_window=8000)).query(kit.code)
    assert last_decision()["answered_by"] == "giant"


def test_an_expert_s_own_system_prompt_counts_where_it_is_sent(short, kit):
    experts = kit.experts(coder={"system_prompt": LONG})
    llm = TryageLLM(short, experts)
    prompt = PromptTemplate("{query_str}")
    for call in (
        lambda: llm.predict(prompt, query_str=kit.code),
        lambda: list(llm.stream(prompt, query_str=kit.code)),
    ):
        call()
        assert last_decision()["expert"] == "giant"
    reasons = {row["expert"]: row.get("reason") for row in last_decision()["ranking"]}
    assert "context_length is 1000, the prompt has about 25" in reasons["coder"]
    # A chat is sent as it is.
    assert llm.chat([ChatMessage(kit.code)]).additional_kwargs["tryage"]["expert"] == "coder"
