import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tryage import Expert, Goals, Library, Policy, Router
from tryage.budgets import calibrate, parse_budget
from tryage.errors import GoalError, LibraryError, PromptError
from tryage.forecast import Forecast
from tryage.goals import GOALS, Goal
from tryage.objective import Objective

TASK = "text-generation"


@pytest.mark.parametrize(
    ("text", "measure", "bound"),
    [
        ("mean cost <= 0.40 USD per 1000 prompts", "cost", 0.0004),
        ("cost<=$0.002", "cost", 0.002),
        ("mean size <= 7B", "size", 7e9),
        ("mean latency <= 800ms", "latency", 0.8),
        ("score >= 0.7", "loss", 0.3),
        ("score >= 70%", "loss", 0.3),
        ("loss <= 1.5", "loss", 1.5),
        ("share(org/gpt-4) <= 20%", "share(org/gpt-4)", 0.2),
        ("share( big ) ≤ 0.2", "share(big)", 0.2),
        ("share(gpt-4 (mini)) <= 20%", "share(gpt-4 (mini))", 0.2),
        ("share(a <= b) <= 5%", "share(a <= b)", 0.05),
        ("cost <= 0.4 USD/1000", "cost", 0.0004),
        ("mean recency <= 60 days", "recency", 60),
        ("mean parameters <= 3B", "size", 3e9),
        ("price <= 1 USD", "cost", 1),
    ],
)
def test_budgets_are_read_with_their_units(text, measure, bound):
    read = parse_budget(text)
    assert (read.measure, read.of_best) == (measure, False)
    assert read.bound == pytest.approx(bound)


@pytest.mark.parametrize("name", GOALS)
@pytest.mark.parametrize("value", [0.0, 7.24, 999.6e6])
def test_budgets_are_read_in_the_units_that_decisions_print(name, value):
    written = GOALS[name].format(value)
    read = parse_budget(f"mean {name} <= {written}")
    assert read.bound == pytest.approx(value, rel=1e-3, abs=0.5)


def test_a_budget_on_a_goal_of_ones_own():
    class Carbon(Goal):
        name, unit = "CO2_grams", "g of CO2"

        def value(self, expert):
            return 2.0

    assert parse_budget("mean CO2_grams <= 3.5 g of CO2", {"CO2_grams": Carbon()}).bound == 3.5
    router = Router.from_library(Library([Expert(name="a", model="m")]))
    goals = Goals(custom=[Carbon()])
    assert router.calibrate(["p"], "CO2_grams <= 2", goals=goals).met
    assert not router.calibrate(["p"], "CO2_grams <= 1.9", goals=goals).met


def test_budgets_relative_to_the_best_single_expert():
    assert parse_budget("score >= 95% of best").of_best
    assert parse_budget("loss <= 110 % of the best").bound == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cheap please", "is not a budget"),
        (7, "7 is not a budget"),
        ("exact_match >= 0.8", "'exact_match', which is not a goal"),
        ("f1 >= 0.8", "scored by any metric is named score"),
        ("mean cots <= 3", "Did you mean 'cost'"),
        ("mean cost >= 3", "held <= only"),
        ("score <= 0.5", "held >= only"),
        ("share(a) <= 120%", "not between 0 and 1"),
        ("mean cost <= 3 EUR", "expected USD"),
        ("loss <= much", "'much' is not a number"),
        ("mean recency <= soon", "the budget 'mean recency <= soon': 'soon' is not a number"),
    ],
)
def test_wrong_budgets(text, message):
    with pytest.raises(GoalError, match=message):
        parse_budget(text)


@st.composite
def problems(draw):
    n, m = draw(st.integers(2, 12)), draw(st.integers(2, 4))
    numbers = st.floats(0, 1).map(lambda value: round(value, 3))
    losses = draw(st.lists(st.lists(numbers, min_size=m, max_size=m), min_size=n, max_size=n))
    costs = draw(st.lists(st.lists(numbers, min_size=m, max_size=m), min_size=n, max_size=n))
    return np.array(losses), np.array(costs)


def run(
    losses,
    costs,
    *budgets,
    sizes=None,
    contexts=None,
    chars=None,
    limits=(),
    scored=True,
    **options,
):
    """Calibrate on predicted losses and costs, (n, m).

    Args:
        losses: predicted.
        costs: predicted.
        budgets: texts.
        sizes: (m,) parameters of each expert.
        contexts: (m,) tokens that each expert takes at most.
        chars: (n,) length of each prompt.
        limits: of the policy.
        scored: whether losses are 1 - score.
        options: of `calibrate`.
    """
    n, m = losses.shape
    parameters = [None] * m if sizes is None else sizes
    lengths = [None] * m if contexts is None else contexts
    library = Library(
        [
            Expert(name=f"e{i}", model="m", parameters=parameters[i], context_length=lengths[i])
            for i in range(m)
        ]
    )
    objective = Objective.fit(library, {TASK: 1.0}, averages={"cost": np.linspace(0, 1, m)})
    predicted = Forecast(losses, losses * 0, np.zeros(n, dtype=bool), {"cost": costs})
    inputs = objective.goal_inputs(np.ones(n) if chars is None else chars, predicted.targets)
    resolved = Policy(limits=limits).combine(None, None)
    return calibrate(
        objective,
        predicted,
        TASK,
        resolved,
        inputs,
        budgets,
        goals=Goals(),
        scored=scored,
        **options,
    )


@given(problems(), st.floats(0, 1))
@settings(max_examples=60)
def test_a_cost_budget_is_met_exactly_when_it_can_be(problem, bound):
    losses, costs = problem
    text = f"mean cost <= {bound}"
    calibration = run(losses, costs, text)
    row = calibration.attained[text]
    least = costs.min(axis=1).mean()
    assert row["met"] == calibration.met == (row["value"] <= bound + 1e-12)
    if least <= bound - 1e-3:
        assert calibration.met
    if not calibration.met:
        assert row["attainable"] == pytest.approx(least)
        assert row["value"] <= least + 0.02


def test_the_weight_is_no_larger_than_the_budget_asks():
    losses = np.array([[0.9, 0.0], [0.5, 0.0], [0.1, 0.0]])
    costs = np.array([[0.0, 1.0]] * 3)
    # Loss per unit of cost is 0.1, 0.5 and 0.9; the cheapest swap is the last prompt's.
    calibration = run(losses, costs, "mean cost <= 0.67")
    assert calibration.attained["mean cost <= 0.67"]["value"] == pytest.approx(2 / 3)
    assert calibration.weights["cost"] == pytest.approx(0.1, rel=1e-6)
    assert calibration.shares == {"e0": pytest.approx(1 / 3), "e1": pytest.approx(2 / 3)}
    assert run(losses, costs, "mean cost <= 1").weights == {"cost": 0.0}


def test_several_budgets_hold_together():
    rng = np.random.default_rng(0)
    losses = rng.random((400, 3)) * np.array([1.0, 0.8, 0.4])
    costs = np.tile([0.1, 0.2, 1.0], (400, 1))
    texts = ("mean cost <= 0.5", "share(e1) <= 10%", "score >= 50% of best")
    calibration = run(losses, costs, *texts)
    assert calibration.met
    assert set(calibration.weights) == {"cost", "share(e1)"}
    assert calibration.attained["share(e1) <= 10%"]["value"] == pytest.approx(0.1, abs=0.01)
    low, high = calibration.attained["mean cost <= 0.5"]["ci95"]
    assert low < calibration.attained["mean cost <= 0.5"]["value"] < high


def test_a_score_alone_lowers_the_cost_as_far_as_it_allows():
    rng = np.random.default_rng(1)
    losses = np.clip(rng.random((300, 2)) * np.array([0.9, 0.3]), 0, 1)
    costs = np.tile([0.1, 1.0], (300, 1))
    calibration = run(losses, costs, "score >= 97% of best")
    row = calibration.attained["score >= 97% of best"]
    assert calibration.met
    assert row["limit"] == pytest.approx(0.97 * (1 - losses[:, 1].mean()))
    assert row["limit"] <= row["value"] < row["limit"] + 0.01
    assert calibration.weights["cost"] > 0
    assert 0 < calibration.shares["e0"] < 1


def test_the_weight_is_the_greatest_that_a_score_allows():
    """Loss per unit of cost is 0.1, 0.5 and 0.9; the score allows the first two swaps."""
    losses = np.array([[0.9, 0.0], [0.5, 0.0], [0.1, 0.0]])
    costs = np.array([[0.0, 1.0]] * 3)
    calibration = run(losses, costs, "score >= 0.79")
    assert calibration.attained["score >= 0.79"]["value"] == pytest.approx(0.8)
    assert calibration.weights["cost"] == pytest.approx(0.9, rel=1e-5)
    assert calibration.weights["cost"] < 0.9
    everything = run(losses, costs, "score >= 0.4")
    assert everything.shares == {"e0": 1.0}
    assert everything.weights == {"cost": 1e4}


def test_a_score_that_cannot_be_met_is_come_near_to_without_a_weight():
    losses, costs = np.array([[0.9, 0.2], [0.1, 0.4]]), np.tile([0.0, 1.0], (2, 1))
    calibration = run(losses, costs, "score >= 0.9")
    assert not calibration.met
    assert calibration.weights == {"cost": 0.0}
    assert calibration.attained["score >= 0.9"]["value"] == pytest.approx(0.85)
    assert calibration.attained["score >= 0.9"]["attainable"] == pytest.approx(0.85)


def test_a_score_alone_lowers_the_size_where_experts_that_may_answer_have_no_cost():
    losses = np.tile([0.2, 0.1, 0.3], (4, 1))
    costs = np.tile([1.0, np.nan, 0.1], (4, 1))
    sizes = ["1B", "70B", "2B"]
    text = "score >= 0.1"
    smallest = run(losses, costs, text, sizes=sizes)
    assert (set(smallest.weights), smallest.shares) == ({"size"}, {"e0": 1.0})
    # The expert whose cost is not known may not answer, so that costs can be lowered.
    cheapest = run(losses, costs, text, sizes=sizes, limits=["parameters <= 3B"])
    assert (set(cheapest.weights), cheapest.shares) == ({"cost"}, {"e2": 1.0})
    with pytest.raises(GoalError, match="states neither price nor parameters"):
        run(losses, costs, text)


def test_a_budget_on_what_an_expert_does_not_state_names_it():
    losses, costs = np.tile([0.2, 0.1], (4, 1)), np.tile([1.0, np.nan], (4, 1))
    with pytest.raises(GoalError, match=r"a budget on cost needs a value.* 'e1' has none"):
        run(losses, costs, "mean cost <= 0.5")
    limits = {"sizes": ["1B", "70B"], "limits": ["parameters <= 3B"]}
    assert run(losses, costs, "mean cost <= 2", **limits).met


def test_a_prompt_that_nobody_may_answer_is_named():
    losses, costs = np.tile([0.2, 0.1], (3, 1)), np.ones((3, 2))
    chars = np.array([40.0, 4000.0, 40.0])
    with pytest.raises(GoalError, match="no expert may answer prompt 2"):
        run(losses, costs, "mean cost <= 2", contexts=[100, 100], chars=chars)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_tighter_of_two_scores_holds(order):
    losses = np.array([[0.9, 0.0], [0.5, 0.0], [0.1, 0.0]])
    costs = np.array([[0.0, 1.0]] * 3)
    texts = ("score >= 0.4", "score >= 79% of best")
    calibration = run(losses, costs, *[texts[place] for place in order])
    assert calibration.met
    assert calibration.attained["score >= 79% of best"]["value"] == pytest.approx(0.8)
    assert calibration.attained["score >= 0.4"]["value"] == pytest.approx(0.8)


def test_the_best_single_expert_may_answer_every_prompt():
    """e0 is the best, but takes only the short prompts; the best of all prompts is e1."""
    losses = np.tile([0.1, 0.4, 0.6], (10, 1))
    costs = np.tile([1.0, 0.5, 0.1], (10, 1))
    chars = np.array([40.0] * 5 + [400.0] * 5)
    limits = {"contexts": [50, None, None], "chars": chars}
    row = run(losses, costs, "score >= 100% of best", **limits).attained["score >= 100% of best"]
    assert row["limit"] == pytest.approx(0.6)
    text = "loss <= 150% of best"
    row = run(losses, costs, text, scored=False, **limits).attained[text]
    assert row["limit"] == pytest.approx(0.6)


def test_where_no_expert_may_answer_every_prompt_there_is_no_best_single_one():
    losses, costs = np.tile([0.1, 0.4], (2, 1)), np.array([[0.1, 0.9], [0.9, 0.1]])
    limits = ["cost <= 0.5 USD"]
    assert run(losses, costs, "score >= 0.1", limits=limits).shares == {"e0": 0.5, "e1": 0.5}
    with pytest.raises(GoalError, match="no expert may answer every prompt"):
        run(losses, costs, "score >= 95% of best", limits=limits)
    assert run(losses, costs, "score >= 100% of best").met


def test_intervals_hold_95_per_cent():
    """Of a mean over n prompts the interval is 2 · 1.96 standard errors wide."""
    rng = np.random.default_rng(5)
    losses = rng.random((2000, 1))
    costs = np.ones((2000, 1))
    standard_error = losses.std() / np.sqrt(len(losses))
    for seed in range(3):
        row = run(losses, costs, "score >= 0.1", seed=seed).attained["score >= 0.1"]
        low, high = row["ci95"]
        assert row["value"] == pytest.approx(1 - losses.mean())
        assert low < row["value"] < high
        assert (high - low) / standard_error == pytest.approx(2 * 1.96, rel=0.08)
        text = "loss <= 0.9"
        low, high = run(losses, costs, text, scored=False, seed=seed).attained[text]["ci95"]
        assert low < losses.mean() < high


def test_intervals_draw_every_prompt():
    losses, costs = np.array([[0.0], [1.0]]), np.ones((2, 1))
    assert run(losses, costs, "score >= 0.1").attained["score >= 0.1"]["ci95"] == [0.0, 1.0]


def test_what_cannot_be_met_is_told_with_the_nearest():
    losses, costs = np.full((4, 2), 0.5), np.tile([0.2, 1.0], (4, 1))
    calibration = run(losses, costs, "mean cost <= 0.1", "score >= 0.9")
    assert not calibration.met
    assert calibration.attained["mean cost <= 0.1"]["attainable"] == pytest.approx(0.2)
    assert calibration.attained["score >= 0.9"]["attainable"] == pytest.approx(0.5)


def test_budgets_that_can_be_met_alone_but_not_together_say_so():
    """e0 is cheap and poor, e1 dear and good: either budget could be met without the other."""
    losses, costs = np.tile([0.9, 0.1], (10, 1)), np.tile([0.0, 1.0], (10, 1))
    calibration = run(losses, costs, "mean cost <= 0.35", "score >= 0.8")
    assert not calibration.met
    cheap, good = (calibration.attained[text] for text in ("mean cost <= 0.35", "score >= 0.8"))
    assert cheap["met"]
    assert not good["met"]
    assert good["attainable"] == good["value"] == pytest.approx(0.1)
    assert good["alone"] == pytest.approx(0.9)


def test_two_goals_that_cannot_be_met_together_say_so():
    losses, costs = np.tile([0.9, 0.1], (10, 1)), np.tile([0.0, 1.0], (10, 1))
    calibration = run(losses, costs, "mean cost <= 0.3", "share(e0) <= 20%")
    rows = list(calibration.attained.values())
    assert sorted(row["met"] for row in rows) == [False, True]
    (unmet,) = (row for row in rows if not row["met"])
    assert unmet["attainable"] == unmet["value"] == pytest.approx(1.0)
    assert unmet["alone"] == 0.0


def test_unknown_experts_and_too_many_budgets():
    losses = costs = np.ones((2, 2)) * 0.5
    with pytest.raises(LibraryError, match="no expert 'gpt'"):
        run(losses, costs, "share(gpt) <= 1%")
    with pytest.raises(GoalError, match="at most 3"):
        run(losses, costs, *[f"mean cost <= 0.{i}" for i in range(1, 5)])
    with pytest.raises(GoalError, match="at least one budget"):
        run(losses, costs)


PROMPTS = [
    "def index_total(item): return item",
    "def value_item(count, item=4): return 1",
    "The old river follows a quiet doctor.",
    "It was a bright morning in the village.",
]


def test_a_calibration_is_goals_that_a_router_takes(targets_table, table_library):
    router = Router.fit(targets_table, library=table_library)
    calibration = router.calibrate(PROMPTS, "mean cost <= 0.1 USD per 1000 prompts")
    assert isinstance(calibration, Goals)
    assert calibration.met
    decisions = router.route_batch(PROMPTS, goals=calibration)
    assert {decision.expert for decision in decisions} == {"writer"} == set(calibration.shares)
    assert calibration.to_dict().keys() == {"weights", "attained", "met"}


def test_a_share_that_was_found_works_by_its_name_too(router):
    calibration = router.calibrate(PROMPTS, "share(coder) <= 0%")
    weights = dict(calibration.weights)
    assert set(weights) == {"share(coder)"}
    assert router.route(PROMPTS[0], goals=Goals(**weights)).expert != "coder"


def test_calibration_keeps_limits_and_replaces_weights(targets_table, table_library):
    router = Router.fit(targets_table, library=table_library)
    strict = router.with_policy(Policy(weights={"cost": 50.0}))
    goals = Goals(limits={"parameters": "<=10B"}, recency=0.0)
    text = "mean cost <= 1 USD per 1000 prompts"
    calibration = strict.calibrate(PROMPTS, text, goals=goals)
    assert calibration.weights == {"recency": 0.0, "cost": 0.0}
    assert calibration.limits == goals.limits
    # What is attained is what routing with the weights found attains, without the policy's 50.
    decisions = strict.route_batch(PROMPTS, goals=calibration)
    assert decisions[0].expert == "coder"
    chosen = [decision.expert for decision in decisions]
    assert calibration.shares == {name: chosen.count(name) / 4 for name in set(chosen)}
    costs = [decision.ranking[0].values["cost"] for decision in decisions]
    assert calibration.attained[text]["value"] == pytest.approx(np.mean(costs))


@pytest.mark.parametrize("budget", ["mean cost <= 1 USD per 1000 prompts", "loss <= 9"])
def test_weights_on_goals_that_no_budget_is_on_hold_besides(targets_table, table_library, budget):
    """Five on recency sends every prompt to the newest expert, as the call or the policy says."""
    router = Router.fit(targets_table, library=table_library)
    newest = Goals(recency=5.0)
    dear = router.calibrate(PROMPTS, "mean cost <= 1 USD per 1000 prompts", goals=newest)
    assert dear.shares == {"giant": 1.0}
    by_policy = router.with_policy(Policy(weights={"recency": 5.0})).calibrate(PROMPTS, budget)
    by_call = router.calibrate(PROMPTS, budget, goals=newest)
    assert by_policy.shares == by_call.shares
    assert by_call.weights["recency"] == 5.0


class Distrust(Goal):
    """Stands in for the built-in goal of that name; the writer alone is trusted."""

    name, unit = "security", "level"

    def value(self, expert):
        return 0.0 if expert.name == "writer" else 5.0


def test_a_budget_on_a_goal_of_ones_own_replaces_its_weight(router):
    goals = Goals(custom=[Distrust(0.01)], size=0.0)
    assert router.route(PROMPTS[0], goals=goals).expert != "writer"
    calibration = router.calibrate(PROMPTS, "mean security <= 0", goals=goals)
    assert calibration.met
    assert calibration.custom == goals.custom
    assert calibration.weights["security"] > 0.01
    decisions = router.route_batch(PROMPTS, goals=calibration)
    assert {decision.expert for decision in decisions} == {"writer"} == set(calibration.shares)


@pytest.mark.parametrize(
    "budget", ["mean cost <= 0.13 USD per 1000 prompts", "loss <= 400% of best"]
)
def test_the_policys_weight_gives_way_to_the_one_that_is_found(
    targets_table, table_library, budget
):
    router = Router.fit(targets_table, library=table_library)
    strict = router.with_policy(Policy(weights={"cost": 50.0, "latency": 0.01}))
    free = router.with_policy(Policy(weights={"latency": 0.01}))
    calibration, expected = (one.calibrate(PROMPTS, budget) for one in (strict, free))
    assert calibration.to_dict() == expected.to_dict()
    assert calibration.weights["cost"] > 0
    assert calibration.met


def test_prompts_of_a_calibration(router):
    with pytest.raises(PromptError, match="no prompts"):
        router.calibrate([], "loss <= 1")
    with pytest.raises(PromptError, match="one task"):
        router.calibrate(["a [MASK]", "b"], "loss <= 1")
    with pytest.raises(GoalError, match="fitted on losses"):
        router.calibrate(PROMPTS, "score >= 0.5")
    assert router.calibrate(PROMPTS, "loss <= 200% of best").weights["size"] > 0
