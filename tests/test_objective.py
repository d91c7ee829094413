import copy
import gc
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tryage import Expert, Library, Policy, Price, Security
from tryage.eligibility import Eligibility
from tryage.errors import GoalError
from tryage.goals import GOALS, Goal
from tryage.limits import parse_limits
from tryage.objective import Objective, loss_spread
from tryage.policy import ResolvedGoals

TASK = "text-generation"


def expert(name, **attributes):
    return Expert(name=name, model=name, **attributes)


def objective(experts, spread=1.0):
    return Objective.fit(Library(experts), {TASK: spread})


def resolved_goals(weights=(), limits=(), **options):
    return ResolvedGoals(dict(weights), parse_limits(limits), (), **options)


def penalties(goals, weights, **options):
    return goals.penalties(resolved_goals(weights), TASK, goals.goal_inputs(**options))


@st.composite
def libraries(draw):
    sizes = draw(st.lists(st.integers(10**5, 10**12), min_size=2, max_size=8))
    return [expert(f"e{i}", parameters=size) for i, size in enumerate(sizes)]


losses = st.floats(0, 5, allow_nan=False)
weights = st.floats(0, 3, allow_nan=False)


def choose(goals, row, weight):
    totals = np.array([row]) + penalties(goals, {"size": weight})
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
    np.testing.assert_allclose(penalties(goals, {"size": 0.3}), [0.0, 0.15])


def test_the_price_of_an_attempt_is_its_penalty_counted_from_nothing():
    """A cost of 0 costs an attempt nothing, though the cheapest expert has no penalty."""
    averages = {"cost": np.array([0.2, 1.2, 0.7])}
    experts = [expert(name, parameters=10**i) for i, name in enumerate("abc")]
    goals = Objective.fit(Library(experts), {TASK: 0.5}, averages=averages)
    resolved = resolved_goals({"cost": 0.3, "size": 0.2})
    values = {"cost": np.array([0.2, 1.2, 0.0]), "size": goals.values["size"]}
    prices = goals.attempt_prices(resolved, TASK, values)
    # The scale runs from 0.2 to 1.2 USD, so that a dollar weighs 0.3 · 0.5; sizes do not add up.
    np.testing.assert_allclose(prices, [0.2 * 0.15, 1.2 * 0.15, 0.0])
    assert goals.attempt_prices(resolved_goals({"size": 1.0}), TASK, values).tolist() == [0, 0, 0]
    free = Objective.fit(Library(experts), {TASK: 0.5}, averages={"cost": np.full(3, 0.4)})
    assert free.attempt_prices(resolved, TASK, values).tolist() == [0, 0, 0]


def test_ties_go_to_the_cheaper_and_then_to_the_name():
    price = {"b": Price(input=2, output=1), "c": Price(input=1, output=9)}
    priced = objective([expert(name, price=price.get(name)) for name in "abc"])
    assert priced.choose(np.zeros((1, 3)))[0] == 1
    price["b"] = Price(input=9, output=2)
    priced = objective([expert(name, price=price.get(name)) for name in "abc"])
    assert priced.choose(np.zeros((1, 3)))[0] == 2
    assert objective([expert(name) for name in "cba"]).choose(np.zeros((1, 3)))[0] == 2


def test_prices_per_different_numbers_of_tokens_are_compared_per_token():
    per_thousand = Price(input=0.01, output=0.01, per=1000)
    per_million = Price(input=1, output=1, per=1_000_000)
    goals = objective([expert("a", price=per_thousand), expert("b", price=per_million)])
    assert goals.choose(np.zeros((1, 2)))[0] == 1


def test_totals_within_a_billionth_are_a_tie():
    dear, cheap = Price(input=2, output=2), Price(input=1, output=1)
    goals = objective([expert("a", price=dear), expert("b", price=cheap)])
    totals = np.array([[0.5, 0.5 + 5e-10], [0.5, 0.5 + 5e-9], [0.5 + 5e-10, 0.5]])
    assert goals.choose(totals).tolist() == [1, 0, 1]


def test_a_goal_that_nobody_states_decides_nothing():
    goals = objective([expert("a"), expert("b")])
    assert len(set(penalties(goals, {"size": 1.0}))) == 1


def test_eligibility_gives_every_reason():
    goals = objective(
        [
            expert("small", parameters="1B"),
            expert("big", parameters="70B"),
            expert("mask", task="fill-mask", parameters="1B"),
        ]
    )
    eligibility = goals.eligibility(TASK, parse_limits({"parameters": "<=3B"}))
    assert eligibility.mask.tolist() == [True, False, False]
    assert eligibility.reasons == {
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


def test_ages_count_from_the_day_fixed_at_fitting_whoever_is_newest_now():
    experts = [expert("a", released="2024-01-01"), expert("b", released="2025-01-01")]
    fitted = objective(experts)
    rest = [experts[0], expert("c", released="2024-02-01")]
    again = Objective.from_dict(fitted.to_dict(), Library(rest))
    assert again.values["recency"].tolist() == [366, 335]
    np.testing.assert_allclose(again.scaled["recency"], [1.0, 335 / 366])


def test_arrays_that_decisions_hand_out_cannot_be_changed():
    goals = objective([expert("small", parameters=10), expert("big", parameters=1000)])
    for shared in (goals.values["size"], goals.scaled["size"]):
        with pytest.raises(ValueError, match="read-only"):
            shared[0] = 7.0


def test_loss_spread_ignores_what_was_not_measured():
    table = np.array([[0.0, math.nan], [1.0, 0.5]])
    assert loss_spread(table) == pytest.approx(0.9)
    assert loss_spread(np.ones((3, 2))) == 1.0


PRICED = [
    expert("cheap", price=Price(input=1, output=2), parameters="1B"),
    expert("dear", price=Price(input=10, output=20), parameters="100B"),
]


def test_a_cost_is_the_price_times_the_lengths_where_nothing_was_measured():
    goals = objective(PRICED)
    tokens = np.array([100.0, 1000.0])
    values = goals.goal_values(GOALS["cost"], goals.goal_inputs(tokens))
    # 100 tokens read and 250 written at 1 and 2 USD a million, ten times that for the other.
    np.testing.assert_allclose(values, [[6e-4, 6e-3], [1.5e-3, 1.5e-2]])
    lengths = {"response_chars": np.array([[40.0, math.nan]])}
    measured = goals.goal_values(GOALS["cost"], goals.goal_inputs(tokens[:1], lengths))
    np.testing.assert_allclose(measured, [[1.2e-4, 6e-3]])


def test_a_predicted_cost_comes_before_the_price():
    goals = objective(PRICED)
    inputs = goals.goal_inputs(np.array([100.0]), {"cost": np.array([[0.5, math.nan]])})
    np.testing.assert_allclose(goals.goal_values(GOALS["cost"], inputs), [[0.5, 6e-3]])


def test_a_cost_that_nothing_tells_is_an_error_and_never_zero():
    goals = objective([*PRICED, expert("free?"), expert("mask", task="fill-mask")])
    with pytest.raises(GoalError, match=r"'free\?' has none: state the price"):
        penalties(goals, {"cost": 0.1})


def test_of_many_experts_without_a_cost_ten_are_named():
    goals = objective([*PRICED, *(expert(f"free{i}") for i in range(12))])
    with pytest.raises(GoalError, match=r"'free9' and 2 more have none: state the price"):
        penalties(goals, {"cost": 0.1})


def test_an_expert_that_a_limit_excludes_needs_no_cost():
    goals = objective([*PRICED, expert("free?", parameters="500B")])
    inputs = goals.goal_inputs(np.array([100.0]))
    resolved = resolved_goals({"cost": 0.1}, limits=["parameters <= 200B"])
    totals = goals.totals(np.zeros((1, 3)), TASK, resolved, inputs)
    assert np.isfinite(totals).tolist() == [[True, True, False]]
    assert goals.choose(totals)[0] == 0
    with pytest.raises(GoalError, match=r"'free\?' has none"):
        goals.totals(np.zeros((1, 3)), TASK, resolved_goals({"cost": 0.1}), inputs)


def test_latency_is_observed_or_else_guessed_from_the_size():
    goals = objective([*PRICED, expert("unknown")])
    cold = goals.goal_values(GOALS["latency"], goals.goal_inputs())
    np.testing.assert_allclose(cold, [0.6, 10.5, math.nan])
    latencies = goals.goal_values(
        GOALS["latency"], goals.goal_inputs(observed={"dear": 0.1, "gone": 3.0})
    )
    np.testing.assert_allclose(latencies, [0.6, 0.1, math.nan])
    scaled = penalties(goals, {"latency": 1.0}, observed={"dear": 20.4})
    assert scaled[2] == scaled.max() == pytest.approx(2.0)


def test_scales_are_fixed_by_what_was_measured():
    averages = {"cost": np.array([0.2, 1.2]), "response_chars": np.array([10.0, 30.0])}
    goals = Objective.fit(Library(PRICED), {TASK: 1.0}, averages=averages)
    inputs = {"cost": np.array([[0.7, 1.7]]), "response_chars": np.array([[20.0, 20.0]])}
    added = penalties(goals, {"cost": 1.0, "verbosity": 1.0}, targets=inputs)
    np.testing.assert_allclose(added, [[1.0, 2.0]])
    again = Objective.from_dict(goals.to_dict(), goals.library)
    np.testing.assert_array_equal(
        penalties(again, {"cost": 1.0, "verbosity": 1.0}, targets=inputs), added
    )


def test_limits_on_goals_hold_prompt_by_prompt():
    goals = objective(PRICED)
    inputs = goals.goal_inputs(np.array([100.0, 1_000_000.0]))
    limit = resolved_goals(limits=["cost <= 0.002 USD"])
    totals = goals.totals(np.zeros((2, 2)), TASK, limit, inputs)
    np.testing.assert_array_equal(totals, [[0, np.inf], [np.inf, np.inf]])
    assert goals.choose(totals).tolist() == [0, -1]
    reasons = goals.reasons(TASK, limit, inputs.row(0))
    assert reasons == {"dear": "cost is 6 USD per 1000, the limit is <= 2 USD per 1000"}
    assert pickle.loads(pickle.dumps(reasons)) == copy.deepcopy(reasons) == reasons
    assert repr(reasons) == repr(dict(reasons))
    with pytest.raises(GoalError, match="the cost of expert 'x' is unknown"):
        objective([expert("x")]).totals(np.zeros((1, 1)), TASK, limit, goals.goal_inputs())


def test_limits_on_goals_that_prompts_do_not_matter_to_hold_for_all_of_them():
    vendors = [Security(vendor="acme", location="local"), Security(vendor="x", location="us")]
    goals = objective([expert("a", security=vendors[0]), expert("b", security=vendors[1])])
    inputs = goals.goal_inputs(np.array([10.0, 20.0, 30.0]))
    levels = goals.values["security"]
    limit = resolved_goals(limits=[f"security < {levels[1]:g}"])
    totals = goals.totals(np.zeros((3, 2)), TASK, limit, inputs)
    assert np.isfinite(totals).tolist() == [[True, False]] * 3


def test_limits_that_users_write_take_no_more_and_more_memory():
    goals = objective([expert("a", parameters=10), expert("b", parameters=1000)])
    inputs = goals.goal_inputs(np.array([10.0]))
    for bound in range(1, 600):
        totals = goals.totals(
            np.zeros((1, 2)), TASK, resolved_goals(limits=[f"parameters <= {bound}"]), inputs
        )
        assert np.isfinite(totals).tolist() == [[bound >= 10, False]]
    remembered = [held for held in gc.get_objects() if type(held) is Eligibility]
    assert len(remembered) < 400


def test_a_prompt_must_fit_into_the_context():
    goals = objective([expert("short", context_length=100), expert("any")])
    inputs = goals.goal_inputs(np.array([87.0, 88.0]))
    totals = goals.totals(np.zeros((2, 2)), TASK, resolved_goals(), inputs)
    np.testing.assert_array_equal(totals, [[0, 0], [np.inf, 0]])
    assert goals.reasons(TASK, resolved_goals(), inputs.row(1)) == {
        "short": "context_length is 100, the prompt has about 88 tokens and its answer needs "
        "about 12"
    }


def test_the_room_for_an_answer_follows_from_what_is_expected_of_it():
    goals = objective([expert("a", context_length=8000), expert("mask", context_length=8000)])
    limits = resolved_goals()
    answers = {"response_chars": np.array([[400.0, math.nan]] * 3)}
    inputs = goals.goal_inputs(np.array([7750.0, 7751.0, 7901.0]), answers)
    totals = goals.totals(np.zeros((3, 2)), TASK, limits, inputs)
    assert np.isfinite(totals).tolist() == [[True, True], [True, False], [False, False]]
    # Its expected answer is of 250 tokens, or 100; a model that fills masks writes none.
    masks = objective([expert("mask", task="fill-mask", context_length=512)])
    inputs = masks.goal_inputs(np.array([512.0, 512.5]))
    totals = masks.totals(np.zeros((2, 1)), "fill-mask", limits, inputs)
    assert np.isfinite(totals).tolist() == [[True], [False]]
    assert masks.reasons("fill-mask", limits, inputs.row(1)) == {
        "mask": "context_length is 512, the prompt has about 512 tokens"
    }


def test_an_expert_s_own_ratio_of_characters_to_tokens_counts():
    price = Price(input=1, output=1)
    goals = objective(
        [
            expert("usual", context_length=1000, price=price),
            expert("wordy", context_length=1000, price=price, chars_per_token=2),
        ]
    )
    inputs = goals.goal_inputs(np.array([437.0, 438.0, 875.0, 876.0]))
    totals = goals.totals(np.zeros((4, 2)), TASK, resolved_goals(), inputs)
    assert np.isfinite(totals).tolist() == [[True, True], [True, False], [True, False], [False] * 2]
    costs = goals.goal_values(GOALS["cost"], inputs)
    np.testing.assert_allclose(costs[0], [687e-6, 1374e-6])
    assert goals.reasons(TASK, resolved_goals(), inputs.row(1)) == {
        "wordy": "context_length is 1000, the prompt has about 876 tokens and its answer needs "
        "about 125"
    }


def test_limits_on_attributes_and_on_goals_and_the_context_hold_together():
    cheap, dear = Price(input=1, output=1), Price(input=10, output=10)
    goals = objective(
        [
            expert("closed", license="custom", price=dear, context_length=100),
            expert("costly", license="mit", price=dear),
            expert("short", license="mit", price=cheap, context_length=100),
            expert("open", license="mit", price=cheap),
        ]
    )
    losses = np.array([[0.1, 0.2, 0.3, 0.4]] * 2)
    inputs = goals.goal_inputs(np.array([87.0, 88.0]))

    def allowed(*limits):
        totals = goals.totals(losses, TASK, resolved_goals(limits=limits), inputs)
        np.testing.assert_array_equal(np.where(np.isinf(totals), losses, totals), losses)
        return [np.flatnonzero(np.isfinite(row)).tolist() for row in totals]

    assert allowed("license = mit") == [[1, 2, 3], [1, 3]]
    assert allowed("cost <= 0.001") == [[2, 3], [3]]
    assert allowed("license = mit", "cost <= 0.001") == [[2, 3], [3]]
    assert goals.reasons(
        TASK, resolved_goals(limits=["license = mit", "cost <= 0.001"]), inputs.row(1)
    ) == {
        "closed": "license is custom, the limit is = mit",
        "costly": "cost is 3.38 USD per 1000, the limit is <= 1 USD per 1000",
        "short": "context_length is 100, the prompt has about 88 tokens and its answer needs "
        "about 12",
    }


@given(st.data())
def test_an_expert_is_eligible_where_it_keeps_every_kind_of_limit(data):
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=6))
    contexts = [data.draw(st.sampled_from([10, 100, 1000])) for _ in sizes]
    made = zip(sizes, contexts, strict=True)
    goals = objective(
        [
            expert(f"e{i}", parameters=f"{size}B", context_length=context)
            for i, (size, context) in enumerate(made)
        ]
    )
    tokens = data.draw(st.lists(st.sampled_from([1, 8, 9, 87, 100, 751]), min_size=1, max_size=4))
    smallest, largest = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    # Without an observation half a second and one more for every ten billion parameters.
    seconds = 0.5 + largest / 10
    limits = [f"parameters >= {smallest}B", f"latency <= {seconds + 1e-6} s"]
    inputs = goals.goal_inputs(np.array(tokens, dtype=float))
    totals = goals.totals(
        np.zeros((len(tokens), len(sizes))), TASK, resolved_goals(limits=limits), inputs
    )
    expected = [
        [
            smallest <= size <= largest and count + min(250, context / 8) <= context
            for size, context in zip(sizes, contexts, strict=True)
        ]
        for count in tokens
    ]
    assert np.isfinite(totals).tolist() == expected


class Hops(Goal):
    name, unit = "hops", "network hops"

    def value(self, expert):
        return {"near": 1.0, "far": 5.0}.get(expert.name, math.nan)


def test_a_goal_of_ones_own():
    goals = objective([expert("near"), expert("far"), expert("lost")])
    own = Hops(0.5)
    resolved = resolved_goals({"hops": 0.5}, goals={"hops": own})
    np.testing.assert_allclose(goals.penalties(resolved, TASK, goals.goal_inputs()), [0, 0.5, 0.5])
    np.testing.assert_array_equal(
        goals.shown(resolved, goals.goal_inputs())["hops"], [1, 5, math.nan]
    )


def test_a_goal_of_ones_own_in_the_place_of_a_built_in_one_has_its_own_scale():
    class Size(Goal):
        name, unit = "size", "letters"

        def value(self, expert):
            return len(expert.name)

    goals = objective([expert("a", parameters=10), expert("long", parameters=10**9)])
    resolved = resolved_goals({"size": 1.0}, goals={"size": Size(1.0)})
    np.testing.assert_allclose(goals.penalties(resolved, TASK, goals.goal_inputs()), [0, 1])
    np.testing.assert_allclose(penalties(goals, {"size": 1.0}), [0, 1])
    values = goals.shown(resolved, goals.goal_inputs())["size"]
    assert values.tolist() == [1, 4]


def test_goals_of_ones_own_that_nothing_weighs_are_not_computed():
    class Broken(Goal):
        name, unit = "broken", "parts"

        def value(self, expert):
            raise AssertionError("nobody asked for it")

    goals = objective([expert("a", parameters=10), expert("b", parameters=20)])
    resolved = resolved_goals({"size": 1.0}, goals={"broken": Broken(0.0)})
    assert "broken" not in goals.shown(resolved, goals.goal_inputs())


def test_a_goal_of_ones_own_with_values_of_another_shape_is_named():
    class Wrong(Hops):
        def values(self, library, inputs):
            return np.zeros(7)

    goals = objective([expert("near"), expert("far")])
    with pytest.raises(GoalError, match=r"'hops' gave values of shape \(7,\) for 2 experts"):
        goals.penalties(
            resolved_goals({"hops": 1.0}, goals={"hops": Wrong(1.0)}), TASK, goals.goal_inputs()
        )


NAMES = st.sampled_from(["size", "recency", "cost", "latency", "security"])


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    NAMES,
    weights,
    weights,
    st.dictionaries(NAMES, weights),
)
def test_raising_any_weight_never_raises_the_chosen_experts_value(row, name, low, high, others):
    low, high = sorted((low, high))
    goals = objective(
        [
            expert("a", parameters="1B", released="2024-01-01", price=Price(input=3, output=1)),
            expert("b", parameters="9B", released="2023-01-01", price=Price(input=1, output=1)),
            expert("c", parameters="3B", released="2025-01-01", price=Price(input=2, output=9)),
        ]
    )
    inputs = goals.goal_inputs(np.array([50.0]))
    chosen = [
        int(
            goals.choose(
                goals.totals(np.array([row]), TASK, resolved_goals(others | {name: w}), inputs)
            )[0]
        )
        for w in (low, high)
    ]
    values = np.atleast_2d(goals.goal_values(GOALS[name], inputs))[0]
    without = goals.totals(np.array([row]), TASK, resolved_goals(others | {name: 0.0}), inputs)[0]
    if abs(without[chosen[0]] - without[chosen[1]]) > 1e-6:
        assert not values[chosen[1]] > values[chosen[0]]


@given(libraries(), st.data())
def test_only_an_eligible_expert_is_ever_chosen(experts, data):
    goals = objective(experts, spread=data.draw(st.floats(1e-3, 1e308)))
    row = np.array([data.draw(st.lists(losses, min_size=len(experts), max_size=len(experts)))])
    limit = data.draw(st.sampled_from(experts)).parameters
    weight = data.draw(st.floats(0, 1e6))
    resolved = Policy(limits={"parameters": f">={limit}"}, weights={"size": weight}).combine(
        None, None
    )
    totals = goals.totals(row, TASK, resolved, goals.goal_inputs())
    chosen = goals.library.names[int(goals.choose(totals)[0])]
    assert chosen not in goals.eligibility(TASK, resolved.limits).reasons
