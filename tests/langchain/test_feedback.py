"""`TryageFeedback` in LangChain: scores as they come or later, of whoever answered."""

import contextlib
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda

from langchain_tryage import ChatTryage, TryageFeedback, TryageLLM, TryageRouter
from tryage.errors import FeedbackError


def length(prompt, answer):
    return min(1.0, len(answer) / 1000)


def test_it_needs_a_router_whose_feedback_is_on(scored_router):
    with pytest.raises(FeedbackError, match="turn it on by with_feedback"):
        TryageFeedback(scored_router)


def experts_of(kind, kit):
    if kind is TryageLLM:
        return {name: FakeListLLM(responses=["x" * 100]) for name in ("coder", "writer", "giant")}
    return kit.experts()


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter, TryageLLM])
async def test_each_answer_is_scored_once_in_every_way_to_call(
    kind, kit, feedback_router, feedback_rows
):
    model = kind(feedback_router, experts_of(kind, kit), flags_from="last_message")
    config = {"callbacks": [TryageFeedback(feedback_router, length)]}
    flagged = f"{kit.code} [Flag: newest model]"
    model.invoke(flagged, config)
    await model.ainvoke(flagged, config)
    list(model.stream(flagged, config))
    assert [chunk async for chunk in model.astream(flagged, config)]
    model.batch([flagged, kit.prose], config)
    rows = feedback_rows()
    assert len(rows) == 6
    assert all("Flag" not in prompt for prompt, _ in rows)
    experts = {expert for _, scores in rows for expert in scores}
    assert experts <= {"coder", "writer", "giant"}
    assert all(0 < score < 1 for _, scores in rows for score in scores.values())


@pytest.mark.parametrize("kind", [ChatTryage, TryageLLM])
async def test_answers_of_generate_are_scored_too(kind, kit, feedback_router, feedback_rows):
    model = kind(feedback_router, experts_of(kind, kit))
    feedback = TryageFeedback(feedback_router, length)
    chats = kind is ChatTryage
    inputs = (
        [[HumanMessage(kit.code)], [HumanMessage(kit.prose)]] if chats else [kit.code, kit.prose]
    )
    prompts = [model._convert_input(text) for text in (kit.code, kit.prose)]
    results = [
        model.generate(inputs, callbacks=[feedback], tags=["own"], metadata={"n": 1}),
        model.generate_prompt(prompts, callbacks=CallbackManager([feedback])),
        await model.agenerate(inputs, None, [feedback]),
        await model.agenerate_prompt(prompts, callbacks=[feedback]),
    ]
    rows = feedback_rows()
    assert sorted((prompt, [*scores]) for prompt, scores in rows) == sorted(
        [(kit.code, ["coder"]), (kit.prose, ["writer"])] * 4
    )
    for result in results:
        assert [len(row) for row in result.generations] == [1, 1]
        assert len({run.run_id for run in result.run}) == 2


@pytest.mark.parametrize("kind", [ChatTryage, TryageLLM])
async def test_runs_of_generate_are_labelled_as_those_of_invoke(kind, kit, router):
    class Heard(BaseCallbackHandler):
        def __init__(self):
            self.runs = []

        def on_llm_start(self, *args, tags, metadata, name=None, run_id, **kwargs):
            self.runs.append((tags, metadata["tryage"]["expert"], metadata.get("n"), name, run_id))

        def on_chat_model_start(self, *args, **kwargs):
            self.on_llm_start(**kwargs)

    model = kind(router, experts_of(kind, kit))
    inputs = [[HumanMessage(kit.code)], [HumanMessage(kit.prose)]]
    inputs = inputs if kind is ChatTryage else [kit.code, kit.prose]
    first = uuid.uuid4()
    for call in (model.generate, model.agenerate):
        heard = Heard()
        options = {"tags": ["own"], "metadata": {"n": 1}, "run_name": "many", "run_id": first}
        result = call(inputs, callbacks=[heard], **options)
        if call == model.agenerate:
            await result
        assert [run[:4] for run in sorted(heard.runs, key=lambda run: run[1])] == [
            (["own", "expert:coder"], "coder", 1, "many"),
            (["own", "expert:writer"], "writer", 1, "many"),
        ]
        assert [run[-1] == first for run in heard.runs].count(True) == 1
    if kind is TryageLLM:
        heard, other = Heard(), Heard()
        model.generate(inputs, callbacks=[[heard], [other]], tags=[["a"], ["b"]])
        assert [h.runs[0][:2] for h in (heard, other)] == [
            (["a", "expert:coder"], "coder"),
            (["b", "expert:writer"], "writer"),
        ]
        with pytest.raises(ValueError, match="must be a list of the same length"):
            model.generate(inputs, callbacks=[[heard], [other]], tags=[["a"]])


def test_experts_that_are_chains(kit, feedback_router, feedback_rows):
    experts = {
        name: RunnableLambda(lambda text: text) | model | StrOutputParser()
        for name, model in kit.experts().items()
    }
    TryageRouter(feedback_router, experts).invoke(
        kit.code, {"callbacks": [TryageFeedback(feedback_router, length)]}
    )
    [(prompt, scores)] = feedback_rows()
    assert (prompt, list(scores)) == (kit.code, ["coder"])


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter])
def test_the_score_is_that_of_who_answered(kind, kit, feedback_router, feedback_rows):
    experts = kit.experts(coder={"fault": ConnectionError("down")})
    kind(feedback_router, experts).invoke(
        kit.code, {"callbacks": [TryageFeedback(feedback_router, length)]}
    )
    assert [list(scores) for _, scores in feedback_rows()] == [["giant"]]


def test_a_score_can_come_later(kit, feedback_router, feedback_rows):
    feedback = TryageFeedback(feedback_router, keep=2)
    model = ChatTryage(feedback_router, kit.experts())
    answer = model.invoke(kit.code, {"callbacks": [feedback]})
    run_id = uuid.uuid4()
    model.invoke(kit.prose, {"callbacks": [feedback], "run_id": run_id})
    assert feedback_rows() == []
    feedback.rate(answer, True)
    feedback.rate(run_id, 0.25)
    assert feedback_rows() == [(kit.code, {"coder": 1.0}), (kit.prose, {"writer": 0.25})]
    with pytest.raises(FeedbackError, match="waits for a score, of the last 2"):
        feedback.rate(answer, True)
    waiting = [model.invoke(f"{kit.code}{i}", {"callbacks": [feedback]}) for i in range(3)]
    with pytest.raises(FeedbackError):
        feedback.rate(waiting[0], True)
    with pytest.raises(FeedbackError, match="a score is a number"):
        feedback.rate(waiting[1], 7)
    feedback.rate(waiting[1].id, 1.0)


def test_of_two_threads_that_score_one_answer_one_does(
    kit, feedback_router, feedback_rows, monkeypatch
):
    feedback = TryageFeedback(feedback_router)
    answer = ChatTryage(feedback_router, kit.experts()).invoke(kit.code, {"callbacks": [feedback]})
    both = threading.Barrier(2, timeout=0.5)
    keep = type(feedback_router).feedback

    def slow(router, *args, **options):
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait()
        keep(router, *args, **options)

    monkeypatch.setattr(type(feedback_router), "feedback", slow)
    with ThreadPoolExecutor(2) as pool:
        tries = [pool.submit(feedback.rate, answer, True) for _ in range(2)]
    assert sorted(type(one.exception()) is FeedbackError for one in tries) == [False, True]
    assert len(feedback_rows()) == 1


def test_metadata_of_a_message_do_without_a_callback(kit, feedback_router, feedback_rows):
    answer = ChatTryage(feedback_router, kit.experts()).invoke(kit.prose)
    feedback_router.feedback(answer.response_metadata["tryage"], 0.75, prompt=kit.prose)
    assert feedback_rows() == [(kit.prose, {"writer": 0.75})]


def test_runs_of_other_models_and_declined_scores_leave_nothing(
    kit, feedback_router, feedback_rows
):
    feedback = TryageFeedback(feedback_router, lambda prompt, answer: None)
    kit.Whole(label="other").invoke("hello", {"callbacks": [feedback], "tags": ["expert:coder"]})
    answer = ChatTryage(feedback_router, kit.experts()).invoke(kit.code, {"callbacks": [feedback]})
    assert feedback_rows() == []
    feedback.rate(answer, 1.0)  # what the metric cannot tell, a user may
    assert len(feedback_rows()) == 1


def test_an_answer_that_calls_a_tool_is_not_scored(kit, feedback_router, feedback_rows):
    def add(a: int) -> int:
        """Add one."""
        return a + 1

    def metric(prompt, answer):
        raise AssertionError("a call of a tool is no answer")

    config = {"callbacks": [TryageFeedback(feedback_router, metric)]}
    message = (
        ChatTryage(feedback_router, kit.experts(kit.CallingWhole))
        .bind_tools([add], tool_choice="any")
        .invoke(kit.code, config)
    )
    assert message.tool_calls
    assert feedback_rows() == []


@pytest.mark.parametrize("text_from", ["system_and_last", lambda messages: messages[0].text * 2])
def test_the_text_that_is_kept_is_the_one_that_was_routed(
    kit, feedback_router, feedback_rows, text_from
):
    messages = [SystemMessage("You are a programmer."), HumanMessage(kit.code)]
    model = ChatTryage(feedback_router, kit.experts(), text_from=text_from)
    prompts = []
    metric = lambda prompt, answer: prompts.append(prompt) or 0.5  # noqa: E731
    model.invoke(messages, {"callbacks": [TryageFeedback(feedback_router, metric)]})
    whole = "You are a programmer."
    routed = f"{whole}\n{kit.code}" if isinstance(text_from, str) else whole * 2
    assert [" ".join(text.split()) for text in prompts] == [" ".join(routed.split())]
    assert [prompt for prompt, _ in feedback_rows()] == prompts


def test_dict_inputs_are_scored_too(kit, feedback_router, feedback_rows):
    experts = {name: RunnableLambda(lambda input: "an answer") for name in kit.experts()}
    model = TryageRouter(feedback_router, experts, key="question")
    model.invoke({"question": kit.code}, {"callbacks": [TryageFeedback(feedback_router, length)]})
    assert [prompt for prompt, _ in feedback_rows()] == [kit.code]


@pytest.mark.parametrize("kind", [ChatTryage, TryageRouter, TryageLLM])
def test_no_more_answers_wait_than_are_to_be_kept(kind, kit, feedback_router):
    feedback = TryageFeedback(feedback_router, keep=2)
    model = kind(feedback_router, experts_of(kind, kit))
    for _ in range(5):
        model.invoke(kit.code, {"callbacks": [feedback]})
    assert len(feedback._answered) == 2
