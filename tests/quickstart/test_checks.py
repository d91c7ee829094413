"""The quickstart's own experts answer, are measured, checked and escalated, in both frameworks."""

import json

import pytest
from llama_index.core.base.llms.types import ChatMessage

from langchain_tryage import ChatTryage
from llama_index_tryage import TryageLLM
from tryage import Library, Router, ScoreTable
from tryage.checks import Check
from tryage.labeling import label

CODE = "#{};_<>*"


def is_its_kind(answer, reference):
    """1 if the answer has marks of code just where the text that it goes on with is code."""
    return float(any(mark in answer for mark in CODE) is (reference == "headers"))


def goes_on(prompt, answer):
    """Whether prompt and answer both have marks of code, or both have none."""
    return any(mark in answer for mark in CODE) is any(mark in prompt for mark in CODE)


def prompts(out, name):
    """The texts of the quickstart's own prompts, cut short, with their kind as the reference."""
    lines = (out / "prompts" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        {"prompt": row["prompt"][:60], "reference": row["group"], "group": row["group"]}
        for row in rows
    ]


@pytest.fixture(scope="module")
def checked(tiny_run, tmp_path_factory):
    """A router over what the writers answered, and the check as it was measured on that."""
    out = tiny_run[0] / "out"
    library = Library.read(out / "library.yaml").of_task("text-generation")
    answers = tmp_path_factory.mktemp("answers") / "answers"
    label(
        library,
        prompts(out, "label"),
        answers,
        metric=is_its_kind,
        max_new_tokens=12,
        keep_answers=True,
    )
    router = Router.fit(ScoreTable.read(answers), library=library, predictor="clusters")
    measured, report = router.measure_check(Check(goes_on), answers)
    return measured, report, [row["prompt"] for row in prompts(out, "test")]


def answers(router, texts):
    """What both frameworks' models answer to every prompt, and what they say of it."""
    chat = ChatTryage(router, check=Check(goes_on))
    llm = TryageLLM(router, check=Check(goes_on))
    for text in texts:
        message = chat.invoke(text)
        yield text, message.text, message.response_metadata["tryage"]
        response = llm.chat([ChatMessage(text)])
        yield text, response.message.content, response.additional_kwargs["tryage"]
        last = list(llm.stream_chat([ChatMessage(text)]))[-1]
        yield text, last.message.content, last.additional_kwargs["tryage"]


def test_the_check_is_measured_on_what_the_experts_wrote(checked):
    _, report, _ = checked
    right, wrong = report.pooled
    assert min(right.count, wrong.count) > 10
    assert right.value > wrong.value + 0.3


def test_the_next_expert_is_asked_where_the_check_rejects(checked):
    router, report, texts = checked
    tried = {1: 0, 2: 0}
    for text, answer, record in answers(router, texts):
        check = record["plan"]["check"]
        assert (check["name"], check["assumed"]) == (report.check, False)
        verdicts = [attempt["accepted"] for attempt in record["tried"]]
        assert verdicts[:-1] == [False] * (len(verdicts) - 1)
        assert record["accepted"] is verdicts[-1]
        assert record["accepted"] is goes_on(text, answer)
        tried[len(verdicts)] += 1
    assert all(tried.values()), f"at once, and after another: {tried}"
