"""Checked answers: escalation along the plan, failover beside it, one record of both."""

import asyncio
import threading
from dataclasses import replace

import pytest

from tryage.checks import Check, agrees_with
from tryage.dispatch import (
    Checker,
    DispatchOptions,
    adispatch,
    adispatch_batch,
    adispatch_stream,
    dispatch,
    dispatch_batch,
    dispatch_stream,
    record,
)
from tryage.errors import DispatchError, RejectedError
from tryage.plans import Plan, PlannedAttempt


@pytest.fixture
def planned(decide):
    """A decision among a, b, c, d whose plan is the first `most` of them."""

    def make(*names, most=3):
        attempts = tuple(PlannedAttempt(name, 1.0, 0.5, 0.01) for name in names[:most])
        plan = Plan(attempts, 0.1, 0.01, 0.9, 0.1, "check", 0.9, 0.1)
        return replace(decide(*names), plan=plan)

    return make


def only(*good):
    """A check that accepts the answers of some experts."""
    return Check(lambda prompt, answer: answer.split()[0] in good)


def answer(name):
    return f"{name} says"


async def aanswer(name):
    return answer(name)


def chunks(name):
    yield f"{name} "
    yield "says"


async def achunks(name):
    for chunk in chunks(name):
        yield chunk


def checked(check, **options):
    return DispatchOptions(check=check, **options)


def joined(check):
    return Check(lambda prompt, pieces: check.function(prompt, "".join(pieces)))


def test_a_rejected_answer_goes_to_the_next_expert_of_the_plan(planned):
    outcome = dispatch(planned("a", "b", "c"), answer, checked(only("b")))
    assert (outcome.value, outcome.answered_by, outcome.accepted) == ("b says", "b", True)
    assert [(a.expert, a.accepted, a.value) for a in outcome.tried] == [
        ("a", False, 0.0),
        ("b", True, 1.0),
    ]
    assert outcome.tried[0].to_dict()["cost"] == 0.01


def test_nobody_beyond_the_plan_is_asked_after_a_rejection(planned):
    called = []

    def call(name):
        called.append(name)
        return answer(name)

    outcome = dispatch(planned("a", "b", "c", most=2), call, checked(only("c")))
    assert called == ["a", "b"]
    assert outcome.accepted is False


def test_failover_goes_beyond_the_plan(planned):
    def call(name):
        if name in ("a", "b"):
            raise OSError("down")
        return answer(name)

    outcome = dispatch(planned("a", "b", "c", most=2), call, checked(only("c")))
    assert outcome.answered_by == "c"
    assert [bool(a.error) for a in outcome.tried] == [True, True, False]


def test_failures_and_rejections_share_one_record(planned):
    def call(name):
        if name == "b":
            raise OSError("down")
        return answer(name)

    decision = planned("a", "b", "c")
    outcome = dispatch(decision, call, checked(only("c")))
    dispatched = record(decision, outcome)
    row = dispatched.to_dict()
    assert [(t["expert"], t["error"], t.get("accepted")) for t in row["tried"]] == [
        ("a", None, False),
        ("b", "OSError: down", None),
        ("c", None, True),
    ]
    assert (row["accepted"], row["answered_by"]) == (True, "c")
    explanation = dispatched.explain()
    assert "Tried: a's answer was rejected" in explanation
    assert "Tried: b failed with OSError: down" in explanation


def test_the_explanation_names_the_value_of_a_check_and_that_nothing_was_accepted(planned):
    values = {"a": 0.2, "b": 0.4567}
    check = Check(lambda prompt, answer: values[answer.split()[0]])
    decision = planned("a", "b")
    explanation = record(decision, dispatch(decision, answer, checked(check))).explain()
    assert explanation.splitlines()[-3:] == [
        "Tried: a's answer was rejected, value 0.2",
        "Tried: b's answer was rejected, value 0.457",
        "Answered by b (no answer was accepted)",
    ]


def test_the_best_value_goes_out_where_nothing_is_accepted(planned):
    values = {"a": 0.2, "b": 0.4, "c": 0.3}
    check = Check(lambda prompt, answer: values[answer.split()[0]])
    outcome = dispatch(planned("a", "b", "c"), answer, checked(check))
    assert (outcome.answered_by, outcome.accepted) == ("b", False)


def test_the_best_prediction_goes_out_among_equal_values(planned):
    decision = planned("a", "b", "c")
    losses = decision.losses.copy()
    losses[decision.names.index("b")] = losses.min() - 1
    outcome = dispatch(replace(decision, losses=losses), answer, checked(only()))
    assert outcome.answered_by == "b"


def test_rejection_can_be_an_error_with_all_answers(planned):
    with pytest.raises(RejectedError, match="rejected every answer: a, b, c") as caught:
        dispatch(planned("a", "b", "c"), answer, checked(only(), on_rejected="raise"))
    assert caught.value.answers == {n: f"{n} says" for n in "abc"}
    assert len(caught.value.tried) == 3


def test_where_all_fail_that_is_the_error(planned):
    def call(name):
        raise OSError("down")

    with pytest.raises(DispatchError):
        dispatch(planned("a", "b"), call, checked(only("a")))


def test_a_check_that_raises_counts_as_said(planned):
    def broken(prompt, answer):
        raise KeyError("bug")

    strict = dispatch(planned("a", "b"), answer, checked(Check(broken)))
    assert strict.accepted is False
    assert strict.tried[0].reason == "broken failed: KeyError: 'bug'"
    lenient = dispatch(planned("a", "b"), answer, checked(Check(broken, on_error="accept")))
    assert (lenient.answered_by, lenient.accepted) == ("a", True)


def test_a_check_that_hangs_is_timed_out(planned):
    release = threading.Event()

    def slow(prompt, answer):
        return release.wait(60)

    outcome = dispatch(planned("a"), answer, checked(Check(slow, timeout=0.05)))
    release.set()
    assert "slow did not answer within 0.05 s" in outcome.tried[0].reason


async def test_an_awaited_check_that_hangs_is_timed_out(planned):
    async def slow(prompt, answer):
        await asyncio.sleep(30)

    outcome = await adispatch(planned("a"), aanswer, checked(Check(slow, timeout=0.05)))
    assert "did not answer within 0.05 s" in outcome.tried[0].reason


async def test_coroutine_functions_check_in_both_worlds(planned):
    async def later(prompt, answer):
        await asyncio.sleep(0)
        return answer.startswith("b")

    outcome = await adispatch(planned("a", "b"), aanswer, checked(later))
    assert outcome.answered_by == "b"
    # Blocking code on a running loop.
    assert dispatch(planned("a", "b"), answer, checked(later)).answered_by == "b"
    outcome = await asyncio.to_thread(dispatch, planned("a", "b"), answer, checked(later))
    assert outcome.answered_by == "b"


async def test_every_kind_of_dispatch_escalates(planned):
    decision, options = planned("a", "b", "c"), checked(only("b"))
    assert (await adispatch(decision, aanswer, options)).answered_by == "b"
    of_chunks = checked(joined(only("b")))
    stream = dispatch_stream(decision, chunks, of_chunks)
    assert "".join(stream) == "b says"
    assert (stream.answered_by, stream.accepted) == ("b", True)
    astream = adispatch_stream(decision, achunks, of_chunks)
    assert "".join([chunk async for chunk in astream]) == "b says"
    assert (astream.answered_by, astream.accepted) == ("b", True)

    def rows(name, numbers):
        return [answer(name) for _ in numbers]

    async def arows(name, numbers):
        return rows(name, numbers)

    for outcomes in (
        dispatch_batch([decision, planned("b", "a")], rows, options),
        await adispatch_batch([decision, planned("b", "a")], arows, options),
    ):
        assert [(o.answered_by, o.accepted, len(o.tried)) for o in outcomes] == [
            ("b", True, 2),
            ("b", True, 1),
        ]


def test_a_batch_without_an_accepted_answer(planned):
    def rows(name, numbers):
        return [answer(name) for _ in numbers]

    (outcome,) = dispatch_batch([planned("a", "b")], rows, checked(only()))
    assert outcome.accepted is False
    (error,) = dispatch_batch([planned("a", "b")], rows, checked(only(), on_rejected="raise"))
    assert isinstance(error, RejectedError)


def test_a_stream_without_an_accepted_answer(planned):
    stream = dispatch_stream(planned("a", "b"), chunks, checked(joined(only())))
    assert "".join(stream) in ("a says", "b says")
    assert stream.accepted is False


def test_a_stream_that_dies_before_it_is_checked_fails_over(planned):
    def dying(name):
        yield f"{name} "
        if name == "a":
            raise OSError("cut")
        yield "says"

    stream = dispatch_stream(planned("a", "b"), dying, checked(joined(only("b"))))
    assert list(stream) == ["b ", "says"]


async def test_an_unchecked_stream_reports_at_its_end(planned):
    options = checked(joined(only("b")), stream_unchecked=True)
    stream = dispatch_stream(planned("a", "b"), chunks, options)
    assert next(stream) == "a "
    assert stream.accepted is None
    assert list(stream) == ["says"]
    assert stream.accepted is False
    assert stream.tried[0].accepted is False
    astream = adispatch_stream(planned("a", "b"), achunks, options)
    assert [chunk async for chunk in astream] == ["a ", "says"]
    assert astream.accepted is False


def test_checks_may_ask_another_expert(planned):
    check = agrees_with("b")
    calls = []

    def ask(name, text):
        calls.append((name, text))
        return "c says"

    decision = planned("a", "c")
    checker = Checker(check, decision.prompt, ask=ask)
    outcome = dispatch(decision, answer, checked(check), checker=checker)
    assert (outcome.answered_by, calls) == ("c", [("b", None)])  # asked once for both answers


def test_nobody_is_asked_where_the_verdict_changes_nothing(planned):
    calls = []

    def ask(name, text):
        calls.append(name)
        return "another answer"

    check, decision = agrees_with("b"), planned("a", "c", most=1)
    checker = Checker(check, decision.prompt, ask=ask)
    outcome = dispatch(decision, answer, checked(check), checker=checker)
    assert (outcome.accepted, calls) == (None, [])
    with pytest.raises(RejectedError):
        dispatch(decision, answer, checked(check, on_rejected="raise"), checker=checker)
    assert calls == ["b"]


def test_without_a_check_nothing_changes(planned):
    outcome = dispatch(planned("a", "b"), answer)
    assert (outcome.answered_by, outcome.accepted) == ("a", None)
    assert set(outcome.tried[0].to_dict()) == {"expert", "error", "seconds", "cost"}


def test_what_cannot_be_an_option():
    with pytest.raises(ValueError, match="on_rejected is 'ignore'"):
        DispatchOptions(on_rejected="ignore")
