"""Answers are checked in every LlamaIndex class, and the record says what came of it."""

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from llama_index_tryage import TryageLLM, last_decision
from tryage import Router
from tryage.checks import Check, agrees_with
from tryage.errors import RejectedError

PERFECT = {"accepts_right": 1.0, "accepts_wrong": 0.0}


def by(*names):
    """A check that accepts what these experts say."""
    return Check(lambda prompt, answer: any(n in answer for n in names), **PERFECT)


async def every_way(llm, text):
    """The record of every public method."""
    messages = [ChatMessage(text)]
    responses = [
        llm.complete(text),
        llm.chat(messages),
        await llm.acomplete(text),
        await llm.achat(messages),
        list(llm.stream_complete(text))[-1],
        list(llm.stream_chat(messages))[-1],
        [r async for r in await llm.astream_complete(text)][-1],
        [r async for r in await llm.astream_chat(messages)][-1],
    ]
    return [response.additional_kwargs["tryage"] for response in responses]


async def test_an_llm_escalates_in_every_way(scored_router, kit):
    llm = TryageLLM(scored_router, kit.experts(), check=by("giant"))
    for record in await every_way(llm, kit.code):
        assert (record["answered_by"], record["accepted"]) == ("giant", True)
        assert [t["accepted"] for t in record["tried"]] == [False, True]
        assert record["plan"]["attempts"][0]["expert"] == record["expert"]


def test_nothing_accepted_says_so_or_raises(scored_router, kit):
    record = TryageLLM(scored_router, kit.experts(), check=by()).complete(kit.code)
    record = record.additional_kwargs["tryage"]
    assert (record["answered_by"], record["accepted"]) == ("coder", False)
    strict = TryageLLM(scored_router, kit.experts(), check=by(), on_rejected="raise")
    with pytest.raises(RejectedError):
        strict.complete(kit.code)


async def test_an_unchecked_stream_tells_the_verdict_at_its_end(scored_router, kit):
    llm = TryageLLM(scored_router, kit.experts(), check=by("giant"), stream_unchecked=True)
    for responses in (
        list(llm.stream_complete(kit.code)),
        [r async for r in await llm.astream_complete(kit.code)],
    ):
        records = [r.additional_kwargs["tryage"] for r in responses]
        assert records[-1]["accepted"] is False
        assert all("accepted" not in record for record in records[:-1])
        assert records[-1]["answered_by"] == "coder"


async def test_every_chunk_of_an_unchecked_stream_holds_the_five_best_experts(kit):
    router = Router.from_pretrained("open7")
    experts = {name: kit.Scripted(label=name) for name in router.library.names}
    llm = TryageLLM(router, experts, check=by("says"), stream_unchecked=True)
    streams = [
        list(llm.stream_complete(kit.code)),
        [response async for response in await llm.astream_complete(kit.code)],
    ]
    for responses in streams:
        assert len(responses) > 1
        rankings = [r.additional_kwargs["tryage"]["ranking"] for r in responses]
        assert {len(ranking) for ranking in rankings} == {5}


async def test_checks_ask_experts_by_name(scored_router, kit):
    same = lambda one, other: one.split()[1:] == other.split()[1:]  # noqa: E731
    llm = TryageLLM(
        scored_router, kit.experts(), check=agrees_with("writer", similarity=same, **PERFECT)
    )
    for record in await every_way(llm, kit.code):
        assert (record["answered_by"], record["accepted"]) == ("coder", True)


class Fact(BaseModel):
    """A fact."""

    text: str


def test_a_structured_answer_is_checked_as_an_object(scored_router, kit):
    answers = []

    def check(prompt, answer):
        answers.append(answer)
        return isinstance(answer, Fact) and "giant" in answer.text

    class Maker(kit.Scripted):
        def structured_predict(self, output_cls, prompt, llm_kwargs=None, **prompt_args):
            return output_cls(text=f"{self.label} made it")

    experts = kit.experts(Maker)
    llm = TryageLLM(scored_router, experts, check=Check(check, **PERFECT))
    made = llm.structured_predict(Fact, PromptTemplate("{code}"), code=kit.code)
    assert made.text == "giant made it"
    assert [fact.text for fact in answers] == ["coder made it", "giant made it"]


async def test_templates_are_checked_in_every_way(scored_router, kit):
    pairs = []

    def accepts(prompt, answer):
        pairs.append((prompt, answer))
        return answer.startswith("giant says")

    llm = TryageLLM(scored_router, kit.experts(), check=Check(accepts, **PERFECT))
    prompt = PromptTemplate("Context: a heap.\n{query_str}")
    answer = f"giant says Context: a heap.\n{kit.code}"
    ways = (
        lambda: llm.predict(prompt, query_str=kit.code),
        lambda: "".join(llm.stream(prompt, query_str=kit.code)),
    )
    texts = [way() for way in ways]
    assert last_decision()["accepted"] is True
    texts.append(await llm.apredict(prompt, query_str=kit.code))
    pieces = await llm.astream(prompt, query_str=kit.code)
    texts.append("".join([piece async for piece in pieces]))
    record = last_decision()
    assert (record["answered_by"], record["accepted"]) == ("giant", True)
    assert texts == [answer] * 4
    rejected = answer.replace("giant", "coder")
    assert pairs == [(kit.code, rejected), (kit.code, answer)] * 4
