"""`TryageFeedback` in LlamaIndex: every whole answer is scored, of whoever answered."""

import logging

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index_instrumentation import get_dispatcher

from llama_index_tryage import TryageFeedback, TryageFunctionCallingLLM, TryageLLM
from tryage.errors import FeedbackError


@pytest.fixture
def listening():
    dispatcher = get_dispatcher()
    handlers = list(dispatcher.span_handlers)
    yield dispatcher.add_span_handler
    dispatcher.span_handlers[:] = handlers


def length(prompt, answer):
    return min(1.0, len(answer) / 1000)


def test_it_needs_a_router_whose_feedback_is_on(scored_router):
    with pytest.raises(FeedbackError, match="turn it on by with_feedback"):
        TryageFeedback(scored_router, length)


@pytest.mark.parametrize("kind", [TryageLLM, TryageFunctionCallingLLM])
async def test_each_whole_answer_is_scored_once(
    kind, kit, feedback_router, listening, feedback_rows
):
    listening(TryageFeedback(feedback_router, length))
    llm = kind(feedback_router, kit.experts(kit.Caller), flags_from="last_message")
    llm.complete(kit.code)
    await llm.acomplete(kit.code)
    llm.chat([ChatMessage(kit.prose)])
    await llm.achat([ChatMessage(kit.prose)])
    assert [scores.keys() for _, scores in feedback_rows()] == [{"coder"}] * 2 + [{"writer"}] * 2
    assert [prompt for prompt, _ in feedback_rows()] == [kit.code] * 2 + [kit.prose] * 2
    assert all(0 < score < 1 for _, scores in feedback_rows() for score in scores.values())
    list(llm.stream_chat([ChatMessage(kit.code)]))
    assert len(feedback_rows()) == 4
    llm.complete(f"{kit.code} [Flag: smallest model]")
    assert "Flag" not in feedback_rows()[4][0]


def test_the_score_is_that_of_who_answered(kit, feedback_router, listening, feedback_rows):
    listening(TryageFeedback(feedback_router, length))
    experts = kit.experts(coder={"fault": ConnectionError("down")})
    TryageLLM(feedback_router, experts).complete(kit.code)
    assert [list(scores) for _, scores in feedback_rows()] == [["giant"]]


def test_a_metric_that_fails_is_logged_and_the_answer_stands(
    kit, feedback_router, listening, caplog, feedback_rows
):
    listening(TryageFeedback(feedback_router, lambda prompt, answer: {}[answer]))
    with caplog.at_level(logging.WARNING):
        assert TryageLLM(feedback_router, kit.experts()).complete("hello there").text
    assert "an answer was not scored: KeyError" in caplog.text
    assert feedback_rows() == []


def test_what_cannot_be_told_and_other_llms_leave_nothing(
    kit, feedback_router, listening, feedback_rows
):
    listening(TryageFeedback(feedback_router, lambda prompt, answer: None))
    kit.Scripted(label="other").complete("hello")
    TryageLLM(feedback_router, kit.experts()).complete("hello there")
    assert feedback_rows() == []


def test_metadata_of_a_response_do_without_a_handler(kit, feedback_router, feedback_rows):
    response = TryageLLM(feedback_router, kit.experts()).complete(kit.prose)
    feedback_router.feedback(response.additional_kwargs["tryage"], 0.75, prompt=kit.prose)
    assert feedback_rows() == [(kit.prose, {"writer": 0.75})]


def test_an_answer_that_calls_a_tool_is_not_scored(kit, feedback_router, listening, feedback_rows):
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    listening(TryageFeedback(feedback_router, length))
    llm = TryageFunctionCallingLLM(feedback_router, kit.experts(kit.Caller))
    tools = [FunctionTool.from_defaults(add)]
    response = llm.chat_with_tools(tools, f"{kit.code} add 1 and 2", tool_required=True)
    assert llm.get_tool_calls_from_response(response)
    assert feedback_rows() == []
