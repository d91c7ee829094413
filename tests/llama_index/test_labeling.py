"""`label`: LLMs are measured, sync and async, faults and all."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from llama_index.core.base.llms.types import CompletionResponse
from llama_index.core.llms import CustomLLM, LLMMetadata, MockLLM
from pydantic import BaseModel

from llama_index_tryage import TryageLLM, alabel, label
from llama_index_tryage.pipelines import TryagePipeline
from tryage import Expert, Library, Price, Router, ScoreTable, TryageWarning
from tryage.labeling import PairwiseJudge, PointwiseJudge
from tryage.runtime import Runtime

pytest.importorskip("pyarrow")

WAYS = pytest.mark.parametrize("way", ["sync", "async"])
PROMPTS = [
    {"prompt": f"Say {word}", "reference": f"coder says Say {word}"}
    for word in ("one", "two", "three")
]


def run(way, *args, **options):
    return label(*args, **options) if way == "sync" else asyncio.run(alabel(*args, **options))


def scores(folder):
    table = ScoreTable.read(folder)
    return {name: (1 - table.losses[:, i]).tolist() for i, name in enumerate(table.experts)}


@WAYS
def test_llms_are_measured(way, kit, tmp_path):
    experts = {
        "coder": kit.Scripted(label="coder"),
        "simple": kit.Simple(label="coder"),
        "mock": MockLLM(max_tokens=2),
        "broken": kit.Scripted(label="broken", fault=ValueError("password=abc is wrong")),
    }
    summary = run(way, experts, PROMPTS, "exact", tmp_path)
    assert (summary.measured, summary.failed) == (9, 3)
    assert summary.failures == {"broken": {"ValueError: password=*** is wrong": 3}}
    assert scores(tmp_path) == {"coder": [1] * 3, "simple": [1] * 3, "mock": [0] * 3}
    table = ScoreTable.read(tmp_path)
    assert np.isfinite(table.targets["latency"]).all()
    assert "cost" not in table.targets


class Usage(BaseModel):
    prompt_tokens: int = 7
    completion_tokens: int = 3


class Choice(BaseModel):
    finish_reason: str = "length"


class Raw(BaseModel):
    """What OpenAI's client returns."""

    usage: Usage = Usage()
    choices: list[Choice] = [Choice()]


class Stating(CustomLLM):
    """Answers rightly, with any raw response."""

    raw: Any = None
    more: Any = None

    @property
    def metadata(self):
        return LLMMetadata()

    def stream_complete(self, prompt, formatted=False, **kwargs):
        yield self.complete(prompt)

    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text="Paris", raw=self.raw, additional_kwargs=self.more or {})

    async def acomplete(self, prompt, formatted=False, **kwargs):
        return self.complete(prompt)


COUNTS = {"prompt_tokens": 7, "completion_tokens": 3}


@WAYS
@pytest.mark.parametrize(
    ("raw", "more", "cost", "cut_off"),
    [
        (Raw(), {}, 13, True),
        (Raw().model_dump(), {}, 13, True),
        ({"usage": {"input_tokens": 2, "output_tokens": 1}, "stop_reason": "end"}, {}, 4, False),
        (SimpleNamespace(usage=SimpleNamespace(**COUNTS)), {}, 13, False),
        ({"usage_metadata": {"prompt_token_count": 2, "candidates_token_count": 1}}, {}, 4, False),
        ({"usage": None}, COUNTS, 13, False),
        ({"usage": {"prompt_tokens": "7", "completion_tokens": "3"}}, {}, 13, False),
        ({"stop_reason": "max_tokens"}, {}, None, True),
        ({"usage": {"prompt_tokens": "3", "completion_tokens": None}}, {}, None, False),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 2}}, {}, None, False),
        ({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, {}, None, False),
        ({"usage": "much"}, {}, None, False),
        (SimpleNamespace(usage=SimpleNamespace(prompt_tokens=3)), {}, None, False),
        ({"choices": []}, {}, None, False),
        ({"choices": [None]}, {}, None, False),
        ({"choices": "none"}, {}, None, False),
        ({}, {}, None, False),
        (None, {}, None, False),
        ([1], {}, None, False),
        ("x", {}, None, False),
        (object(), {}, None, False),
    ],
)
def test_responses_of_any_shape_are_measured(way, raw, more, cost, cut_off, tmp_path):
    """The cost is there where both numbers of tokens are stated; nothing odd ends the run."""
    library = Library([Expert(name="odd", model="odd", price=Price(input=1, output=2))])
    prompts = [{"prompt": f"Capital of France? {i}", "reference": "Paris"} for i in range(2)]
    experts = {"odd": Stating(raw=raw, more=more)}
    summary = run(way, experts, prompts, "contains", tmp_path, library=library)
    assert (summary.measured, summary.failed) == (2, 0)
    assert summary.conditions == ({"cut_off": 2} if cut_off else {})
    table = ScoreTable.read(tmp_path)
    assert table.losses.tolist() == [[0.0], [0.0]]
    costs = [] if "cost" not in table.targets else table.targets["cost"][:, 0] * 1e6
    assert list(costs) == ([] if cost is None else [pytest.approx(cost)] * 2)


def test_only_llms_are_experts(tmp_path):
    with pytest.raises(TypeError, match="expected an LLM, found str"):
        label({"small": "gpt"}, PROMPTS, "exact", tmp_path)


class Preferring(MockLLM):
    """A judge that reads the answers: the coder's are better."""

    def complete(self, prompt, formatted=False, **kwargs):
        first = prompt.partition("[Answer A]\n")[2]
        return CompletionResponse(text=f"Winner: {'A' if first.startswith('coder') else 'B'}")


@WAYS
def test_an_llm_judges_and_the_users_own_router_stands(way, kit, tmp_path):
    experts = {"coder": kit.Scripted(label="coder"), "writer": kit.Scripted(label="writer")}
    judge = PairwiseJudge(Preferring())
    prompts = [f"{text}, {i}" for text in (kit.code, kit.prose) for i in range(4)]
    assert run(way, experts, prompts, judge, tmp_path).measured == 16
    assert (judge.counts.pairs, judge.counts.flipped) == (8, 0)
    assert scores(tmp_path) == {"coder": [1.0] * 8, "writer": [0.0] * 8}
    library = Library([Expert(name=name, model=name) for name in experts])
    router = Router.fit(ScoreTable.read(tmp_path), library=library)
    response = TryageLLM(router, experts).complete(kit.prose)
    assert response.additional_kwargs["tryage"]["answered_by"] == "coder"


def test_an_expert_as_judge_is_warned_of(tmp_path):
    llm = MockLLM()
    with pytest.warns(TryageWarning, match="the judge is expert 'mock' itself"):
        label({"mock": llm}, ["hello"], PointwiseJudge(llm), tmp_path)


@WAYS
def test_a_local_pipeline(way, tiny_library, tiny_texts, tmp_path):
    price = Price(input=1, output=1)
    experts = [
        expert.model_copy(update={"price": price})
        for expert in Library.read(tiny_library).of_task("text-generation")
    ]
    library = Library(experts, root=tiny_library.parent)
    runtime = Runtime(library)
    llms = {
        name: TryagePipeline(runtime=runtime, expert=name, max_new_tokens=8)
        for name in library.names
    }
    prompts = [{"prompt": text[:20], "reference": text[20:]} for text in tiny_texts["code"][:4]]
    summary = run(way, llms, prompts, "f1", tmp_path, library=library)
    assert summary.measured == 8
    assert summary.conditions["cut_off"] > 0
    table = ScoreTable.read(tmp_path).reorder(["code-gpt", "prose-gpt"])
    assert table.losses[:, 0].mean() < table.losses[:, 1].mean()
    assert (table.targets["cost"] > 0).all()
