"""What to expect of a plan, how experts fail together, and the plan as people read it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tryage.checks import Check, agrees_with, judged_by
from tryage.errors import CheckError
from tryage.plans import (
    LEVELS,
    JointSuccess,
    Nodes,
    Reference,
    expect,
    make_plan,
    realised,
    reliability,
)

NAMES = ("cheap", "middle", "dear")
LOSSES = np.array([0.4, 0.3, 0.1])
COSTS = np.array([0.001, 0.004, 0.02])


def accept(prompt, answer):
    return True


def plan(check=None, weight=1.0, losses=LOSSES, joint=None, most=3, measured=None, names=NAMES):
    check = check or Check(accept, accepts_right=0.9, accepts_wrong=0.1)
    prices = weight * COSTS
    return make_plan(
        check,
        reliability(check, names, measured),
        names=names,
        losses=losses,
        totals=losses + prices,
        attempt_prices=prices,
        costs=COSTS,
        tie_rank=np.arange(3),
        joint=joint or JointSuccess(np.full(3, 0.5)),
        max_attempts=most,
    )


def test_a_perfect_check_tries_the_cheap_expert_first():
    chosen = plan(Check(accept, accepts_right=1.0, accepts_wrong=0.0), weight=4.0)
    assert chosen.experts[0] == "cheap"
    assert chosen.experts[-1] == "dear"
    assert chosen.attempts[0].reached == 1.0
    assert chosen.attempts[1].reached == pytest.approx(0.4)
    assert chosen.loss < 0.1
    expected = sum(a.reached * a.cost for a in chosen.attempts)
    assert chosen.cost == pytest.approx(expected)


def test_one_attempt_is_the_plain_decision():
    chosen = plan(most=1)
    assert chosen.experts == ("dear",)
    assert chosen.loss == pytest.approx(0.1)
    assert chosen.total == pytest.approx(float((LOSSES + COSTS).min()))


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 20), st.floats(1.0, 10.0))
def test_a_larger_weight_on_cost_never_raises_the_expected_cost(right, wrong, weight, factor):
    check = Check(accept, accepts_right=right, accepts_wrong=wrong)
    assert plan(check, weight * factor).cost <= plan(check, weight).cost + 1e-9


def test_experts_that_the_check_asks_are_paid_for():
    rates = {"accepts_right": 0.95, "accepts_wrong": 0.1}
    once = plan(agrees_with("middle", **rates), weight=4.0)
    first, *rest = once.attempts
    assert first.cost == pytest.approx(COSTS[NAMES.index(first.expert)] + 0.004)
    assert rest
    for attempt in rest:
        assert attempt.cost == pytest.approx(COSTS[NAMES.index(attempt.expert)])
    again = plan(judged_by("middle", **rates), weight=4.0)
    assert len(again.attempts) > 1
    for attempt in again.attempts:
        assert attempt.cost == pytest.approx(COSTS[NAMES.index(attempt.expert)] + 0.004)


def test_a_plan_of_one_attempt_asks_nobody():
    check = agrees_with("middle", accepts_right=0.5, accepts_wrong=0.5)
    chosen = plan(check)
    assert chosen.experts == ("dear",)
    assert chosen.cost == pytest.approx(0.02)
    assert chosen.total == pytest.approx(0.12)


def test_rates_come_from_the_check_then_the_router_then_an_assumption():
    measured = {"": (0.8, 0.3), "dear": (0.7, 0.2)}
    rates = reliability(Check(accept), NAMES, measured)
    assert rates.accepts_right.tolist() == [0.8, 0.8, 0.7]
    assert rates.accepts_wrong.tolist() == [0.3, 0.3, 0.2]
    assert not rates.assumed
    stated = reliability(Check(accept, accepts_right=0.6), NAMES, measured)
    assert stated.accepts_right.tolist() == [0.6] * 3
    assert stated.accepts_wrong.tolist() == [0.3, 0.3, 0.2]
    assumed = reliability(Check(accept), NAMES, None)
    assert (assumed.accepts_right[0], assumed.accepts_wrong[0]) == (0.9, 0.1)
    assert assumed.assumed


def test_the_plan_reads_well():
    chosen = plan(Check(accept, accepts_right=1.0, accepts_wrong=0.0, name="tests"), weight=4.0)
    first, second, *_ = chosen.explain()
    assert first.startswith("Plan: expected loss 0.")
    assert "check tests (accepts 100% of right and 0% of wrong)" in first
    assert second == "  1. cheap  reached 100%, loss 0.4000, 1 USD per 1000"
    assert chosen.to_dict()["check"]["name"] == "tests"
    assert "assumed" in plan(Check(accept)).explain()[0]


def test_no_attempt_is_refused():
    with pytest.raises(CheckError, match="max_attempts is 0"):
        plan(most=0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=4), st.floats(0, 1))
def test_levels_keep_the_predicted_chances(chances, share):
    chances = np.array(chances)
    by_level = JointSuccess(np.full(len(chances), share)).by_level(chances)
    assert by_level.shape == (len(chances), LEVELS)
    np.testing.assert_allclose(by_level.mean(axis=1), chances, atol=1e-12)
    assert ((by_level >= -1e-12) & (by_level <= 1 + 1e-12)).all()


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_the_share_of_common_failures_is_learned(share):
    rng = np.random.default_rng(3)
    chances = rng.uniform(0.3, 0.9, (4000, 4))
    by_level = JointSuccess(np.full(4, share)).by_level(chances)
    level = rng.integers(LEVELS, size=4000)
    right = by_level[np.arange(4000), :, level] > rng.random((4000, 4))
    scores = np.where(rng.random((4000, 4)) < 0.3, np.nan, right.astype(float))
    learned = JointSuccess.fit(chances, scores)
    np.testing.assert_allclose(learned.shared, share, atol=0.12)


def test_few_measured_prompts_lean_on_the_other_experts():
    rng = np.random.default_rng(4)
    chances = np.full((600, 3), 0.6)
    level = rng.integers(LEVELS, size=600)
    right = (
        JointSuccess(np.full(3, 0.9)).by_level(chances)[np.arange(600), :, level]
    ) > rng.random((600, 3))
    scores = right.astype(float)
    scores[5:, 2] = np.nan  # five measured prompts tell next to nothing
    scores[:5, 2] = 1 - scores[:5, 0]
    learned = JointSuccess.fit(chances, scores)
    assert learned.shared[2] > 0.6


def test_values_on_measured_results_are_exact():
    scores = np.array([[0.0, 1.0], [1.0, 0.0]])
    costs = np.array([[1.0, 10.0], [1.0, 10.0]])
    losses = np.array([[0.5, 0.1], [0.5, 0.1]])
    right, wrong = np.array([0.9, 0.9]), np.array([0.2, 0.2])
    score, cost = realised([[0, 1], [0, 1]], scores, costs, losses, right, wrong)
    # First prompt: 0 is wrong and rejected with 0.8; then 1 is right, accepted or the fallback.
    assert score.tolist() == pytest.approx([0.8, 0.9])
    assert cost.tolist() == pytest.approx([1 + 0.8 * 10, 1 + 0.1 * 10])
    alone, price = realised([[0], [1]], scores, costs, losses, right, wrong)
    assert alone.tolist() == [0.0, 0.0]
    assert price.tolist() == [1.0, 10.0]


def test_expectations_agree_with_measured_values_over_many_draws():
    rng = np.random.default_rng(5)
    chances = np.array([0.5, 0.7, 0.8])
    joint = JointSuccess(np.array([0.8, 0.3, 0.6]))
    right, wrong = np.array([0.9, 0.8, 0.7]), np.array([0.2, 0.1, 0.3])
    expected = expect([0, 1, 2], 1 - chances, Nodes.of(1 - chances, right, wrong, joint))
    level = rng.integers(LEVELS, size=100_000)
    scores = (joint.by_level(chances).T[level] > rng.random((100_000, 3))).astype(float)
    losses = np.broadcast_to(1 - chances, scores.shape)
    score, _ = realised([[0, 1, 2]] * len(scores), scores, scores, losses, right, wrong)
    assert score.mean() == pytest.approx(1 - expected.loss, abs=0.005)
    assert sum(expected.goes_out) == pytest.approx(1.0)


def test_agreement_with_a_reference_tells_as_often_as_it_was_measured():
    joint = JointSuccess(np.array([0.8, 0.3, 0.6]))
    losses = np.array([0.5, 0.3, 0.2])
    right, wrong = np.array([0.6, 0.5, 0.5]), np.array([0.2, 0.1, 0.3])
    nodes = Nodes.of(losses, right, wrong, joint, Reference(0.8, 0.6, 2))
    assert nodes.weights.sum() == pytest.approx(1.0)
    chances = nodes.right @ nodes.weights
    np.testing.assert_allclose(chances, 1 - losses, atol=1e-9)
    accepted_right = (nodes.right * nodes.accepts_right) @ nodes.weights / chances
    accepted_wrong = ((1 - nodes.right) * nodes.accepts_wrong) @ nodes.weights / losses
    np.testing.assert_allclose(accepted_right[:2], right[:2], atol=1e-9)
    np.testing.assert_allclose(accepted_wrong[:2], wrong[:2], atol=1e-9)
    # Where the reference is right, a wrong answer differs from it.
    assert (nodes.accepts_wrong[:2, :LEVELS] == 0).all()


def test_a_plan_that_falls_back_on_the_reference_gives_its_answer():
    joint = JointSuccess(np.zeros(2))
    losses = np.array([0.5, 0.2])
    rates = np.array([0.8, 1.0]), np.array([0.2, 1.0])
    nodes = Nodes.of(losses, *rates, joint, Reference(0.8, 0.0, 1))
    assert expect([0, 1], losses, nodes).loss == pytest.approx(0.2)
