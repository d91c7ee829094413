import json
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tryage import Expert, Library, Router
from tryage.encoders import StaticEncoder
from tryage.errors import ScoreTableError
from tryage.evaluation import Evaluation, TaskEvaluations, evaluate, of_tasks, row_of
from tryage.scores import ScoreTable

NAN = np.nan
ROW_KEYS = {
    "regret",
    "regret_ci95",
    "selection_accuracy",
    "strict_selection_accuracy",
    "measured",
    "cells",
}


def make(losses, *, groups=None, kind="losses", costs=None, experts=None):
    losses = np.asarray(losses, dtype=float)
    n, m = losses.shape
    return ScoreTable(
        prompts=tuple(f"prompt {i}" for i in range(n)),
        ids=tuple(str(i) for i in range(n)),
        groups=tuple(groups or [None] * n),
        tasks=(None,) * n,
        references=(None,) * n,
        experts=tuple(experts or (f"e{j}" for j in range(m))),
        losses=losses,
        kind=kind,
        targets={} if costs is None else {"cost": np.asarray(costs, dtype=float)},
    )


@pytest.fixture
def small():
    """Four prompts in two uneven groups under three experts, by hand."""
    return make(
        [[0.0, 1.0, 2.0], [3.0, 1.0, 2.0], [1.0, 1.0, 4.0], [0.5, 2.0, 0.0]],
        groups=["a", "a", "a", "b"],
    )


@st.composite
def tables(draw):
    n, m = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    cell = st.sampled_from([0.0, 0.5, 1.0, 1.0 + 1e-12, 2.0, NAN]) | st.floats(0, 10)
    losses = np.array(
        draw(st.lists(st.lists(cell, min_size=m, max_size=m), min_size=n, max_size=n))
    )
    losses[0, 0] = 1.0
    grouped = draw(st.booleans())
    names = st.sampled_from(["a", "b", "c", None])
    groups = draw(st.lists(names, min_size=n, max_size=n)) if grouped else None
    costs = np.where(losses > 1, losses, NAN) if draw(st.booleans()) else None
    choices = draw(st.lists(st.integers(-1, m - 1), min_size=n, max_size=n))
    penalties = draw(st.lists(st.floats(0, 3), min_size=m, max_size=m))
    return make(losses, groups=groups, costs=costs), np.array(choices), np.array(penalties)


# By hand


def test_every_figure_is_the_mean_over_groups(small):
    row = evaluate(small, [0, 0, 1, 1], resamples=0).router
    # Group a: losses 0, 3, 1; regrets 0, 2, 0; hits 1, 0, 1. Group b: 2, 2, 0.
    assert row == {
        "loss": pytest.approx((4 / 3 + 2) / 2),
        "loss_ci95": None,
        "regret": pytest.approx((2 / 3 + 2) / 2),
        "regret_ci95": None,
        "selection_accuracy": pytest.approx((2 / 3 + 0) / 2),
        "strict_selection_accuracy": pytest.approx((1 / 2 + 0) / 2),
        "measured": 1.0,
        "cells": 4,
    }


def test_the_references_are_chosen_by_hand_as_well(small):
    references = evaluate(small, [0, 0, 0, 0], resamples=0).references
    # Means in group a: 4/3, 1, 8/3; in b: 0.5, 2, 0; over groups: 11/12, 3/2, 4/3.
    assert references["oracle"]["loss"] == pytest.approx((2 / 3 + 0) / 2)
    assert references["group_best"]["loss"] == pytest.approx((1 + 0) / 2)
    assert references["best_single"]["loss"] == pytest.approx(11 / 12)
    assert references["random"]["loss"] == pytest.approx(((1 + 2 + 2) / 3 + 2.5 / 3) / 2)
    assert references["random"]["selection_accuracy"] == pytest.approx(
        ((1 + 1 + 2) / 9 + 1 / 3) / 2
    )
    assert references["random"]["strict_selection_accuracy"] == pytest.approx(1 / 3)
    assert references["clusters"] is references["nearest"] is references["shuffled_labels"] is None


def test_groups_hold_the_routers_own_figures(small):
    assert evaluate(small, [0, 0, 1, 1], resamples=0).groups == {
        "a": {
            "prompts": 3,
            "cells": 3,
            "loss": pytest.approx(4 / 3),
            "regret": pytest.approx(2 / 3),
            "selection_accuracy": pytest.approx(2 / 3),
        },
        "b": {"prompts": 1, "cells": 1, "loss": 2.0, "regret": 2.0, "selection_accuracy": 0.0},
    }


def test_scores_are_one_minus_the_losses_and_differences_keep_their_sign():
    table = make([[0.0, 1.0], [0.25, 0.5]], kind="scores", groups=["a", "b"])
    evaluation = evaluate(table, [0, 1], resamples=200)
    assert evaluation.router["score"] == pytest.approx((1 + 0.5) / 2)
    assert evaluation.paired["best_single"]["difference"] == pytest.approx(-0.125)
    worse = evaluate(table, [0, 0], resamples=200)
    assert worse.paired["best_single"] == {
        "difference": 0.0,
        "ci95": [0.0, 0.0],
        "both_measured": 2,
    }
    reversed_ = evaluate(make([[0.0, 1.0], [5.0, 1.0]]), [0, 1], resamples=0)
    assert reversed_.paired["best_single"]["difference"] == pytest.approx(0.5)


def test_the_oracle_takes_the_cheaper_of_equals_and_costs_are_means():
    table = make([[1.0, 1.0], [0.0, 2.0]], costs=[[0.3, 0.1], [0.4, NAN]])
    evaluation = evaluate(table, [0, 1], resamples=0)
    assert evaluation.references["oracle"]["mean_cost"] == pytest.approx((0.1 + 0.4) / 2)
    # The second's is taken to be the mean of the other expert, 0.35; one cell tells too little.
    assert evaluation.router["mean_cost"] == pytest.approx((0.3 + 0.35) / 2)
    # The mean of both experts' measured means, 0.35 and 0.1.
    assert evaluation.references["random"]["mean_cost"] == pytest.approx((0.35 + 0.1) / 2)


def test_choices_that_were_not_measured_are_estimated_and_counted():
    table = make([[1.0, NAN], [1.0, 3.0], [NAN, NAN]])
    evaluation = evaluate(table, [1, 1, 0], resamples=50)
    assert evaluation.prompts == 2
    assert evaluation.router["loss"] == 3.0
    assert (evaluation.router["measured"], evaluation.router["cells"]) == (0.5, 1)
    assert evaluation.references["random"]["cells"] == 3
    assert evaluation.to_dict()["cells"] == {"measured": 3, "possible": 4}
    assert evaluation.references["random"]["measured"] == 0.75
    nothing = row_of(table, [-1, -1, -1])
    assert nothing["loss"] is nothing["loss_ci95"] is None
    assert nothing["measured"] == 0.0


def test_losses_within_a_billionth_are_equally_good():
    table = make([[0.5, 0.5 + 5e-10], [0.5, 0.5 + 5e-9]])
    row = evaluate(table, [1, 1], resamples=0).router
    assert row["selection_accuracy"] == 0.5
    assert row["strict_selection_accuracy"] == 0.0


def test_a_measured_cost_counts_where_the_loss_is_missing():
    table = make([[1.0, NAN], [1.0, 3.0]], costs=[[0.1, 0.9], [0.2, 0.4]])
    evaluation = evaluate(table, [1, 1], resamples=0)
    assert evaluation.router["mean_cost"] == pytest.approx(0.65)
    assert evaluation.references["random"]["mean_cost"] == pytest.approx((0.5 + 0.3) / 2)


def test_regret_is_of_the_objective_and_the_loss_is_the_measured_one():
    table = make([[1.0, 2.0], [1.0, 3.0]])
    evaluation = evaluate(table, [1, 1], penalties=[1.5, 0.0], resamples=0)
    assert evaluation.router["loss"] == 2.5
    assert evaluation.router["regret"] == pytest.approx(0.25)  # 2 < 2.5, then 3 > 2.5
    assert evaluation.references["oracle"]["loss"] == pytest.approx(1.5)
    assert evaluation.references["best_single"]["regret"] == pytest.approx(0.25)
    each = evaluate(table, [1, 1], penalties=[[1.5, 0.0], [0.0, 0.0]], resamples=0)
    assert each.router["regret"] == pytest.approx(1.0)


def test_without_groups_there_is_no_group_best():
    evaluation = evaluate(make([[1.0, 2.0]]), [0])
    assert evaluation.groups == {}
    assert evaluation.references["group_best"] is evaluation.paired["group_best"] is None


def test_prompts_without_group_are_one_group_more():
    evaluation = evaluate(make([[1.0], [2.0]], groups=["a", None]), [0, 0], resamples=0)
    assert set(evaluation.groups) == {"a", "(no group)"}


# Properties


@settings(max_examples=150, deadline=None)
@given(drawn=tables())
def test_regret_is_never_negative_and_zero_for_the_oracle(drawn):
    table, choices, penalties = drawn
    complete = not np.isnan(table.losses).any()
    evaluation = evaluate(table, choices, penalties=penalties, predicted=table.losses, resamples=20)
    for row in (evaluation.router, *evaluation.references.values()):
        if row is not None and row["regret"] is not None:
            assert row["regret"] >= 0 or not complete
            assert row["regret_ci95"][0] >= 0 or not complete
            assert row["selection_accuracy"] is None or 0 <= row["selection_accuracy"] <= 1
    several = (~np.isnan(table.losses)).sum(axis=1) > 1
    assert evaluation.references["oracle"]["regret"] == (0 if several.any() else None)
    assert evaluation.references["oracle"]["selection_accuracy"] == (1 if several.any() else None)
    assert evaluation.references["oracle"]["measured"] == 1
    assert evaluation.one_expert == ((~np.isnan(table.losses)).sum(axis=1) == 1).sum()


@settings(max_examples=150, deadline=None)
@given(drawn=tables(), data=st.data())
def test_permuting_the_columns_changes_nothing(drawn, data):
    table, choices, penalties = drawn
    m = len(table.experts)
    order = np.array(data.draw(st.permutations(range(m))))
    place = np.append(np.argsort(order), -1)
    predicted = np.nan_to_num(table.losses, nan=3.0)
    first = evaluate(table, choices, penalties=penalties, predicted=predicted, resamples=20)
    second = evaluate(
        table.reorder([table.experts[i] for i in order]),
        place[choices],
        penalties=penalties[order],
        predicted=predicted[:, order],
        resamples=20,
    )
    assert flat(second.to_dict()) == pytest.approx(flat(first.to_dict()), abs=1e-9, nan_ok=True)


def flat(value, name=""):
    """Every number of a nested object by its path; None as NaN."""
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in flat(part, f"{name}.{key}").items()}
    if isinstance(value, list):
        return flat(dict(enumerate(value)), name)
    return {name: NAN if value is None else value}


# Fitted references


@pytest.fixture(scope="module")
def domains():
    """A train and a test table in which the prompt's kind says which expert is best."""
    words = {"code": "def f(x): return x + ", "law": "The court of appeal dismissed claim "}
    rng = np.random.default_rng(0)

    def table(start):
        rows = []
        for number in range(start, start + 120):
            kind = ("code", "law")[number % 2]
            good, bad = rng.uniform(0, 0.2), rng.uniform(1, 1.2)
            losses = {"coder": good, "lawyer": bad} if kind == "code" else {}
            losses = losses or {"coder": bad * 0.9, "lawyer": good}
            rows.append({"prompt": f"{words[kind]}{number}", "group": kind, "losses": losses})
        return ScoreTable.from_rows(rows)

    return table(0), table(1000)


@pytest.mark.parametrize("encoder", [None, StaticEncoder.bundled()])
def test_with_the_training_table_the_fitted_rows_are_given(domains, encoder):
    train, test = domains
    train = train.reorder(["lawyer", "coder"])
    evaluation = evaluate(
        test, np.zeros(len(test), int), train=train, encoder=encoder, resamples=100
    )
    bounds = evaluation.references
    assert bounds["clusters"]["selection_accuracy"] == 1.0
    assert bounds["nearest"]["selection_accuracy"] == 1.0
    assert bounds["shuffled_labels"]["selection_accuracy"] < 0.8
    assert evaluation.paired["clusters"]["difference"] < 0
    assert evaluation.paired["clusters"]["ci95"][1] < 0


def test_the_fitted_rows_weigh_the_penalties(domains):
    train, test = domains
    choices = np.zeros(len(test), int)
    evaluation = evaluate(test, choices, train=train, penalties=[5.0, 0.0], resamples=0)
    lawyer = np.nanmean(test.losses[:, test.experts.index("lawyer")])
    assert evaluation.references["clusters"]["loss"] == pytest.approx(lawyer)


def test_an_evaluation_is_reproducible_and_its_seed_moves_the_intervals(domains):
    train, test = domains
    choices = np.arange(len(test)) % 2
    first, second = (evaluate(test, choices, train=train, seed=3).to_dict() for _ in range(2))
    assert first == second
    assert evaluate(test, choices, seed=4).router["loss_ci95"] != first["router"]["loss_ci95"]


# The object and the table


def test_the_object_has_the_keys_that_the_command_line_promises(domains):
    train, test = domains
    evaluation = evaluate(test, [0] * len(test), train=train, predicted=test.losses, resamples=20)
    object_ = evaluation.to_dict()
    assert set(object_) == {
        "prompts",
        "groups",
        "router",
        "references",
        "paired",
        "choices",
        "prediction",
        "out_of_distribution",
        "one_expert",
        "cells",
        "few",
    }
    assert list(object_["references"]) == [
        "oracle",
        "group_best",
        "best_single",
        "clusters",
        "nearest",
        "random",
        "shuffled_labels",
    ]
    for row in (object_["router"], *object_["references"].values()):
        assert set(row) == ROW_KEYS | {"loss", "loss_ci95"}
    assert set(object_["paired"]) == {"group_best", "clusters", "best_single"}
    assert all(
        set(pair) == {"difference", "ci95", "both_measured"} for pair in object_["paired"].values()
    )
    assert set(object_["prediction"]) == {"mae", "spearman"}
    assert set(object_["groups"]["code"]) == {
        "prompts",
        "cells",
        "loss",
        "regret",
        "selection_accuracy",
    }
    assert json.loads(json.dumps(object_, allow_nan=False)) == object_
    object_["router"]["loss"] = 9.0
    assert evaluation.router["loss"] != 9.0


def test_tables_of_scores_speak_of_scores_and_of_costs_where_there_are():
    table = make([[0.0, 1.0]], kind="scores", groups=["g"], costs=[[0.1, 0.2]])
    evaluation = evaluate(table, [0])
    assert set(evaluation.router) == ROW_KEYS | {"score", "score_ci95", "mean_cost"}
    assert set(evaluation.groups["g"]) == {
        "prompts",
        "cells",
        "score",
        "regret",
        "selection_accuracy",
    }
    assert evaluation.to_dict()["prediction"] is None


def test_the_share_out_of_distribution_is_of_the_measured_prompts():
    table = make([[0.0, 1.0], [NAN, NAN], [1.0, 0.0], [0.5, 0.5]])
    marks = [True, True, False, False]
    evaluation = evaluate(table, [0, 0, 0, 0], out_of_distribution=marks, resamples=0)
    assert evaluation.to_dict()["out_of_distribution"] == evaluation.out_of_distribution == 1 / 3
    sentence = "Out of distribution: 33.3% of the prompts, unlike all training prompts"
    assert sentence in evaluation.table().replace("\n", " ")
    unknown = evaluate(table, [0, 0, 0, 0], resamples=0)
    assert unknown.to_dict()["out_of_distribution"] is None
    assert "Out of distribution" not in unknown.table()
    with pytest.raises(ScoreTableError, match=r"out_of_distribution of shape \(2,\) for 4 prompts"):
        evaluate(table, [0, 0, 0, 0], out_of_distribution=[True, False])


def test_a_router_tells_the_share_of_a_table_that_is_out_of_distribution(domains):
    train, test = domains
    library = Library([Expert(name=name, model=name) for name in train.experts])
    router = Router.fit(train, library=library, predictor="clusters")
    strange = [f"{number} {number}: <<>> @@@ {{}}" for number in range(len(test))]
    rows = np.arange(len(test)) % 4 == 0
    prompts = [strange[i] if rows[i] else test.prompts[i] for i in range(len(test))]
    mixed = replace(test, prompts=tuple(prompts))
    marks = [decision.out_of_distribution for decision in router.route_batch(prompts)]
    evaluation = router.evaluate(mixed)
    assert 0.2 < evaluation.out_of_distribution < 0.5
    assert evaluation.out_of_distribution == np.mean(marks)


def test_the_printed_table_says_what_its_rows_are(small, domains):
    text = evaluate(small, [0, 0, 1, 1], resamples=50).table()
    lines = text.splitlines()
    header = next(i for i, line in enumerate(lines) if "sole best %" in line)
    names = [line.split("  ")[0] for line in lines[header + 1 : lines.index("")]]
    assert names == ["oracle *", "group best *", "best single *", "router", "random"]
    assert "* chosen on this very table with the results known: upper bounds" in text
    assert "best chosen: prompts on which no expert did better" in text
    assert "need the training table: --train" in text.replace("\n", " ")
    assert max(map(len, lines)) <= 100
    train, test = domains
    text = evaluate(test, [0] * len(test), train=train, resamples=20).table()
    assert "shuffled labels are fitted on the training table" in text.replace("\n", " ")
    assert "router against clusters: -" in text


def test_the_printed_table_shows_costs_and_unmeasured_choices_only_where_there_are():
    plain = evaluate(make([[0.0, 1.0]]), [0]).table()
    assert "USD per 1,000" not in plain
    assert "measured %" not in plain
    table = make([[0.0, 1.0], [NAN, 0.5]], costs=[[0.002, NAN], [NAN, NAN]], kind="scores")
    text = evaluate(table, [0, 0]).table()
    router = next(line for line in text.splitlines() if line.startswith("router "))
    assert router.split()[1] == "100.00"
    assert router.split()[-3:] == ["2", "50.0", "1"]


def test_several_tasks_are_one_object_and_one_table_each(small):
    evaluation = evaluate(small, [0] * 4, resamples=0)
    assert of_tasks({"text-generation": evaluation}) is evaluation
    both = of_tasks({"text-generation": evaluation, "fill-mask": evaluation})
    assert isinstance(both, TaskEvaluations)
    assert isinstance(both.tasks["fill-mask"], Evaluation)
    assert both.to_dict() == {
        "tasks": {"text-generation": evaluation.to_dict(), "fill-mask": evaluation.to_dict()}
    }
    assert both.table().count("oracle *") == 2


# Wrong input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": [0]}, r"choices of shape \(1,\)"),
        ({"choices": [0.0] * 4}, "type float64"),
        ({"choices": [0, 0, 0, 3]}, "choice 3 of a table with 3 experts"),
        ({"penalties": [1.0, 2.0]}, r"penalties of shape \(2,\) do not fit"),
        ({"penalties": [1.0, 2.0, np.inf]}, "penalties must be finite"),
        ({"predicted": [[1.0]]}, r"predicted losses of shape \(1, 1\)"),
        ({"train": make([[1.0]], experts=["other"])}, "expert 'e0' is not in the table"),
    ],
)
def test_arrays_that_do_not_fit_are_named(small, changes, message):
    with pytest.raises(ScoreTableError, match=message):
        evaluate(small, **{"choices": [0] * 4} | changes)


def test_a_table_without_measured_cells_cannot_be_evaluated():
    with pytest.raises(ScoreTableError, match="no measured cell"):
        evaluate(make([[NAN, NAN]]), [0])


# Real data: the figures that were read off it before


def test_the_reference_rows_of_open7_are_the_published_ones(data_dir):
    table = ScoreTable.read(data_dir / "routing" / "open7_test.jsonl.gz")
    evaluation = evaluate(table, np.zeros(len(table), int), resamples=100)
    expected = {
        "random": (47.67, 60.0, 29.85),
        "best_single": (54.56, 69.1, 22.96),
        "group_best": (58.70, 73.2, 18.82),
        "oracle": (77.52, 100.0, 0.0),
    }
    for name, (score, accuracy, regret) in expected.items():
        row = evaluation.references[name]
        assert round(100 * row["score"], 2) == score
        assert round(100 * row["selection_accuracy"], 1) == accuracy
        assert round(100 * row["regret"], 2) == regret
        low, high = row["score_ci95"]
        assert low < row["score"] < high
    assert set(evaluation.groups) == {"mmlu", "gsm8k", "cmmlu", "arc_challenge", "humaneval"}
