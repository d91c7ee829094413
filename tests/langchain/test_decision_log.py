"""A router's log through LangChain: a line for every decision, however a model is called."""

import json

import pytest
from langchain_core.language_models import FakeListLLM

from langchain_tryage import ChatTryage, TryageLLM, TryageRouter


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter, TryageLLM])
async def test_every_call_writes_a_line(kind, kit, scored_router, tmp_path):
    path = tmp_path / "decisions.jsonl"
    experts = kit.experts()
    if kind is TryageLLM:
        experts = {name: FakeListLLM(responses=["x"]) for name in experts}
    model = kind(scored_router.with_log(path), experts)
    model.invoke(kit.code)
    await model.ainvoke(kit.prose)
    list(model.stream(kit.code))
    assert [chunk async for chunk in model.astream(kit.prose)]
    model.batch([kit.code, kit.prose])
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [entry["expert"] for entry in entries] == ["coder", "writer"] * 3
    assert all("prompt" not in entry and entry["time"] for entry in entries)
