"""`evaluate` and `pareto` where what was measured is not what the router predicts."""

from dataclasses import replace

import numpy as np
import pytest

from tryage import Library, Policy, Router

PREDICTED = {"coder": 2e-4, "writer": 1e-4, "giant": 9e-4}
"""USD per prompt in the table that the router is fitted on, which fix the scale of the cost."""

MEASURED = {"coder": 9e-4, "writer": 3e-4, "giant": 1e-4}
"""USD per prompt in the table that it is judged on."""


def with_costs(table, costs):
    row = np.array([costs[name] for name in table.experts])
    return replace(table, targets={"cost": np.broadcast_to(row, table.losses.shape)})


def on_the_scale(costs):
    """Costs where 0 is the cheapest and 1 the dearest expert of the fitted table."""
    return (np.asarray(costs) - 1e-4) / 8e-4


def priced(library, **changes):
    """The library with prices, and with other attributes of some experts."""
    price = {"input": 1.0, "output": 1.0}
    rows = [
        {**expert, "price": price, **changes.get(expert["name"], {})}
        for expert in library.to_dict()["experts"]
    ]
    return Library.from_dict({"experts": rows})


@pytest.fixture(scope="module")
def fitted(table, table_library):
    return Router.fit(with_costs(table, PREDICTED), library=table_library, predictor="clusters")


@pytest.fixture(scope="module")
def judged(held_out_table, table_library):
    return with_costs(held_out_table.reorder(table_library.names), MEASURED)


def choices(router, table, weight=0.0):
    """Columns of the experts that the router chooses, by the costs that it predicts."""
    strict = router.with_policy(Policy(weights={"cost": weight}))
    decisions = strict.route_batch(table.prompts, flags=False)
    return np.array([router.library.index(decision.expert) for decision in decisions])


def test_regret_counts_the_measured_cost_of_choices_made_by_the_predicted_one(fitted, judged):
    weight = 0.4
    figures = fitted.with_policy(Policy(weights={"cost": weight})).evaluate(judged).to_dict()
    spread = fitted.objective.spreads["text-generation"]
    costs = np.array([MEASURED[name] for name in judged.experts])
    objective = judged.losses + weight * spread * on_the_scale(costs)
    chosen = choices(fitted, judged, weight)
    rows = np.arange(len(judged))
    regret = objective[rows, chosen] - objective.min(axis=1)
    # Both groups have as many prompts, so the mean over groups is the plain mean.
    assert figures["router"]["regret"] == pytest.approx(regret.mean())
    assert figures["router"]["regret"] > 0.1
    assert figures["router"]["mean_cost"] == pytest.approx(costs[chosen].mean())
    best = objective.argmin(axis=1)
    assert figures["references"]["oracle"]["mean_cost"] == pytest.approx(costs[best].mean())


def test_a_cost_that_was_not_measured_is_the_predicted_one(fitted, judged):
    costs = np.array(judged.targets["cost"])
    costs[::2, 0] = np.nan
    costs[1::3, 2] = np.nan
    part = replace(judged, targets={"cost": costs})
    figures = fitted.with_policy(Policy(weights={"cost": 0.4})).evaluate(part).to_dict()
    predicted = np.array([PREDICTED[name] for name in judged.experts])
    filled = np.where(np.isnan(costs), predicted, costs)
    spread = fitted.objective.spreads["text-generation"]
    objective = judged.losses + 0.4 * spread * on_the_scale(filled)
    chosen = choices(fitted, judged, 0.4)
    regret = objective[np.arange(len(judged)), chosen] - objective.min(axis=1)
    assert figures["router"]["regret"] == pytest.approx(regret.mean())
    front = fitted.pareto(part, "cost").to_dict()
    assert front["prompts"] == len(judged)
    assert front["experts"]["coder"]["value"] == pytest.approx(filled[:, 0].mean())


def test_the_table_and_the_router_need_not_know_the_same_targets(fitted, judged, table):
    weight = Policy(weights={"cost": 0.4})
    nothing_measured = replace(judged, targets={})
    figures = fitted.with_policy(weight).evaluate(nothing_measured).to_dict()
    as_predicted = fitted.with_policy(weight).evaluate(with_costs(judged, PREDICTED)).to_dict()
    assert figures["router"]["regret"] == pytest.approx(as_predicted["router"]["regret"])
    assert "mean_cost" not in figures["router"]
    # A router that predicts no costs decides by prices, and is judged by what was measured.
    by_price = Router.fit(table, library=priced(fitted.library), predictor="clusters")
    front = by_price.pareto(judged, "cost").to_dict()
    values = {name: point["value"] for name, point in front["experts"].items()}
    assert values == pytest.approx(MEASURED)


def test_a_front_shows_measured_values_of_choices_made_by_predicted_ones(fitted, judged):
    front = fitted.pareto(judged, "cost")
    values = {name: point["value"] for name, point in front.to_dict()["experts"].items()}
    assert values == pytest.approx(MEASURED)
    costs = np.array([MEASURED[name] for name in judged.experts])
    rows, weights = np.arange(len(judged)), front.points.weights[:, 0]
    # Two weights that are nearly the same may differ by less than what counts as a tie.
    apart = np.diff(weights, prepend=-1.0, append=np.inf)
    clear = np.flatnonzero(np.minimum(apart[:-1], apart[1:]) > 1e-6)
    assert len(clear) > 10
    for place in clear.tolist():
        chosen = choices(fitted, judged, float(weights[place]))
        assert front.points.losses[place] == pytest.approx(judged.losses[rows, chosen].mean())
        assert front.points.values[place, 0] == pytest.approx(costs[chosen].mean())
    # The router knows no weight that sends prompts to the giant, whose cost it overestimates.
    assert front.points.values.min() == pytest.approx(3e-4)
    assert front.oracle.values.min() == pytest.approx(1e-4)


@pytest.mark.parametrize("goals", [["cost"], ["cost", "size"]])
def test_the_policys_weight_on_a_goal_gives_way_to_the_swept_one(fitted, judged, goals):
    strict = fitted.with_policy(Policy(weights={"cost": 0.7}))
    assert strict.pareto(judged, *goals).to_dict() == fitted.pareto(judged, *goals).to_dict()
    large = fitted.with_policy(Policy(weights={"recency": 5.0}))
    assert large.pareto(judged, *goals).to_dict() != fitted.pareto(judged, *goals).to_dict()


def test_an_expert_that_a_prompt_excludes_is_no_choice_for_the_references(table, judged):
    """The coder is best on code, and its context is too short for about half of the code."""
    lengths = np.array([len(prompt) for prompt in judged.prompts])
    is_code = np.array([group == "code" for group in judged.groups])
    # An eighth of the context is left for the answer.
    context = int(np.median(lengths[is_code]) / 4 * 8 / 7)
    experts = [
        {"name": "coder", "model": "coder", "context_length": context},
        {"name": "writer", "model": "writer"},
        {"name": "giant", "model": "giant"},
    ]
    short = Router.fit(table, library=Library.from_dict({"experts": experts}), predictor="clusters")
    too_long = lengths / 4 > context * 7 / 8
    assert 4 < too_long[is_code].sum() < 16
    open_losses = judged.losses.copy()
    open_losses[too_long, 0] = np.inf
    figures = short.evaluate(replace(judged, targets={})).to_dict()
    assert figures["references"]["oracle"]["loss"] == pytest.approx(open_losses.min(axis=1).mean())
    assert figures["router"]["measured"] == 1.0
    assert figures["router"]["regret"] < 0.05


def test_an_expert_over_a_limit_on_a_goal_is_no_choice_for_the_references(fitted, judged):
    """The giant is predicted to cost more than it was measured to cost; the prediction decides."""
    limited = fitted.with_policy(Policy(limits={"cost": "<= 0.0005 USD"}))
    references = limited.evaluate(judged).to_dict()["references"]
    assert references["oracle"]["loss"] == pytest.approx(judged.losses[:, :2].min(axis=1).mean())
    assert references["best_single"]["loss"] == pytest.approx(
        judged.losses[:, :2].mean(axis=0).min()
    )


def test_of_experts_that_are_equal_on_average_the_cheaper_is_the_best_single_one(table, judged):
    """By name the coder comes first; by price the giant does, which is never the best."""
    prices = {"coder": 3.0, "writer": 2.0, "giant": 1.0}
    experts = [
        {"name": name, "model": name, "price": {"input": price, "output": price}}
        for name, price in prices.items()
    ]
    library = Library.from_dict({"experts": experts})
    router = Router.fit(table, library=library, predictor="best-single")
    rows = np.arange(len(judged))[:, None] % 2 == 0
    losses = np.where(rows, [0.25, 1.0, 0.5], [0.75, 0.0, 0.5])
    groups = tuple("ab"[row // 2 % 2] for row in range(len(judged)))
    equal = replace(judged, losses=losses, groups=groups, targets={})
    best_single = router.evaluate(equal).to_dict()["references"]["best_single"]
    assert (best_single["loss"], best_single["selection_accuracy"]) == (0.5, 0.0)
