import numpy as np
import pytest

from tryage.evaluation.intervals import bootstrap_intervals
from tryage.evaluation.metrics import measured_cells
from tryage.scores import ScoreTable


def cells(groups):
    rows = [
        {"prompt": f"p{i}", "group": group, "losses": {"a": 1.0}} for i, group in enumerate(groups)
    ]
    return measured_cells(ScoreTable.from_rows(rows), None)[0]


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    rng = np.random.default_rng(0)
    values = rng.normal(5.0, 2.0, size=400)
    ((low, high),) = bootstrap_intervals([values], cells(["g"] * 400), resamples=4000, seed=0)
    half = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_resamples_are_drawn_within_each_group_and_groups_weigh_the_same():
    rng = np.random.default_rng(1)
    groups = ["many"] * 900 + ["few"] * 9
    values = np.concatenate([rng.normal(0.0, 1.0, 900), rng.normal(10.0, 1.0, 9)])
    ((low, high),) = bootstrap_intervals([values], cells(groups), resamples=4000, seed=0)
    many, few = values[:900], values[900:]
    error = np.sqrt(many.var() / 900 + few.var() / 9) / 2
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert low < (many.mean() + few.mean()) / 2 < high


def test_figures_share_their_resamples_so_that_differences_are_paired():
    rng = np.random.default_rng(2)
    base = rng.normal(0.0, 5.0, size=200)
    pairs = [base, base + 0.1, base - (base + 0.1)]
    first, second, difference = bootstrap_intervals(
        pairs, cells(["g"] * 200), resamples=500, seed=0
    )
    assert second == pytest.approx((first[0] + 0.1, first[1] + 0.1))
    assert difference == pytest.approx((-0.1, -0.1))


def test_what_was_not_measured_is_left_out():
    values = np.array([1.0, np.nan, 1.0, np.nan])
    empty = np.full(4, np.nan)
    intervals = bootstrap_intervals(
        [values, empty], cells(["a", "a", "b", "b"]), resamples=99, seed=0
    )
    assert intervals == [(1.0, 1.0), None]


def test_no_resamples_give_no_intervals():
    assert bootstrap_intervals([np.zeros(2)], cells(["a", "a"]), resamples=0, seed=0) == [None]


def test_many_resamples_of_many_prompts_are_drawn_in_parts(monkeypatch):
    values = np.random.default_rng(3).normal(size=50)
    monkeypatch.setattr("tryage.evaluation.intervals._CELLS", 120)
    ((low, high),) = bootstrap_intervals([values], cells(["g"] * 50), resamples=2001, seed=0)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / np.sqrt(50), rel=0.1)
