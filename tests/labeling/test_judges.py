"""Judges: orders are swapped, biases cancel, replies that cannot be read are counted."""

import re

import pytest

from tryage.errors import ExpertError, OptionError, PromptError
from tryage.labeling import PairwiseJudge, PointwiseJudge
from tryage.labeling.rows import Row
from tryage.labeling.verdicts import Counts, read_score, read_winner

ROW = Row("1", "What is 2 + 2?", "text-generation", None, "4")
BARE = Row("1", "What is 2 + 2?", "text-generation")
ANSWERS = {"right": "It is 4.", "wrong": "It is 5.", "long": "It is 4, " + "I think, " * 30}

SHOWN = re.compile(r"\[Answer A\]\n(.*?)\n\[Answer B\]\n(.*?)\n\[End\]", re.DOTALL)


def asking(judge):
    """Ask the judge's function as a run would."""

    async def ask(text):
        return judge.model(text)

    return ask


async def scores(judge, answers=ANSWERS, row=ROW, judged=None):
    verdicts = await judge.verdicts(asking(judge), row, answers, judged or list(answers))
    return {name: verdict.score for name, verdict in verdicts.items()}


def fair(text):
    """Prefers the answer with a 4; blind to order and length."""
    first, second = ("4" in answer for answer in SHOWN.search(text).groups())
    return f"Winner: {'tie' if first == second else 'A' if first else 'B'}"


def first_best(text):
    return "I like what I read first. Winner: A"


def fair_but_biased(text):
    """Sees a clear difference; where there is none, the first wins."""
    verdict = fair(text)
    return "Winner: A" if verdict.endswith("tie") else verdict


def longest_best(text):
    first, second = map(len, SHOWN.search(text).groups())
    return f"Winner: {'A' if first > second else 'B'}"


async def test_a_fair_judge_is_read_as_it_judges():
    judge = PairwiseJudge(fair)
    assert await scores(judge) == {"right": 0.75, "wrong": 0.0, "long": 0.75}
    assert judge.counts == Counts(asked=6, pairs=3, first=2, second=2)
    assert judge.counts.first_share == 0.5


async def test_a_bias_for_a_place_is_cancelled_by_showing_both_orders():
    judge = PairwiseJudge(first_best)
    assert await scores(judge) == {"right": 0.5, "wrong": 0.5, "long": 0.5}
    assert (judge.counts.pairs, judge.counts.flipped, judge.counts.first_share) == (3, 3, 1.0)
    assert await scores(PairwiseJudge(fair_but_biased)) == await scores(PairwiseJudge(fair))


async def test_without_both_orders_the_place_decides():
    judge = PairwiseJudge(first_best, swap=False)
    assert await scores(judge) == {"right": 1.0, "wrong": 0.5, "long": 0.0}
    assert judge.counts.asked == 3


async def test_a_bias_for_length_is_not_cancelled():
    """The pitfall that the docs name: orders do not help against it."""
    assert (await scores(PairwiseJudge(longest_best)))["long"] == 1.0


async def test_only_what_is_wanted_is_compared():
    judge = PairwiseJudge(fair)
    assert await scores(judge, judged=["wrong"]) == {"wrong": 0.0}
    assert judge.counts.asked == 4


async def test_equal_answers_are_a_tie_that_nobody_is_asked_about():
    judge = PairwiseJudge(first_best)
    assert await scores(judge, {"one": "4", "other": "4"}) == {"one": 0.5, "other": 0.5}
    assert judge.counts.asked == 0


async def test_against_the_reference_each_answer_stands_alone():
    judge = PairwiseJudge(fair, against="reference")
    assert judge.alone
    assert await scores(judge) == {"right": 0.5, "wrong": 0.0, "long": 0.5}
    with pytest.raises(PromptError, match=r"prompt '1': reference: missing; the judge"):
        judge.check_rows([BARE])
    PairwiseJudge(fair).check_rows([BARE])


async def test_the_reference_is_shown_where_there_is_one():
    requests = []

    def note(text):
        requests.append(text)
        return "Winner: tie"

    for row in (ROW, BARE):
        await scores(PairwiseJudge(note), {"a": "x {0}", "b": "y"}, row)
    assert ["[Reference answer]\n4" in text for text in requests] == [True, True, False, False]
    assert "x {0}" in requests[0]


async def test_a_reply_that_cannot_be_read_fails_the_pair_in_both_orders():
    def mumbles(text):
        first, _ = SHOWN.search(text).groups()
        return "Both have merits." if first == ANSWERS["wrong"] else fair(text)

    judge = PairwiseJudge(mumbles)
    verdicts = await judge.verdicts(asking(judge), ROW, ANSWERS, list(ANSWERS))
    # The pair of the others is read; of a pair with a reply unread neither order counts.
    assert {name: one.score for name, one in verdicts.items()} == {
        "right": 0.5,
        "wrong": None,
        "long": 0.5,
    }
    assert [one.parse_failure for one in verdicts.values()] == [True, True, True]
    assert verdicts["wrong"].error == "the judge's reply could not be read"
    assert verdicts["right"].error is None
    assert judge.counts.parse_failures == 2


async def test_a_judge_that_fails_fails_what_it_was_to_judge():
    async def ask(text):
        raise ExpertError("ConnectionError: reset")

    verdicts = await PairwiseJudge(fair).verdicts(ask, ROW, ANSWERS, ["right"])
    assert verdicts["right"].error == "the judge failed: ConnectionError: reset"
    assert not verdicts["right"].parse_failure


async def test_comparisons_that_the_judge_failed_in_are_not_left_out_of_a_score():
    """A score against some of the others alone would be taken for one against all."""

    async def ask(text):
        shown = SHOWN.search(text).groups()
        if ANSWERS["long"] in shown and ANSWERS["wrong"] in shown:
            raise ExpertError("ConnectionError: reset")
        return "Both have merits." if ANSWERS["long"] in shown else fair(text)

    verdicts = await PairwiseJudge(fair).verdicts(ask, ROW, ANSWERS, list(ANSWERS))
    assert {name: one.score for name, one in verdicts.items()} == {
        "right": 1.0,
        "wrong": None,
        "long": None,
    }
    for name in ("wrong", "long"):
        assert verdicts[name].error == "the judge failed: ConnectionError: reset"
    assert [one.parse_failure for one in verdicts.values()] == [True, False, True]


async def test_a_reading_that_is_no_number_fails_the_cell_and_not_the_run():
    judge = PointwiseJudge(lambda text: "A", parse=lambda reply: reply)
    verdicts = await judge.verdicts(asking(judge), ROW, {"a": "x"}, ["a"])
    assert verdicts["a"].error == "reading the judge's reply gave 'A', which is no number"
    judge = PointwiseJudge(lambda text: "A", parse=lambda reply: float("nan"))
    assert await scores(judge, {"a": "x"}) == {"a": None}
    assert judge.counts.parse_failures == 1


async def test_verdicts_by_degrees_are_flipped_where_the_place_won_twice():
    degrees = iter([0.9, 0.8, 0.9, 0.2])
    judge = PairwiseJudge(lambda text: "", parse=lambda reply: next(degrees))
    answers = {"one": "4", "other": "5"}
    assert await scores(judge, answers) == pytest.approx({"one": 0.55, "other": 0.45})
    assert await scores(judge, answers) == pytest.approx({"one": 0.85, "other": 0.15})
    assert (judge.counts.pairs, judge.counts.flipped) == (2, 1)


async def test_nobody_to_compare_with():
    judge = PairwiseJudge(fair)
    verdicts = await judge.verdicts(asking(judge), ROW, {"right": "4"}, ["right"])
    assert "no other expert answered" in verdicts["right"].error


async def test_a_grade_is_put_on_the_scale():
    judge = PointwiseJudge(lambda text: "Good. Score: 7")
    assert await scores(judge, {"a": "x"}) == {"a": pytest.approx(6 / 9)}
    stars = PointwiseJudge(lambda text: "4", scale=(0, 5))
    assert await scores(stars, {"a": "x"}) == {"a": 0.8}


@pytest.mark.parametrize("reply", ["I would not say.", "Score: 11", "Score: -3", ""])
async def test_a_grade_that_cannot_be_read_is_counted_and_never_guessed(reply):
    judge = PointwiseJudge(lambda text: reply)
    assert await scores(judge, {"a": "x"}) == {"a": None}
    assert judge.counts.parse_failures == 1


async def test_a_template_and_a_reading_of_ones_own():
    requests = []

    def model(text):
        requests.append(text)
        return "yes"

    judge = PointwiseJudge(
        model,
        template="Is {answer} right? It should be {reference}.",
        parse=lambda reply: float(reply == "yes"),
        scale=(0, 1),
    )
    assert await scores(judge, {"a": "four"}) == {"a": 1.0}
    assert requests == ["Is four right? It should be 4."]
    assert judge.needs_reference

    broken = PointwiseJudge(model, parse=lambda reply: {}[reply])
    verdicts = await broken.verdicts(asking(broken), ROW, {"a": "x"}, ["a"])
    assert verdicts["a"].error == "reading the judge's reply failed: KeyError: 'yes'"


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (PointwiseJudge, {"template": "Is it right?"}, "the template of the judge lacks answer"),
        (PairwiseJudge, {"template": "{first} {secnd}"}, "lacks second"),
        (PointwiseJudge, {"template": "{answer} {extra}"}, "has the unknown field extra"),
        (PointwiseJudge, {"template": "{answer"}, "cannot be read"),
        (PointwiseJudge, {"template": "{answer!z}"}, "cannot be read"),
        (PointwiseJudge, {"template": "{answer:>q}"}, "cannot be read"),
        (PairwiseJudge, {"template": "{first} {second} {low}"}, "has the unknown field low"),
        (PointwiseJudge, {"scale": (5, 5)}, "its first number is the lower one"),
        (PairwiseJudge, {"against": "others"}, "it is 'each other' or 'reference'"),
    ],
)
def test_wrong_judges(kind, options, message):
    with pytest.raises(OptionError, match=message):
        kind(fair, **options)


def test_what_scores_depend_on_tells_judges_apart():
    kinds = [
        PairwiseJudge(fair),
        PairwiseJudge(first_best),
        PairwiseJudge(fair, swap=False),
        PairwiseJudge(fair, against="reference"),
        PairwiseJudge(fair, name="gpt"),
        PairwiseJudge(fair, template="{first} or {second}?"),
        PointwiseJudge(fair),
        PointwiseJudge(fair, scale=(0, 1)),
    ]
    settings = [repr(judge.settings()) for judge in kinds]
    assert len(set(settings)) == len(settings)
    wrapped = kinds[0].over(lambda text: fair(text))
    assert wrapped.settings() == kinds[0].settings()
    assert wrapped.counts is kinds[0].counts


@pytest.mark.parametrize(
    ("reply", "won"),
    [
        ("Winner: A", 1.0),
        ("... so the winner is B.", 0.0),
        ("**Winner:** Answer B", 0.0),
        ("The winner is a tie", 0.5),
        ("winner: Tie", 0.5),
        ("Winner: A? No. Winner: B", 0.0),
        ("[[A]]", 1.0),
        ("Winner: A. A is shorter", 1.0),
        ("Winner: A or B", None),
        ("Winner: Answer A / Answer B", None),
        ("The winner is a bit unclear", None),
        ("A is good, B is better", None),
        ("", None),
    ],
)
def test_reading_a_winner(reply, won):
    assert read_winner(reply) == won


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Score: 7", 7),
        ("It has 3 errors.\n**Score:** 4.5", 4.5),
        ("Rating - 8/10", 8),
        ("Score: -3", -3),
        (" 9. ", 9),
        ("Score (1-10): 7", 7),
        ("**Score** [out of 10]: 3.5", 3.5),
        ("Score: 9 (out of 10)", 9),
        ("Score: 8 - 2 slips", 8),
        ("Score: 1-2", None),
        ("Score: 10-12", None),
        ("score from 1 to 10; score 1 to 10", None),
        ("7 or 8", None),
        ("It is fine.", None),
    ],
)
def test_reading_a_score(reply, score):
    assert read_score(reply) == score
