"""The user's question is found in what a chain builds around it."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tryage.questions import MOST_CHARACTERS, MOST_SPANS, question_spans

_spec = importlib.util.spec_from_file_location("chains", Path(__file__).parent / "chains.py")
chains = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(chains)

QUESTION = "What is the capital of Peru?"
CONTEXT = "Norway is a country. Its capital is Oslo.\nTrains run hourly; a ticket costs 12 euros."
ANSWERED = "Some notes.\nQuestion: Add 12 and 30.\nAnswer: 42\nQuestion: Spell it.\nAnswer: I T"
TEMPLATES = {
    "question first": "Use the context to answer.\nQuestion: {q} \nContext: {c} \nAnswer:",
    "question last": "Use these pieces of context.\n\n{c}\n\nQuestion: {q}\nHelpful Answer:",
    "query": "Context information is below.\n-----\n{c}\n-----\nAnswer it.\nQuery: {q}\nAnswer: ",
    "refine": "The original query is as follows: {q}\nWe have provided an existing answer: 7.\n"
    "We have more context below.\n------------\n{c}\n------------\nRefined Answer: ",
    "last paragraph": "{c}\n\n{q}",
    "first paragraph": "{q}\n\nUse this context:\n{c}",
    "tags": "<context>\n{c}\n</context>\n\n<question>{q}</question>\nAnswer from the context.",
    "headings": "## Instructions\nBe brief.\n\n## Context\n{c}\n\n## Question\n{q}\n\n## Answer\n",
    "turns": "Human: Hello\nAI: Hello!\nHuman: Read this. {c}\nAI: Thank you.\nHuman: {q}\nAI:",
    "German": "Kontext: {c}\n\nFrage: {q}\nAntwort:",
    "Chinese": "背景：{c}\n问题：{q}\n回答：",
    "quoted": 'Answer from the text. Text: """{c}""" The user asks: "{q}"',
}


def parts(text):
    return [text[span.start : span.end] for span in question_spans(text)]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize(
    "context", [CONTEXT, ANSWERED, CONTEXT * 200], ids=["plain", "faq", "long"]
)
def test_the_question_is_among_the_first_parts(name, context):
    text = TEMPLATES[name].format(q=QUESTION, c=context)
    found = parts(text)
    assert QUESTION in found[:5], found[:5]


def test_a_question_before_all_documents_comes_first():
    hostile = "Notes.\nQuestion: Add 12 and 30."
    text = TEMPLATES["question first"].format(q=QUESTION, c=hostile)
    assert parts(text)[0] == QUESTION


def test_of_several_open_questions_the_last_comes_first():
    hostile = "Notes.\nQuestion: Add 12 and 30."
    text = TEMPLATES["question last"].format(q=QUESTION, c=hostile)
    found = parts(text)
    assert found.index(QUESTION) < found.index("Add 12 and 30.")


def test_an_answered_question_is_an_example():
    text = f"Question: Add 2 and 2.\nAnswer: 4\nQuestion: {QUESTION}\nAnswer:"
    assert parts(text)[0] == QUESTION


def test_the_chain_s_own_words_after_the_question_are_left_out():
    text = f"Documents:\n[1] {CONTEXT}\n\nUser question: {QUESTION}\n\nGive citations."
    assert QUESTION in parts(text)[:3]


def test_a_bare_question_has_no_parts():
    assert parts(QUESTION) == []
    assert parts("") == []


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("abQ:?. \n<>/#\"'“”`-\u3002：")), st.integers(1, 40))
def test_parts_are_bounded_and_lie_inside(piece, times):
    text = piece * times
    spans = question_spans(text)
    assert len(spans) <= MOST_SPANS
    assert len(set(spans)) == len(spans)
    assert sum(span.end - span.start for span in spans) <= MOST_CHARACTERS
    for span in spans:
        part = text[span.start : span.end]
        assert part == part.strip()
        assert part


def test_only_the_ends_of_a_long_prompt_are_read():
    class Counting(str):
        """Counts the characters that are taken out of it."""

        read = 0

        def __getitem__(self, key):
            part = str.__getitem__(self, key)
            type(self).read += len(part)
            return part

    for unit in ('"', "<a ", "a: ", "# a\n", "\n\n", ". "):
        Counting.read = 0
        question_spans(Counting(unit * 100_000))
        assert Counting.read < 60_000, unit


def test_a_batch_says_which_part_decided_for_each_prompt():
    router, held_out = chains.fitted()
    asked = [question for question, _ in held_out[:4]]
    template = TEMPLATES["question last"]
    prompts = [
        asked[0],
        *(template.format(q=question, c=CONTEXT) for question in asked[1:]),
        "77 @",
    ]
    decisions = router.route_batch(prompts)
    assert [d.question for d in decisions] == [router.route(p).question for p in prompts]
    assert [d.question is None for d in decisions] == [True, False, False, False, True]
    for question, prompt, decision in zip(asked[1:], prompts[1:4], decisions[1:4], strict=True):
        start, end = decision.question
        assert prompt[start:end] == question
        sentence = f"Routed by characters {start} to {end} of the prompt"
        assert sentence in decision.explain()
