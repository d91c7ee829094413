"""Bounds on shares, exploration, and the guard against forgetting, on made-up losses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tryage.cotraining.assigning import by_chance, explored, mutual_information, within_shares
from tryage.cotraining.guarding import forgotten


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 6),
    st.floats(0, 0.9),
    st.floats(0.1, 1),
    st.integers(0, 2**16),
)
def test_every_share_is_within_its_bounds(n, m, least, most, seed):
    draw = np.random.default_rng(seed)
    losses = draw.random((n, m)) * draw.integers(0, 2, (n, m))  # many are equal
    counts = np.bincount(within_shares(losses, least=least, most=most), minlength=m)
    assert counts.sum() == n
    assert counts.max() <= np.ceil(n * max(most, 1 / m))
    assert counts.min() >= np.floor(n * min(least, 1 / m))


def test_prompts_that_lose_least_move_first():
    losses = np.array([[0.1, 0.9], [0.1, 0.2], [0.1, 0.5], [0.1, 0.3]])
    assert within_shares(losses, least=0.0, most=0.5).tolist() == [0, 1, 0, 1]
    assert within_shares(losses, least=0.25, most=1.0).tolist() == [0, 1, 0, 0]
    assert within_shares(losses, least=0.0, most=1.0).tolist() == [0, 0, 0, 0]


def test_exploration_goes_to_every_other_expert_as_often_as_it_says():
    chosen = np.repeat([0, 1, 2], 20_000)
    result = explored(chosen, 3, 0.3, np.random.default_rng(0))
    assert (result.explored == (result.expert != chosen)).all()
    assert np.mean(result.explored) == pytest.approx(0.3, abs=0.01)
    for other in (1, 2):
        assert np.mean(result.expert[:20_000] == other) == pytest.approx(0.15, abs=0.01)
    assert set(result.probability[result.explored]) == {0.15}
    assert set(result.probability[~result.explored]) == {0.7}


def test_a_single_expert_explores_nothing():
    result = explored(np.zeros(50, dtype=np.int64), 1, 0.5, np.random.default_rng(0))
    assert set(result.expert.tolist()) == {0}
    assert set(result.probability) == {1.0}


def test_chance_gives_each_expert_the_same_probability():
    result = by_chance(40_000, 4, np.random.default_rng(0))
    assert np.bincount(result.expert) / 40_000 == pytest.approx(np.full(4, 0.25), abs=0.01)
    assert set(result.probability) == {0.25}


def test_mutual_information_is_none_or_all():
    assert mutual_information(["a", "b", "a", "b"], np.array([0, 1, 0, 1])) == pytest.approx(1.0)
    assert mutual_information(["a", "b", "a", "b"], np.array([0, 0, 1, 1])) == pytest.approx(0.0)


GROUPS = ["a"] * 6 + ["b"] * 6 + ["c", "d", "e", "f", "g"]
BEFORE = np.full(17, 2.0)
ALL = np.ones(17, dtype=bool)


def raised(rows, by):
    after = BEFORE.copy()
    after[rows] *= 1 + by
    return after


def test_an_update_may_raise_a_group_by_the_bound_and_no_more():
    assert forgotten(GROUPS, ALL, BEFORE, raised(slice(6, 12), 0.04), 0.05) is None
    reason = forgotten(GROUPS, ALL, BEFORE, raised(slice(6, 12), 0.06), 0.05)
    assert reason == "its loss on 'b' rose from 2.0000 to 2.1200, more than 5.0%, over 6 prompts"


def test_a_gain_elsewhere_does_not_pay_for_what_is_forgotten():
    after = raised(slice(0, 6), 0.5)
    after[6:] = 0.1
    assert "on 'a'" in str(forgotten(GROUPS, ALL, BEFORE, after, 0.05))


def test_small_groups_are_judged_together():
    assert "'small groups'" in str(forgotten(GROUPS, ALL, BEFORE, raised(slice(12, 17), 0.1), 0.05))


def test_prompts_that_the_expert_does_not_serve_do_not_count():
    judged = ALL.copy()
    judged[:6] = False
    assert forgotten(GROUPS, judged, BEFORE, raised(slice(0, 6), 9.0), 0.05) is None


def test_an_expert_that_can_no_longer_be_measured_is_rolled_back():
    after = BEFORE.copy()
    after[3] = np.nan
    assert "measured on 1 of 17" in str(forgotten(GROUPS, ALL, BEFORE, after, 0.05))
