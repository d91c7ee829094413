"""Answers are checked in every LangChain class, and the record says what came of it."""

import numpy as np
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from langchain_tryage import ChatTryage, TryageLLM, TryageMiddleware, TryageRouter
from tryage import ScoreTable
from tryage.checks import Check, agrees_with, confident, judged_by, matches
from tryage.errors import CheckError, RejectedError

PERFECT = {"accepts_right": 1.0, "accepts_wrong": 0.0}


@pytest.fixture
def text_experts(kit):
    return kit.experts(kit.WholeText)


def by(*names):
    """A check that accepts what these experts say."""
    return Check(lambda prompt, answer: answer.split()[0] in names, **PERFECT)


async def every_way(model, text):
    """The record of every public method."""
    stream = None
    for chunk in model.stream(text):
        stream = chunk if stream is None else stream + chunk
    astream = None
    async for chunk in model.astream(text):
        astream = chunk if astream is None else astream + chunk
    messages = [
        model.invoke(text),
        await model.ainvoke(text),
        *model.batch([text]),
        *await model.abatch([text]),
        stream,
        astream,
    ]
    return [message.response_metadata["tryage"] for message in messages]


async def test_a_chat_model_escalates_in_every_way(scored_router, kit):
    for kind in (kit.Streaming, kit.Whole):
        model = ChatTryage(scored_router, kit.experts(kind), check=by("giant"))
        for record in await every_way(model, kit.code):
            assert record["answered_by"] == "giant"
            assert record["accepted"] is True
            assert [t["accepted"] for t in record["tried"]] == [False, True]
            assert record["plan"]["attempts"][0]["expert"] == record["expert"]


async def test_a_runnable_escalates_in_every_way(scored_router, kit):
    model = TryageRouter(scored_router, kit.experts(), check=by("giant"))
    for record in await every_way(model, kit.code):
        assert (record["answered_by"], record["accepted"]) == ("giant", True)


def test_plain_functions_are_checked_as_they_answer(scored_router, kit):
    experts = {n: RunnableLambda(lambda _, n=n: {"said": n}) for n in ("coder", "writer", "giant")}
    check = Check(lambda prompt, answer: answer["said"] == "giant", **PERFECT)
    assert TryageRouter(scored_router, experts, check=check).invoke(kit.code) == {"said": "giant"}


async def test_a_text_model_escalates(scored_router, kit, text_experts):
    model = TryageLLM(scored_router, text_experts, check=by("giant"))
    assert model.invoke(kit.code).startswith("giant says")
    assert (await model.ainvoke(kit.code)).startswith("giant says")
    assert "".join(model.stream(kit.code)).startswith("giant says")
    info = model.generate([kit.code]).generations[0][0].generation_info["tryage"]
    assert info["accepted"] is True


def test_nothing_accepted_says_so_or_raises(scored_router, kit):
    model = ChatTryage(scored_router, kit.experts(), check=by())
    record = model.invoke(kit.code).response_metadata["tryage"]
    assert record["accepted"] is False
    assert record["answered_by"] == "coder"
    strict = ChatTryage(scored_router, kit.experts(), check=by(), on_rejected="raise")
    with pytest.raises(RejectedError) as caught:
        strict.invoke(kit.code)
    assert "coder" in caught.value.answers


def test_max_attempts_bounds_the_plan(scored_router, kit):
    model = ChatTryage(scored_router, kit.experts(), check=by("giant"), max_attempts=1)
    record = model.invoke(kit.code).response_metadata["tryage"]
    assert [t["expert"] for t in record["tried"]] == ["coder"]
    assert record["accepted"] is False


def test_an_unchecked_stream_carries_the_verdict_on_its_last_chunk(scored_router, kit):
    model = ChatTryage(scored_router, kit.experts(), check=by("giant"), stream_unchecked=True)
    chunks = list(model.stream(kit.code))
    carriers = [c for c in chunks if "tryage" in c.response_metadata]
    assert len(carriers) == 1
    record = carriers[0].response_metadata["tryage"]
    assert (record["answered_by"], record["accepted"]) == ("coder", False)
    assert chunks[0].text == "coder"


def test_answers_that_call_tools_are_not_checked(scored_router, kit):
    class total_count(BaseModel):
        """Count."""

        text: str

    model = ChatTryage(scored_router, kit.experts(kit.Calling), check=by())
    message = model.bind_tools([total_count], tool_choice="any").invoke(kit.code)
    assert message.tool_calls
    assert message.response_metadata["tryage"]["accepted"] is True


async def test_checks_ask_experts_by_name(scored_router, kit):
    same = lambda one, other: one.split()[1:] == other.split()[1:]  # noqa: E731
    check = agrees_with("writer", similarity=same, **PERFECT)
    model = ChatTryage(scored_router, kit.experts(), check=check)
    for record in await every_way(model, kit.code):
        assert (record["answered_by"], record["accepted"]) == ("coder", True)
    judge = judged_by("giant", "Is it so?", **PERFECT)
    requests = []

    class Judge(kit.Whole):
        def _text(self, messages, stop, kwargs):
            requests.append(messages[-1].text)
            return "yes"

    experts = kit.experts() | {"giant": Judge(label="giant")}
    model = ChatTryage(scored_router, experts, check=judge)
    record = (await model.ainvoke(kit.code)).response_metadata["tryage"]
    assert (record["answered_by"], record["accepted"]) == ("coder", True)
    assert "Is it so?" in requests[-1]
    assert "coder says" in requests[-1]


def test_a_check_that_asks_nobody_known_is_told_at_once(scored_router, kit):
    from tryage.errors import LibraryError

    model = ChatTryage(scored_router, kit.experts(), check=agrees_with("nobody"))
    with pytest.raises(LibraryError, match="nobody"):
        model.invoke(kit.code)


def test_log_probabilities_reach_the_check(scored_router, kit):
    class Sure(kit.Whole):
        logprob: float

        def _message_fields(self, text):
            fields = super()._message_fields(text)
            tokens = [{"token": "x", "logprob": self.logprob}]
            fields["response_metadata"]["logprobs"] = {"content": tokens}
            return fields

    experts = {
        "coder": Sure(label="coder", logprob=-2.0),
        "writer": Sure(label="writer", logprob=-2.0),
        "giant": Sure(label="giant", logprob=-0.1),
    }
    model = ChatTryage(scored_router, experts, check=confident(-0.5, **PERFECT))
    record = model.invoke(kit.code).response_metadata["tryage"]
    assert record["answered_by"] == "giant"
    assert record["tried"][0]["value"] == -2.0


def test_losses_have_no_right_and_wrong(router, kit):
    model = ChatTryage(router, kit.experts(), check=by("giant"))
    with pytest.raises(CheckError, match="bits per byte"):
        model.invoke(kit.code)


async def test_an_agent_escalates(scored_router, kit):
    from langchain.agents import create_agent

    experts = kit.experts(kit.Calling)
    middleware = TryageMiddleware(scored_router, experts, check=by("giant"))
    agent = create_agent(experts["coder"], [], middleware=[middleware])
    for state in (
        agent.invoke({"messages": [HumanMessage(kit.code)]}),
        await agent.ainvoke({"messages": [HumanMessage(kit.code)]}),
    ):
        record = state["messages"][-1].response_metadata["tryage"]
        assert (record["answered_by"], record["accepted"]) == ("giant", True)


def test_a_forced_expert_is_a_plan_of_one(scored_router, kit):
    model = ChatTryage(scored_router, kit.experts(), check=matches("nothing"))
    record = model.invoke(kit.code, model="writer").response_metadata["tryage"]
    assert [t["expert"] for t in record["tried"]] == ["writer"]


async def test_verdicts_are_kept_as_feedback_where_asked(scored_router, kit, tmp_path):
    path = tmp_path / "feedback.jsonl"
    router = scored_router.with_feedback(path, store_prompts=True)
    ChatTryage(router, kit.experts(), check=by("giant")).invoke(kit.code)
    assert not path.exists()
    model = ChatTryage(router, kit.experts(), check=by("giant"), keep_verdicts=True)
    await model.ainvoke(kit.code)
    table = ScoreTable.read(path)
    best = {name: table.losses[:, table.experts.index(name)] for name in table.experts}
    assert np.nanmax(best["coder"]) == 1.0
    assert np.nanmin(best["giant"]) == 0.0
    assert set(table.prompts) == {kit.code}


def test_a_local_pipeline_tells_how_sure_it_is(tiny_library):
    pytest.importorskip("transformers")
    from langchain_tryage.pipelines import ChatTryagePipeline
    from tryage import Library
    from tryage.runtime import Runtime

    runtime = Runtime(Library.read(tiny_library))
    model = ChatTryagePipeline(runtime=runtime, expert="code-gpt", logprobs=True, max_new_tokens=6)
    message = model.invoke("def alpha")
    tokens = message.response_metadata["logprobs"]["content"]
    assert len(tokens) == message.usage_metadata["output_tokens"]
    assert all(token["logprob"] <= 0 for token in tokens)
    pipeline = runtime.load("code-gpt")
    import torch

    prompt_ids = pipeline.prompt_ids([{"role": "user", "content": "def alpha"}])
    with torch.no_grad():
        first = pipeline.model(torch.tensor([prompt_ids])).logits[0, -1].log_softmax(-1)
    assert tokens[0]["logprob"] == pytest.approx(float(first.max()), abs=1e-4)
    quiet = ChatTryagePipeline(runtime=runtime, expert="code-gpt", max_new_tokens=6)
    assert "logprobs" not in quiet.invoke("def alpha").response_metadata


async def test_the_library_s_own_pipelines_are_checked_end_to_end(tiny_library, tiny_texts):
    """Real text of real models, and a check on it, with nothing scripted."""
    pytest.importorskip("transformers")
    from tryage import Library, Router

    library = Library.read(tiny_library).of_task("text-generation")
    rows = [
        {"prompt": text[:40], "group": kind, "scores": {"code-gpt": code, "prose-gpt": 1 - code}}
        for kind, code in (("code", 0.9), ("prose", 0.1))
        for text in tiny_texts[kind]
    ]
    router = Router.fit(ScoreTable.from_rows(rows), library=library, predictor="clusters")
    answers = []

    def looks_like_code(prompt, answer):
        answers.append(answer)
        return any(mark in answer for mark in "()=+:")

    check = Check(looks_like_code, accepts_right=0.95, accepts_wrong=0.05)
    model = ChatTryage(router, check=check)
    prompt = tiny_texts["prose"][0][:40]
    record = (await model.ainvoke(prompt)).response_metadata["tryage"]
    assert record["tried"][0]["expert"] == "prose-gpt"
    assert len(record["tried"]) == len(answers)
    assert record["accepted"] is any(mark in answers[-1] for mark in "()=+:")


class Count(BaseModel):
    """A count."""

    total: int


async def test_an_answer_that_does_not_fit_its_schema_goes_to_the_next_expert(scored_router, kit):
    class Wrong(kit.Calling):
        def _tool_calls(self, messages, kwargs):
            calls = super()._tool_calls(messages, kwargs)
            return [{**call, "args": {"total": "many"}} for call in calls]

    class Silent(kit.Calling):
        def _tool_calls(self, messages, kwargs):
            return []

    for kind, words in ((Wrong, "does not fit Count: total"), (Silent, "without the structure")):
        experts = kit.experts(kit.Calling) | {"coder": kind(label="coder")}
        model = ChatTryage(scored_router, experts)
        structured = model.with_structured_output(Count, include_raw=True)
        for result in (structured.invoke(kit.code), await structured.ainvoke(kit.code)):
            assert isinstance(result["parsed"], Count)
            record = result["raw"].response_metadata["tryage"]
            assert record["answered_by"] == "giant"
            assert words in record["tried"][0]["error"]
