"""`label`: chat models, text models and chains are measured, sync and async, faults and all."""

import asyncio
from typing import Any

import numpy as np
import pytest
from langchain_core.language_models import BaseChatModel, BaseLLM, FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_tryage import ChatTryage, alabel, label
from langchain_tryage.pipelines import ChatTryagePipeline, TryagePipeline
from tryage import Expert, Library, Price, Router, ScoreTable, TryageWarning
from tryage.labeling import PairwiseJudge, PointwiseJudge
from tryage.runtime import Runtime
from tryage.testing import FakeOpenAI

pytest.importorskip("pyarrow")

WAYS = pytest.mark.parametrize("way", ["sync", "async"])
PROMPTS = [
    {"prompt": f"Say {word}", "id": word, "reference": f"coder says Say {word}"}
    for word in ("one", "two", "three")
]


def run(way, *args, **options):
    return label(*args, **options) if way == "sync" else asyncio.run(alabel(*args, **options))


def scores(folder):
    table = ScoreTable.read(folder)
    return {name: (1 - table.losses[:, i]).tolist() for i, name in enumerate(table.experts)}


@WAYS
def test_models_texts_chains_and_functions_are_experts(way, kit, tmp_path):
    prices = Price(input=100, output=1000)
    names = ("chat", "text", "chain", "function")
    library = Library([Expert(name=name, model=name, price=prices) for name in names])
    template = ChatPromptTemplate.from_messages([("human", "{input}")])
    chain = RunnableLambda(lambda text: {"input": text}) | template | kit.Whole(label="coder")
    experts = {
        "chat": kit.Streaming(label="coder"),
        "text": FakeListLLM(responses=["coder says Say one"] * 9),
        "chain": chain | StrOutputParser(),
        "function": lambda text: f"writer says {text}",
    }
    summary = run(way, experts, PROMPTS, "exact", tmp_path, library=library)
    assert (summary.measured, summary.failed) == (12, 0)
    by_expert = scores(tmp_path)
    assert by_expert["chat"] == by_expert["chain"] == [1, 1, 1]
    assert sorted(by_expert["text"]) == [0, 0, 1]
    assert by_expert["function"] == [0, 0, 0]
    table = ScoreTable.read(tmp_path).reorder(names)
    # 5 tokens read and 4 written, as the model tells, in a chain too; the others tell nothing.
    cost = pytest.approx(5 * 1e-4 + 4 * 1e-3)
    assert (
        table.targets["cost"][:, 0].tolist() == table.targets["cost"][:, 2].tolist() == [cost] * 3
    )
    assert np.isnan(table.targets["cost"][:, [1, 3]]).all()
    assert np.isfinite(table.targets["latency"]).all()


def test_a_chain_of_which_one_model_tells_no_tokens_has_no_cost(kit, tmp_path):
    """A part of what it cost would be taken for all of it."""
    library = Library([Expert(name="two", model="two", price=Price(input=100, output=1000))])
    two = kit.Whole(label="coder") | StrOutputParser() | FakeListLLM(responses=["fine"] * 3)
    label({"two": two}, PROMPTS, "exact", tmp_path, library=library)
    assert "cost" not in ScoreTable.read(tmp_path).targets


class StatingChat(BaseChatModel):
    """Answers rightly, with any report of its tokens."""

    usage: Any = None
    metadata_of_response: Any = None
    output: Any = None

    @property
    def _llm_type(self):
        return "stating"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        message = AIMessage("Paris", response_metadata=self.metadata_of_response or {})
        message.usage_metadata = self.usage
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output=self.output)


class StatingText(BaseLLM):
    """The same as a text model."""

    output: Any = None
    info: Any = None

    @property
    def _llm_type(self):
        return "stating"

    def _generate(self, prompts, stop=None, run_manager=None, **kwargs):
        rows = [[Generation(text="Paris", generation_info=self.info)] for _ in prompts]
        return LLMResult(generations=rows, llm_output=self.output)


def counts(read, written):
    return {"token_usage": {"prompt_tokens": read, "completion_tokens": written}}


@WAYS
@pytest.mark.parametrize(
    ("model", "cost", "cut_off"),
    [
        (StatingChat(usage={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}), 13, False),
        (StatingChat(usage={"input_tokens": 7}, output=counts(7, 3)), 13, False),
        (StatingChat(output=counts("7", "3")), 13, False),
        (StatingText(output=counts(7, 3), info={"finish_reason": "length"}), 13, True),
        (StatingChat(output=counts("7", None)), None, False),
        (StatingChat(output=counts(-1, 2)), None, False),
        (StatingChat(output=counts(0, 0)), None, False),
        (StatingChat(output={"token_usage": "much"}), None, False),
        (StatingChat(output={"token_usage": [1]}), None, False),
        (StatingChat(usage="much", metadata_of_response={"stop_reason": "max_tokens"}), None, True),
        (StatingText(output={"token_usage": None}), None, False),
        (StatingText(), None, False),
    ],
)
def test_reports_of_any_shape_are_read(way, model, cost, cut_off, tmp_path, caplog):
    """The cost is there where both numbers of tokens are stated; nothing odd ends the run."""
    library = Library([Expert(name="odd", model="odd", price=Price(input=1, output=2))])
    prompts = [{"prompt": f"Capital of France? {i}", "reference": "Paris"} for i in range(2)]
    summary = run(way, {"odd": model}, prompts, "contains", tmp_path, library=library)
    assert (summary.measured, summary.failed) == (2, 0)
    assert summary.conditions == ({"cut_off": 2} if cut_off else {})
    table = ScoreTable.read(tmp_path)
    assert table.losses.tolist() == [[0.0], [0.0]]
    costs = [] if "cost" not in table.targets else table.targets["cost"][:, 0] * 1e6
    assert list(costs) == ([] if cost is None else [pytest.approx(cost)] * 2)
    assert not caplog.records


def test_a_model_whose_report_is_odd_hides_no_part_of_a_chains_cost(kit, tmp_path):
    """The other model's tokens alone would be taken for all of them."""
    library = Library([Expert(name="two", model="two", price=Price(input=100, output=1000))])
    two = kit.Whole(label="coder") | StrOutputParser() | StatingText(output={"token_usage": "odd"})
    assert label({"two": two}, PROMPTS, "exact", tmp_path, library=library).measured == 3
    assert "cost" not in ScoreTable.read(tmp_path).targets


@WAYS
def test_what_models_raise_and_return_is_the_reason_of_a_cell(way, kit, tmp_path):
    experts = {
        "raises": kit.Whole(label="a", fault=ValueError("token=abc123456 is bad")),
        "dict": RunnableLambda(lambda text: {"text": text}),
        "empty": RunnableLambda(lambda text: ""),
    }
    prompts = [{"prompt": "hello", "reference": "x"}]
    summary = run(way, experts, prompts, "contains", tmp_path, retries=0)
    assert summary.failures == {
        "raises": {"ValueError: token=*** is bad": 1},
        "dict": {
            "TypeError: it returned dict, not text or a message; put a parser behind it, such as "
            "StrOutputParser()": 1
        },
    }
    assert summary.conditions == {"empty": 1}


def preferring(text):
    """A judge that reads the answers: the coder's are better."""
    first = text.partition("[Answer A]\n")[2]
    return f"Winner: {'A' if first.startswith('coder') else 'B'}"


@WAYS
def test_a_model_judges_and_the_users_own_router_stands(way, kit, tmp_path):
    experts = {"coder": kit.Streaming(label="coder"), "writer": kit.Streaming(label="writer")}
    judge = PairwiseJudge(RunnableLambda(preferring), name="the-judge")
    prompts = [f"{text}, {i}" for text in (kit.code, kit.prose) for i in range(4)]
    summary = run(way, experts, prompts, judge, tmp_path)
    assert (summary.measured, summary.failed) == (16, 0)
    assert judge.counts.pairs == 8
    assert scores(tmp_path) == {"coder": [1.0] * 8, "writer": [0.0] * 8}
    library = Library([Expert(name=name, model=name) for name in experts])
    router = Router.fit(ScoreTable.read(tmp_path), library=library)
    answer = ChatTryage(router, experts).invoke(kit.prose)
    assert answer.response_metadata["tryage"]["answered_by"] == "coder"


def test_an_expert_as_judge_is_warned_of(kit, tmp_path):
    experts = {"coder": kit.Whole(label="coder"), "writer": kit.Whole(label="writer")}
    judge = PointwiseJudge(experts["coder"])
    with pytest.warns(TryageWarning, match="the judge is expert 'coder' itself"):
        label(experts, ["hello"], judge, tmp_path)


@WAYS
def test_a_local_pipeline(way, tiny_library, tiny_texts, tmp_path):
    library = Library.read(tiny_library).of_task("text-generation")
    runtime = Runtime(library)
    experts = {
        "code-gpt": ChatTryagePipeline(runtime=runtime, expert="code-gpt", max_new_tokens=8),
        "prose-gpt": TryagePipeline(runtime=runtime, expert="prose-gpt", max_new_tokens=8),
    }
    prompts = [{"prompt": text[:20], "reference": text[20:]} for text in tiny_texts["code"][:4]]
    summary = run(way, experts, prompts, "f1", tmp_path, library=library)
    assert summary.measured == 8
    assert summary.conditions["cut_off"] > 0
    table = ScoreTable.read(tmp_path).reorder(list(experts))
    assert table.losses[:, 0].mean() < table.losses[:, 1].mean()


openai = pytest.importorskip("openai", reason="needs langchain-openai")
from langchain_openai import ChatOpenAI  # noqa: E402


@WAYS
@pytest.mark.enable_socket
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_real_client_whose_service_is_busy_slow_and_down(way, tmp_path):
    price = Price(input=1, output=2)
    kinds = ("ok", "busy", "fail", "drop", "hang", "empty")
    library = Library([Expert(name=kind, model=kind, price=price) for kind in kinds])
    with FakeOpenAI() as server:
        client, aclient = openai.DefaultHttpxClient(), openai.DefaultAsyncHttpxClient()
        experts = {
            kind: ChatOpenAI(
                model=f"small-{kind}",
                base_url=server.url,
                api_key="sk-test-0123456789",
                max_retries=0,
                http_client=client,
                http_async_client=aclient,
            )
            for kind in kinds
        }
        options = {"library": library, "retries": 2, "backoff": 0, "timeout": 1.0}
        prompts = [{"prompt": "What is a heap?", "reference": "heap"}]
        summary = run(way, experts, prompts, "contains", tmp_path, **options)
        kinds_called = [body["model"].rpartition("-")[2] for body in server.requests]
        client.close()
    assert (summary.measured, summary.failed) == (2, 4)
    assert summary.conditions == {"empty": 1}
    reasons = {name: next(iter(why)) for name, why in summary.failures.items()}
    signs = {"busy": "RateLimit", "fail": "500", "drop": "Connection", "hang": "ExpertTimeout"}
    assert reasons.keys() == signs.keys()
    assert all(sign in reasons[name] for name, sign in signs.items()), reasons
    assert {kind: kinds_called.count(kind) for kind in kinds} == {
        "ok": 1,
        "busy": 3,
        "fail": 3,
        "drop": 3,
        "hang": 3,
        "empty": 1,
    }
    text = (tmp_path / "label.json").read_text()
    assert "sk-test" not in text
    table = ScoreTable.read(tmp_path)
    assert table.targets["cost"][0, table.experts.index("ok")] > 0
