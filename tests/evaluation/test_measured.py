"""The estimate of what is missing: exact where nothing is, unbiased where cells are deleted."""

import numpy as np
import pytest

from tryage import ScoreTable
from tryage.errors import TryageWarning
from tryage.evaluation import evaluate
from tryage.evaluation.doubts import Few, few_measured, few_sentence, warn_of_few
from tryage.evaluation.measured import (
    Counts,
    estimated,
    group_places,
    is_measured,
    measured_shares,
    measured_weights,
    modelled,
)

NAN = np.nan
RATES = np.array([0.9, 0.75, 0.6, 0.5])
"""Chance of each expert's cell to be measured; the second group has them in reverse."""


def table_of(losses, groups, kind="scores"):
    n, m = losses.shape
    return ScoreTable(
        prompts=tuple(f"p{i}" for i in range(n)),
        ids=tuple(map(str, range(n))),
        groups=tuple(groups),
        tasks=(None,) * n,
        references=(None,) * n,
        experts=tuple(f"e{j}" for j in range(m)),
        losses=losses,
        kind=kind,
    )


def drawn(rng, n=240):
    """Return losses, groups and choices: hard prompts are hard for all, and the router knows."""
    group = np.arange(n) % 3 // 2  # two thirds and one third
    chance = np.array([[0.2, 0.35, 0.5, 0.3], [0.6, 0.4, 0.2, 0.5]])[group]
    hard = rng.normal(0.0, 0.25, (n, 1))
    losses = (rng.random((n, 4)) < np.clip(chance + hard, 0.02, 0.98)).astype(float)
    choices = (chance + rng.normal(0.0, 0.3, (n, 4)) + 0.4 * losses).argmin(axis=1)
    return losses, group, choices


def thinned(rng, losses, group, keep=1.0):
    """Delete cells at random, more of some experts than of others, and otherwise by group."""
    rates = keep * np.where(group[:, None] == 0, RATES, RATES[::-1])
    return np.where(rng.random(losses.shape) < rates, losses, NAN)


def macro(values, group):
    return np.mean([values[group == name].mean(axis=0) for name in (0, 1)], axis=0)


def complete_case(losses, group, choices):
    """Return the mean of the prompts that every expert answered, as it used to be taken."""
    rows = np.flatnonzero(~np.isnan(losses).any(axis=1))
    present = [name for name in (0, 1) if (group[rows] == name).any()]
    value = losses[rows, choices[rows]]
    return np.mean([value[group[rows] == name].mean() for name in present])


# Unbiased


def test_deleted_cells_change_means_by_chance_alone_and_less_than_leaving_prompts_out():
    rng = np.random.default_rng(0)
    losses, group, choices = drawn(rng)
    row = np.arange(len(losses))
    of_choices = macro(losses[row, choices], group)
    errors, singles, left_out = [], [], []
    for _ in range(300):
        holes = thinned(rng, losses, group)
        cells = estimated(holes, group, 2)
        errors.append(macro(cells[row, choices], group) - of_choices)
        singles.append(macro(cells, group) - macro(losses, group))
        left_out.append(complete_case(holes, group, choices) - of_choices)
    for error in (np.array(errors)[:, None], np.array(singles)):
        chance = error.std(axis=0) / np.sqrt(len(error))
        assert (np.abs(error.mean(axis=0)) < 3.5 * chance).all()
    assert np.std(errors) < 0.4 * np.std(left_out)


def test_corrections_undo_what_the_model_gets_wrong():
    """The router knows which prompt suits which expert; the model of experts and groups does not.

    By the model alone its choices look worse than they are.
    """
    rng = np.random.default_rng(1)
    losses, group, choices = drawn(rng)
    row = np.arange(len(losses))
    of_choices = macro(losses[row, choices], group)
    holes = [thinned(rng, losses, group) for _ in range(200)]
    alone = [
        macro(np.where(np.isnan(h), modelled(h, group, 2), h)[row, choices], group) for h in holes
    ]
    corrected = [macro(estimated(h, group, 2)[row, choices], group) for h in holes]
    assert abs(np.mean(corrected) - of_choices) < 0.005
    assert np.mean(alone) > of_choices + 0.02


def test_intervals_hold_the_mean_of_all_prompts_about_as_often_as_they_say():
    """Prompts are drawn from many, whose mean is known, and then cells are deleted."""
    rng = np.random.default_rng(2)
    losses, group, choices = drawn(rng, 30_000)
    row = np.arange(len(losses))
    value = 1 - macro(losses[row, choices], group)
    best = (1 - macro(losses, group)).max()
    inside = gains = 0
    times = 150
    for number in range(times):
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(group == name), size) for name, size in ((0, 120), (1, 60))]
        )
        holes = thinned(rng, losses[rows], group[rows])
        table = table_of(holes, [f"g{name}" for name in group[rows]])
        result = evaluate(table, choices[rows], resamples=200, seed=number)
        low, high = result.router["score_ci95"]
        inside += low <= value <= high
        low, high = result.paired["best_single"]["ci95"]
        gains += low <= value - best <= high
    assert 0.89 <= inside / times <= 0.99
    assert gains / times >= 0.85  # a best single expert is chosen in hindsight


# Exact


def test_nothing_is_touched_where_nothing_is_missing():
    losses, group, _ = drawn(np.random.default_rng(3))
    assert (estimated(losses, group, 2) == losses).all()
    holes = losses.copy()
    holes[group == 1] = thinned(np.random.default_rng(4), losses, group)[group == 1]
    cells = estimated(holes, group, 2)
    # A group without missing cells stays as it was measured.
    assert (cells[group == 0] == losses[group == 0]).all()
    assert not np.isnan(cells).any()


def test_without_difficulty_a_mean_is_the_mean_of_the_measured():
    losses = np.array([[1.0], [NAN], [3.0], [NAN], [5.0]])
    cells = estimated(losses, np.zeros(5, int), 1)
    assert cells.mean() == pytest.approx(3.0)
    # Of two measured cells each is held against the other.
    two = estimated(np.array([[1.0], [2.0], [NAN], [NAN]]), np.zeros(4, int), 1)
    assert two[:, 0] == pytest.approx([2 + 2 * (1 - 2), 1 + 2 * (2 - 1), 1.5, 1.5])


def test_a_cell_does_not_tell_of_itself():
    rng = np.random.default_rng(5)
    losses, group, _ = drawn(rng, 60)
    holes = thinned(rng, losses, group)
    row, column = np.argwhere(~np.isnan(holes))[7]
    changed = holes.copy()
    changed[row, column] = 1 - changed[row, column]
    first, second = modelled(holes, group, 2), modelled(changed, group, 2)
    # How alike experts are is one number of the whole table, in which each cell has a small part.
    assert first[row, column] == pytest.approx(second[row, column], abs=0.02)
    others = np.flatnonzero((group == group[row]) & (np.arange(60) != row))
    assert not np.allclose(first[others, column], second[others, column], atol=0.02)


def test_a_hard_prompt_is_expected_to_be_hard_for_others_too():
    losses = np.array([[0.0, 0.0, NAN]] * 6 + [[1.0, 1.0, NAN]] * 6 + [[0.0, 0.0, 0.0], [1, 1, 1]])
    model = modelled(losses, np.zeros(14, int), 1)
    assert (model[:6, 2] < 0.3).all()
    assert (model[6:12, 2] > 0.7).all()
    unlike = np.array([[0.0, 1.0, NAN]] * 6 + [[1.0, 0.0, NAN]] * 6 + [[0.0, 1.0, 0.0], [1, 0, 1]])
    assert np.ptp(modelled(unlike, np.zeros(14, int), 1)[:12, 2]) < 1e-9


def test_an_expert_without_results_in_a_group_is_placed_by_the_others():
    level = np.array([[1.0, 2.0, 4.0]] * 4 + [[3.0, 4.0, NAN]] * 4)
    cells = estimated(level, np.repeat([0, 1], 4), 2)
    assert cells[4:, 2] == pytest.approx(6.0, abs=2.0)
    assert (cells[4:, 2] > 3.5).all()
    assert np.isnan(estimated(np.array([[1.0, NAN], [2.0, NAN]]), np.zeros(2, int), 1)[:, 1]).all()


def test_cells_that_are_not_open_are_not_missing():
    losses = np.array([[1.0, 2.0], [3.0, NAN], [5.0, NAN]])
    may = np.array([[True, True], [True, False], [True, True]])
    group = np.zeros(3, int)
    assert measured_shares(is_measured(losses), group, 1, may)[:, 1] == pytest.approx([0.5] * 3)
    assert measured_weights(is_measured(losses), group, 1, may)[:, 1].tolist() == [2.0, 0.0, 0.0]
    cells = estimated(losses, group, 1, open_cells=may)
    assert np.isnan(cells[1, 1])
    assert not np.isnan(cells[[0, 2], 1]).any()
    whole = estimated(losses[:2], group[:2], 1, open_cells=may[:2])
    assert np.array_equal(whole, losses[:2], equal_nan=True)


def test_counts_and_groups():
    places, names = group_places(["b", None, "a", "b"])
    assert places.tolist() == [0, 1, 2, 0]
    assert names == ("b", "(no group)", "a")
    counts = Counts.of(np.array([[True, False]]), np.array([[True, True]]))
    assert str(counts) == "1 of 2 cells measured"
    assert (counts.complete, counts.to_dict()) == (False, {"measured": 1, "possible": 2})


# What is said


def test_experts_with_few_results_are_named_where_figures_take_them():
    measured = np.ones((40, 2), dtype=bool)
    measured[3:20, 1] = False  # three left of twenty
    measured[30:, 0] = False  # ten left of twenty
    groups = np.repeat([0, 1], 20)
    few = few_measured(measured, groups, ["a", "b"], ["x", "y"])
    assert few == [Few("y", "a", 20, 3)]
    assert few_measured(measured, groups, ["a", "b"], ["x", "y"], np.zeros(40, int)) == []
    only_measured = np.where(np.arange(40) < 3, 1, 0)
    assert few_measured(measured, groups, ["a", "b"], ["x", "y"], only_measured) == []
    assert few_sentence(few * 7) == (
        "too few results to estimate the missing ones by: "
        + ", ".join(["y on a (3 measured)"] * 5)
        + ", 2 more; measure them, or leave these experts out"
    )
    with pytest.warns(TryageWarning, match="y on a"):
        warn_of_few(few)
    warn_of_few([])


def test_an_evaluation_says_what_it_rests_on():
    rng = np.random.default_rng(6)
    losses, group, choices = drawn(rng, 90)
    holes = thinned(rng, losses, group)
    holes[group == 1, 0] = NAN
    holes[np.flatnonzero(group == 1)[:3], 0] = 1.0
    table = table_of(holes, [f"g{name}" for name in group])
    result = evaluate(table, np.zeros(90, int), resamples=0)
    record = result.to_dict()
    assert record["cells"] == {"measured": int(is_measured(holes).sum()), "possible": 360}
    assert record["router"]["cells"] == int(is_measured(holes[:, 0]).sum())
    assert record["groups"]["g1"]["cells"] == 3
    assert record["references"]["random"]["cells"] == record["cells"]["measured"]
    assert record["few"] == [{"expert": "e0", "group": "g1", "prompts": 30, "measured": 3}]
    text = result.table().replace("\n", " ")
    assert f"{record['cells']['measured']} of 360 cells measured" in text
    assert "warning: too few results to estimate the missing ones by: e0 on g1 (3 measured)" in text
    whole = evaluate(table_of(losses, table.groups), choices, resamples=0)
    assert "cells" not in whole.table()
    assert whole.to_dict()["cells"] == {"measured": 360, "possible": 360}


def test_the_oracle_and_the_hits_are_of_what_was_measured():
    losses = np.array([[1.0, 0.0], [NAN, 1.0], [0.0, NAN], [0.0, 1.0]])
    result = evaluate(table_of(losses, [None] * 4), [0, 0, 0, 0], resamples=0)
    # The second prompt's best measured expert failed; the first might not have.
    assert result.references["oracle"]["score"] == pytest.approx(3 / 4)
    assert result.references["oracle"]["cells"] == 6
    assert result.router["selection_accuracy"] == pytest.approx(1 / 2)


def test_hits_weigh_as_many_prompts_as_they_stand_for():
    """Of four choices of e1 two were measured: each stands for two, the one of e0 for itself."""
    losses = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.5, NAN], [0.5, NAN]])
    losses = np.column_stack([losses, np.ones(5)])
    result = evaluate(table_of(losses, [None] * 5), [2, 1, 1, 1, 1], resamples=0)
    shares = 5 / 3  # e1 was measured on three of five prompts
    assert result.router["selection_accuracy"] == pytest.approx(2 * shares / (1 + 2 * shares))


def test_regret_is_of_the_prompts_with_several_results_and_their_shares():
    losses = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, NAN], [1.0, NAN], [1.0, NAN]])
    result = evaluate(table_of(losses, [None] * 5), [1] * 5, resamples=0)
    assert result.one_expert == 3
    # Of the first two prompts nothing is missing: regrets 1 and 0.
    assert result.router["regret"] == pytest.approx(0.5)


def test_nobody_is_best_on_a_group_of_which_it_has_no_result():
    losses = np.array([[0.0, 1.0], [0.0, 1.0], [NAN, 0.6], [NAN, 0.4], [NAN, 0.5]])
    result = evaluate(table_of(losses, [*"aabbb"]), [0] * 5, resamples=0)
    assert result.references["group_best"]["cells"] == 5
    assert result.references["group_best"]["score"] == pytest.approx((1 + 0.5) / 2)
