"""Checks: what they accept, what their findings mean, and what cannot be a check."""

import pytest
from pydantic import BaseModel

from tryage.checks import (
    Check,
    CheckedAnswer,
    agrees_with,
    all_of,
    any_of,
    confident,
    judged_by,
    matches,
    valid_json,
)
from tryage.errors import CheckError


class City(BaseModel):
    """A city."""

    name: str
    people: int


def accepts(check, answer, prompt="p", **context):
    return check.verdict(check.find(CheckedAnswer(prompt, answer, **context))).accepted


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        ('{"name": "Oslo", "people": 700000}', True),
        ('```json\n{"name": "Oslo", "people": 7}\n```', True),
        ('{"name": "Oslo"}', False),
        ('{"name": "Oslo", "people": "many"}', False),
        ("Oslo", False),
        ("[" * 100_000, False),
        (City(name="Oslo", people=1), True),
    ],
)
def test_json_must_fit_its_model(answer, fits):
    assert accepts(valid_json(City), answer) is fits


def test_any_json_where_no_schema_is_given():
    assert accepts(valid_json(), "[1, 2]")
    assert not accepts(valid_json(), "[1, 2")


def test_json_schema():
    pytest.importorskip("jsonschema")
    check = valid_json({"type": "object", "required": ["a"]})
    assert accepts(check, '{"a": 1}')
    assert not accepts(check, '{"b": 1}')


def test_a_pattern_is_searched_for():
    assert accepts(matches(r"\d+ euros"), "It costs 12 euros.")
    assert not accepts(matches(r"\A\d+\Z"), "It costs 12 euros.")


def test_agreement_asks_the_other_expert():
    calls = []

    def ask(name, text=None):
        calls.append((name, text))
        return "oslo."

    assert accepts(agrees_with("other"), "Oslo", expert="first", ask=ask)
    assert not accepts(agrees_with("other"), "Bergen", expert="first", ask=ask)
    assert calls == [("other", None)] * 2
    assert agrees_with("other").asks == ("other",)
    assert agrees_with(lambda prompt: prompt).asks == ()


def test_nobody_agrees_with_himself():
    check = agrees_with("other", unclear="reject")
    verdict = check.verdict(check.find(CheckedAnswer("p", "a", expert="other")))
    assert (verdict.accepted, verdict.reason) == (False, "agrees_with could not tell")


def test_a_similarity_of_ones_own():
    check = agrees_with(lambda prompt: "12", similarity=lambda a, b: 0.8, threshold=0.9)
    assert not accepts(check, "12")
    assert accepts(agrees_with(lambda prompt: "12", similarity=lambda a, b: 0.9), "x")


def test_asking_by_name_needs_a_router():
    with pytest.raises(CheckError, match="only a router with experts can call"):
        agrees_with("other").find(CheckedAnswer("p", "a"))


@pytest.mark.parametrize(
    ("reply", "accepted"), [("Yes.", True), ("No, it is not.", False), ("yes... NO", False)]
)
def test_a_judge_says_yes_or_no(reply, accepted):
    requests = []

    def model(text):
        requests.append(text)
        return reply

    assert accepts(judged_by(model, "Is it polite?"), "Good day", prompt="Hi") is accepted
    assert all(part in requests[0] for part in ("Is it polite?", "Good day", "Hi"))


def test_a_judge_that_says_neither_cannot_tell():
    check = judged_by(lambda text: "Hm.")
    assert check.find(CheckedAnswer("p", "a")) is None


def test_confidence_is_the_mean_log_probability():
    check = confident(-0.5)
    assert accepts(check, "a", logprobs=[-0.4, -0.6])
    assert not accepts(check, "a", logprobs=[-0.4, -0.7])
    assert check.find(CheckedAnswer("p", "a")) is None
    with pytest.raises(CheckError, match="0 or less"):
        confident(0.5)


def yes(prompt, answer):
    return True


def no(prompt, answer):
    return False


def unknown(prompt, answer):
    return None


@pytest.mark.parametrize(
    ("combine", "parts", "finding"),
    [
        (all_of, [yes, yes], True),
        (all_of, [yes, no], False),
        (all_of, [unknown, no], False),
        (all_of, [yes, unknown], None),
        (any_of, [no, yes], True),
        (any_of, [unknown, yes], True),
        (any_of, [no, no], False),
        (any_of, [no, unknown], None),
    ],
)
def test_combinations_have_three_truth_values(combine, parts, finding):
    assert combine(*parts).find(CheckedAnswer("p", "a")) is finding


def test_rates_combine_as_if_independent():
    one = Check(yes, accepts_right=0.9, accepts_wrong=0.2)
    other = Check(no, accepts_right=0.5, accepts_wrong=0.5)
    both, either = all_of(one, other), any_of(one, other)
    assert (both.accepts_right, both.accepts_wrong) == pytest.approx((0.45, 0.1))
    assert (either.accepts_right, either.accepts_wrong) == pytest.approx((0.95, 0.6))
    assert all_of(one, yes).accepts_right is None


@pytest.mark.parametrize(
    ("finding", "accepted", "value"),
    [(True, True, 1.0), (False, False, 0.0), (0.5, True, 0.5), (0.49, False, 0.49)],
)
def test_what_a_finding_means(finding, accepted, value):
    verdict = Check(yes).verdict(finding)
    assert (verdict.accepted, verdict.value, verdict.reason) == (accepted, value, None)


@pytest.mark.parametrize("finding", ["yes", float("nan"), object()])
def test_a_finding_that_means_nothing(finding):
    with pytest.raises(CheckError, match=r"check 'yes' returned .*; it returns True, False"):
        Check(yes).verdict(finding)


def test_none_and_failures_mean_what_the_caller_says():
    strict = Check(yes, unclear="reject", on_error="accept")
    assert not strict.verdict(None).accepted
    assert strict.failed("OSError").accepted
    lenient = Check(yes)
    assert lenient.verdict(None).accepted
    assert not lenient.failed("OSError").accepted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accepts_right": 1.1}, "accepts_right is 1.1; it is a chance from 0 to 1"),
        ({"accepts_wrong": -0.1}, "accepts_wrong is -0.1"),
        ({"accepts_wrong": True}, "accepts_wrong is True"),
        ({"unclear": "maybe"}, "unclear is 'maybe'; it is 'accept' or 'reject'"),
        ({"timeout": 0}, "timeout is 0; it is above 0 seconds"),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(CheckError, match=words):
        Check(yes, **options)


def test_what_is_no_check():
    with pytest.raises(CheckError, match="a check is a function"):
        Check("valid_json")
    with pytest.raises(CheckError, match="no check to combine"):
        all_of()


def test_coroutine_functions_are_known_and_not_combined():
    async def later(prompt, answer):
        return True

    assert Check(later).is_async
    assert not Check(yes).is_async
    with pytest.raises(CheckError, match="coroutine function, which cannot be combined"):
        any_of(later)
