import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tryage import Expert, Goals, Library, Policy, Router
from tryage.budgets import calibrate, parse_budget
from tryage.errors import GoalError, LibraryError, PromptError
from tryage.forecast import Forecast
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
    ],
)
def test_budgets_are_read_with_their_units(text, measure, bound):
    read = parse_budget(text)
    assert (read.measure, read.of_best) == (measure, False)
    assert read.bound == pytest.approx(bound)


def test_budgets_relative_to_the_best_single_expert():
    assert parse_budget("score >= 95% of best").of_best
    assert parse_budget("loss <= 110 % of the best").bound == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cheap please", "is not a budget"),
        ("mean cots <= 3", "Did you mean 'cost'"),
        ("mean cost >= 3", "held <= only"),
        ("score <= 0.5", "held >= only"),
        ("share(a) <= 120%", "not between 0 and 1"),
        ("mean cost <= 3 EUR", "expected USD"),
        ("loss <= much", "'much' is not a number"),
        ("mean recency <= soon", "not a number"),
    ],
)
def test_wrong_budgets(text, told):
    with pytest.raises(GoalError, match=told):
        parse_budget(text)


@st.composite
def problems(draw):
    n, m = draw(st.integers(2, 12)), draw(st.integers(2, 4))
    numbers = st.floats(0, 1).map(lambda value: round(value, 3))
    losses = draw(st.lists(st.lists(numbers, min_size=m, max_size=m), min_size=n, max_size=n))
    costs = draw(st.lists(st.lists(numbers, min_size=m, max_size=m), min_size=n, max_size=n))
    return np.array(losses), np.array(costs)


def run(losses, costs, *budgets, **options):
    n, m = losses.shape
    library = Library([Expert(name=f"e{i}", model="m") for i in range(m)])
    objective = Objective.fit(library, {TASK: 1.0}, averages={"cost": np.linspace(0, 1, m)})
    predicted = Forecast(losses, losses * 0, np.zeros(n, dtype=bool), {"cost": costs})
    facts = objective.goal_inputs(np.ones(n), predicted.targets)
    wanted = Policy().combine(None, None)
    return calibrate(
        objective, predicted, TASK, wanted, facts, budgets, goals=Goals(), scored=True, **options
    )


@given(problems(), st.floats(0, 1))
@settings(max_examples=60)
def test_a_cost_budget_is_met_exactly_when_it_can_be(problem, bound):
    losses, costs = problem
    text = f"mean cost <= {bound}"
    found = run(losses, costs, text)
    row = found.attained[text]
    least = costs.min(axis=1).mean()
    assert row["met"] == found.met == (row["value"] <= bound + 1e-12)
    if least <= bound - 1e-3:
        assert found.met
    if not found.met:
        assert row["attainable"] == pytest.approx(least)
        assert row["value"] <= least + 0.02


def test_the_weight_is_no_larger_than_the_budget_asks():
    losses = np.array([[0.9, 0.0], [0.5, 0.0], [0.1, 0.0]])
    costs = np.array([[0.0, 1.0]] * 3)
    # Loss per unit of cost is 0.1, 0.5 and 0.9; the cheapest swap is the last prompt's.
    found = run(losses, costs, "mean cost <= 0.67")
    assert found.attained["mean cost <= 0.67"]["value"] == pytest.approx(2 / 3)
    assert found.weights["cost"] == pytest.approx(0.1, rel=1e-3)
    assert found.shares == {"e0": pytest.approx(1 / 3), "e1": pytest.approx(2 / 3)}
    assert run(losses, costs, "mean cost <= 1").weights == {"cost": 0.0}


def test_several_budgets_hold_together():
    rng = np.random.default_rng(0)
    losses = rng.random((400, 3)) * np.array([1.0, 0.8, 0.4])
    costs = np.tile([0.1, 0.2, 1.0], (400, 1))
    texts = ("mean cost <= 0.5", "share(e1) <= 10%", "score >= 50% of best")
    found = run(losses, costs, *texts)
    assert found.met
    assert set(found.weights) == {"cost", "share(e1)"}
    assert found.attained["share(e1) <= 10%"]["value"] == pytest.approx(0.1, abs=0.01)
    low, high = found.attained["mean cost <= 0.5"]["ci95"]
    assert low < found.attained["mean cost <= 0.5"]["value"] < high


def test_a_score_alone_lowers_the_cost_as_far_as_it_allows():
    rng = np.random.default_rng(1)
    losses = np.clip(rng.random((300, 2)) * np.array([0.9, 0.3]), 0, 1)
    costs = np.tile([0.1, 1.0], (300, 1))
    found = run(losses, costs, "score >= 97% of best")
    row = found.attained["score >= 97% of best"]
    assert found.met
    assert row["limit"] == pytest.approx(0.97 * (1 - losses[:, 1].mean()))
    assert row["limit"] <= row["value"] < row["limit"] + 0.01
    assert found.weights["cost"] > 0
    assert 0 < found.shares["e0"] < 1


def test_what_cannot_be_met_is_told_with_the_nearest():
    losses, costs = np.full((4, 2), 0.5), np.tile([0.2, 1.0], (4, 1))
    found = run(losses, costs, "mean cost <= 0.1", "score >= 0.9")
    assert not found.met
    assert found.attained["mean cost <= 0.1"]["attainable"] == pytest.approx(0.2)
    assert found.attained["score >= 0.9"]["attainable"] == pytest.approx(0.5)


def test_budgets_that_can_be_met_alone_but_not_together_say_so():
    """e0 is cheap and poor, e1 dear and good: either budget could be met without the other."""
    losses, costs = np.tile([0.9, 0.1], (10, 1)), np.tile([0.0, 1.0], (10, 1))
    found = run(losses, costs, "mean cost <= 0.35", "score >= 0.8")
    assert not found.met
    cheap, good = (found.attained[text] for text in ("mean cost <= 0.35", "score >= 0.8"))
    assert cheap["met"]
    assert not good["met"]
    assert good["attainable"] == good["value"] == pytest.approx(0.1)
    assert good["alone"] == pytest.approx(0.9)


def test_two_goals_that_cannot_be_met_together_say_so():
    losses, costs = np.tile([0.9, 0.1], (10, 1)), np.tile([0.0, 1.0], (10, 1))
    found = run(losses, costs, "mean cost <= 0.3", "share(e0) <= 20%")
    rows = list(found.attained.values())
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
    found = router.calibrate(PROMPTS, "mean cost <= 0.1 USD per 1000 prompts")
    assert isinstance(found, Goals)
    assert found.met
    decisions = router.route_batch(PROMPTS, goals=found)
    assert {decision.expert for decision in decisions} == {"writer"} == set(found.shares)
    assert found.to_dict().keys() == {"weights", "attained", "met"}


def test_a_share_that_was_found_works_by_its_name_too(router):
    found = router.calibrate(PROMPTS, "share(coder) <= 0%")
    weights = dict(found.weights)
    assert set(weights) == {"share(coder)"}
    assert router.route(PROMPTS[0], goals=Goals(**weights)).expert != "coder"


def test_calibration_keeps_limits_and_replaces_weights(targets_table, table_library):
    router = Router.fit(targets_table, library=table_library)
    strict = router.with_policy(Policy(weights={"cost": 50.0}))
    goals = Goals(limits={"parameters": "<=10B"}, recency=0.0)
    found = strict.calibrate(PROMPTS, "mean cost <= 1 USD per 1000 prompts", goals=goals)
    assert found.weights == {"recency": 0.0, "cost": 0.0}
    assert found.limits == goals.limits
    assert strict.route(PROMPTS[0], goals=found).expert == "coder"


def test_prompts_of_a_calibration(router):
    with pytest.raises(PromptError, match="no prompts"):
        router.calibrate([], "loss <= 1")
    with pytest.raises(PromptError, match="one task"):
        router.calibrate(["a [MASK]", "b"], "loss <= 1")
    with pytest.raises(GoalError, match="fitted on losses"):
        router.calibrate(PROMPTS, "score >= 0.5")
    assert router.calibrate(PROMPTS, "loss <= 200% of best").weights["size"] > 0
