"""Choosing by cards: what a language model is asked, and what its answer means."""

import numpy as np
import pytest

from tryage.encoders import StaticEncoder
from tryage.errors import LibraryError
from tryage.evaluation.baselines import NO_CHOICE, CardSelector, PromptedSelector

CARDS = {
    "code": "source code in Python and C",
    "code-large": "source code, by a larger model",
    "legal": "contracts in legal language",
}


def test_the_model_sees_cards_and_prompt_and_its_answers_become_columns():
    questions = []

    def ask(question):
        questions.append(question)
        return "legal" if "hereby" in question else "code-large"

    choices = PromptedSelector(ask, CARDS).choose(
        ["The parties hereby agree.", "def f(x): return x"]
    )
    assert choices.tolist() == [2, 1]
    assert "- legal: contracts in legal language" in questions[0]
    assert "def f(x): return x" in questions[1]
    assert "hereby" not in questions[1]


@pytest.mark.parametrize(
    ("answer", "column"),
    [
        ("code", 0),
        ("The best one is `Code-Large`.", 1),
        ("code-large, because code-large is larger", 1),
        ("legal or code", NO_CHOICE),
        ("codes", NO_CHOICE),
        ("none of them", NO_CHOICE),
        ("", NO_CHOICE),
    ],
)
def test_an_answer_counts_if_it_names_one_expert(answer, column):
    assert PromptedSelector(str, CARDS).column_of(answer) == column


def test_places_in_a_prompt_are_text():
    question = PromptedSelector(str, CARDS).question_about("What does {cards} mean?")
    assert question.count("contracts in legal language") == 1
    assert "What does {cards} mean?" in question


def test_a_long_prompt_is_cut():
    question = PromptedSelector(str, CARDS, longest=10).question_about("0123456789abc")
    assert "0123456789" in question
    assert "9a" not in question


def test_an_error_of_the_model_is_passed_on():
    def ask(question):
        raise TimeoutError("no answer")

    with pytest.raises(TimeoutError, match="no answer"):
        PromptedSelector(ask, CARDS).choose(["x"])


def test_a_question_without_its_places_is_refused():
    with pytest.raises(ValueError, match=r"no \{prompt\}"):
        PromptedSelector(str, CARDS, question="Which of {cards}?")


@pytest.mark.parametrize(
    "make", [lambda: PromptedSelector(str, {}), lambda: CardSelector(StaticEncoder.bundled(), {})]
)
def test_without_cards_there_is_nothing_to_choose(make):
    with pytest.raises(LibraryError, match="no cards"):
        make()


def test_the_nearest_card_is_chosen():
    encoder = StaticEncoder.bundled()
    selector = CardSelector(encoder, CARDS)
    prompts = ["The contract and its legal terms", "Python source code", *CARDS.values()]
    choices = selector.choose(prompts)
    assert choices[0] == 2
    assert choices[2:].tolist() == [0, 1, 2]  # a card is nearest to itself
    cosines = encoder.encode(prompts) @ encoder.encode(list(CARDS.values())).T
    assert np.array_equal(choices, cosines.argmax(axis=1))
