import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tryage import Expert, Library, Price
from tryage.errors import GoalError
from tryage.limits import parse_limits
from tryage.objective import Objective, loss_spread

TASK = "text-generation"


def expert(name, **attributes):
    return Expert(name=name, model=name, **attributes)


def objective(experts, spread=1.0):
    return Objective.fit(Library(experts), {TASK: spread})


@st.composite
def libraries(draw):
    sizes = draw(st.lists(st.integers(10**5, 10**12), min_size=2, max_size=8))
    return [expert(f"e{i}", parameters=size) for i, size in enumerate(sizes)]


losses = st.floats(0, 5, allow_nan=False)
weights = st.floats(0, 3, allow_nan=False)


def choose(goals, row, weight):
    totals = np.array([row]) + goals.penalties({"size": weight}, TASK)
    return int(goals.choose(totals)[0])


@given(libraries(), st.data())
def test_raising_a_weight_never_raises_the_chosen_experts_value(experts, data):
    goals = objective(experts)
    row = data.draw(st.lists(losses, min_size=len(experts), max_size=len(experts)))
    low, high = sorted(data.draw(st.tuples(weights, weights)))
    before, after = choose(goals, row, low), choose(goals, row, high)
    # Totals that tie within rounding may go either way.
    if abs(row[before] - row[after]) > 1e-6:
        assert goals.values["size"][after] <= goals.values["size"][before]


@given(libraries(), st.data())
def test_permuting_the_library_permutes_columns_and_not_the_winner(experts, data):
    row = data.draw(st.lists(losses, min_size=len(experts), max_size=len(experts)))
    order = data.draw(st.permutations(range(len(experts))))
    weight = data.draw(weights)
    here = choose(objective(experts), row, weight)
    shuffled = [experts[i] for i in order]
    there = choose(objective(shuffled), [row[i] for i in order], weight)
    assert shuffled[there].name == experts[here].name


def test_a_weight_is_worth_the_loss_spread_from_worst_to_best():
    goals = objective([expert("small", parameters=10), expert("big", parameters=1000)], spread=0.5)
    np.testing.assert_allclose(goals.penalties({"size": 0.3}, TASK), [0.0, 0.15])


def test_ties_go_to_the_cheaper_and_then_to_the_name():
    price = {"b": Price(input=1, output=1), "c": Price(input=2, output=2)}
    priced = objective([expert(name, price=price.get(name)) for name in "abc"])
    assert priced.choose(np.zeros((1, 3)))[0] == 1
    assert objective([expert(name) for name in "cba"]).choose(np.zeros((1, 3)))[0] == 2


def test_a_goal_that_nobody_states_decides_nothing():
    goals = objective([expert("a"), expert("b")])
    assert len(set(goals.penalties({"size": 1.0}, TASK))) == 1


def test_eligibility_gives_every_reason():
    goals = objective(
        [
            expert("small", parameters="1B"),
            expert("big", parameters="70B"),
            expert("mask", task="fill-mask", parameters="1B"),
        ]
    )
    found = goals.eligibility(TASK, parse_limits({"parameters": "<=3B"}))
    assert found.mask.tolist() == [True, False, False]
    assert found.reasons == {
        "big": "parameters is 70B, the limit is <= 3B",
        "mask": "its task is fill-mask, the prompt asks for text-generation",
    }


def test_a_limit_is_checked_for_the_experts_of_the_task_alone():
    goals = objective([expert("a", parameters="1B"), expert("b", task="fill-mask")])
    limits = parse_limits({"parameters": "<=3B"})
    assert goals.eligibility(TASK, limits).mask.tolist() == [True, False]
    with pytest.raises(GoalError, match="'b' states no parameters"):
        goals.eligibility("fill-mask", limits)


def test_scales_survive_a_round_trip_and_belong_to_the_fitted_library():
    fitted = objective([expert("a", parameters=10), expert("b", parameters=1000)], spread=2.0)
    again = Objective.from_dict(fitted.to_dict(), fitted.library)
    assert again == fitted
    grown = Library([*fitted.library, expert("c", parameters=10**5)])
    larger = Objective.from_dict(fitted.to_dict(), grown)
    np.testing.assert_allclose(larger.scaled["size"], [0, 1, 2])


def test_loss_spread_ignores_what_was_not_measured():
    table = np.array([[0.0, math.nan], [1.0, 0.5]])
    assert loss_spread(table) == pytest.approx(0.9)
    assert loss_spread(np.ones((3, 2))) == 1.0
