"""The best plan and its expected values, against enumeration of everything that can happen."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tryage.plans.joint import JointSuccess
from tryage.plans.nodes import Reference
from tryage.plans.search import PlanInputs, best_plan


def enumerated(inputs, plan):
    """Expected objective of a plan: every case, every truth, every verdict."""
    nodes = inputs.nodes
    fallback = min(plan, key=lambda e: (inputs.losses[e], plan.index(e)))
    total = inputs.check_price if len(plan) > 1 else 0.0
    for node, weight in enumerate(nodes.weights):
        for truth in itertools.product([True, False], repeat=len(plan)):
            chance = weight
            for expert, right in zip(plan, truth, strict=True):
                p = nodes.right[expert, node]
                chance *= p if right else 1 - p
            for verdicts in itertools.product([True, False], repeat=len(plan)):
                odds, price, out = chance, 0.0, None
                for place, (expert, right, accepts) in enumerate(
                    zip(plan, truth, verdicts, strict=True)
                ):
                    rates = nodes.accepts_right if right else nodes.accepts_wrong
                    rate = rates[expert, node]
                    odds *= rate if accepts else 1 - rate
                    if out is None:
                        price += inputs.attempt_prices[expert]
                        if accepts:
                            out = place
                place = plan.index(fallback) if out is None else out
                total += odds * (price + (not truth[place]) + inputs.penalties[plan[place]])
    return total


def alone(inputs):
    return inputs.losses + inputs.attempt_prices + inputs.penalties


def exhaustive(inputs, most):
    plans = [p for k in range(1, most + 1) for p in itertools.permutations(range(5), k)]
    values = {p: enumerated(inputs, p) if len(p) > 1 else alone(inputs)[p[0]] for p in plans}
    return min(values.values()), values


unit = st.floats(0, 1, allow_nan=False)


def of(size):
    return st.lists(unit, min_size=size, max_size=size).map(np.array)


@st.composite
def drawn(draw):
    return PlanInputs(
        losses=draw(of(5)),
        attempt_prices=draw(of(5)) * draw(st.sampled_from([0.0, 0.05, 0.5])),
        penalties=draw(of(5)) * draw(st.sampled_from([0.0, 0.1])),
        accepts_right=draw(of(5)),
        accepts_wrong=draw(of(5)),
        joint=JointSuccess(draw(of(5))),
        reference=draw(st.sampled_from([None, Reference(0.7, 0.5, 2), Reference(0.7, 0.5, None)])),
        check_price=draw(st.sampled_from([0.0, 0.02])),
    )


@settings(max_examples=40, deadline=None)
@given(drawn(), st.integers(1, 3))
def test_no_plan_is_better_than_the_one_found(inputs, most):
    plan = best_plan(inputs, most, alone(inputs), np.arange(5))
    best, values = exhaustive(inputs, most)
    assert values[tuple(plan)] == pytest.approx(best, abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(drawn(), unit)
def test_a_check_that_tells_nothing_leaves_one_attempt(inputs, rate):
    rates = np.full(5, rate)
    inputs = PlanInputs(
        inputs.losses, inputs.attempt_prices, inputs.penalties, rates, rates, inputs.joint
    )
    assert len(best_plan(inputs, 3, alone(inputs), np.arange(5))) == 1
