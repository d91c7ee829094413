"""A router's log through LlamaIndex: a line for every decision, however an LLM is called."""

import json

import pytest
from llama_index.core.base.llms.types import ChatMessage

from llama_index_tryage import TryageFunctionCallingLLM, TryageLLM


@pytest.mark.parametrize("kind", [TryageLLM, TryageFunctionCallingLLM])
async def test_every_call_writes_a_line(kind, kit, scored_router, tmp_path):
    path = tmp_path / "decisions.jsonl"
    llm = kind(scored_router.with_log(path, prompts=True), kit.experts(kit.Caller))
    llm.complete(kit.code)
    await llm.acomplete(kit.prose)
    llm.chat([ChatMessage(kit.code)])
    await llm.achat([ChatMessage(kit.prose)])
    list(llm.stream_chat([ChatMessage(kit.code)]))
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [entry["expert"] for entry in entries] == ["coder", "writer", "coder", "writer", "coder"]
    assert [entry["prompt"] for entry in entries][:2] == [kit.code, kit.prose]
