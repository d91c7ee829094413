"""The chance of the lowest total, against formulas, draws and properties; and its spread."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tryage.chances import chance_of_lowest, fit_spread

NUMBERS = st.floats(-3, 3)
ERRORS = st.floats(0.01, 2)
EXPERTS = st.lists(st.tuples(NUMBERS, ERRORS), min_size=2, max_size=8)


def arrays(*rows):
    return (np.array(column, dtype=float) for column in zip(*rows, strict=True))


@given(NUMBERS, NUMBERS, ERRORS, ERRORS)
def test_two_experts_follow_the_formula(one, other, std, other_std):
    chances = chance_of_lowest(*arrays((one, std), (other, other_std)))
    z = (other - one) / math.hypot(std, other_std)
    assert chances[0] == pytest.approx(0.5 * math.erfc(-z / math.sqrt(2)), abs=2e-3)


def test_several_experts_follow_draws():
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=6), rng.uniform(0.1, 1.5, 6)
    draws = rng.normal(mean, std, (400_000, 6))
    shares = np.bincount(draws.argmin(axis=1), minlength=6) / len(draws)
    assert chance_of_lowest(mean, std) == pytest.approx(shares, abs=3e-3)


@given(EXPERTS)
def test_chances_sum_to_one_and_follow_the_experts(rows):
    mean, std = arrays(*rows)
    chances = chance_of_lowest(mean, std)
    assert chances.sum() == pytest.approx(1)
    assert (chances >= 0).all()
    assert chance_of_lowest(mean[::-1], std[::-1])[::-1] == pytest.approx(chances, abs=1e-9)
    better = mean.copy()
    better[0] -= 0.5
    assert chance_of_lowest(better, std)[0] >= chances[0] - 1e-6


def test_who_is_not_eligible_has_none():
    mean, std = np.array([np.inf, 0.2, 0.3, np.inf]), np.array([1, 0.1, 0.1, np.nan])
    chances = chance_of_lowest(mean, std)
    assert chances[[0, 3]].tolist() == [0, 0]
    assert chances.sum() == pytest.approx(1)
    assert chance_of_lowest(np.array([np.inf, 1.0]), np.zeros(2)).tolist() == [0, 1]
    assert chance_of_lowest(np.full(2, np.inf), np.zeros(2)).tolist() == [0, 0]


def test_what_is_known_exactly():
    assert chance_of_lowest(np.array([0.1, 0.2]), np.zeros(2)).tolist() == pytest.approx([1, 0])
    assert chance_of_lowest(np.array([0.1, 0.1]), np.zeros(2)) == pytest.approx([0.5, 0.5])
    chances = chance_of_lowest(np.array([0.0, 0.0]), np.array([np.nan, 1.0]))
    assert chances == pytest.approx([0.5, 0.5], abs=1e-3)


def test_the_spread_is_that_of_the_draws():
    rng = np.random.default_rng(1)
    mean, std = rng.uniform(0, 1, (600, 4)), rng.uniform(0.05, 0.1, (600, 4))
    for spread in (0.5, 1.0, 4.0):
        measured = rng.normal(mean, spread * std)
        assert fit_spread(mean, std, measured) == pytest.approx(spread, rel=0.3)
    gaps = measured.copy()
    gaps[::2, 0] = np.nan
    assert fit_spread(mean, std, gaps) == pytest.approx(4.0, rel=0.4)
    with pytest.raises(ValueError, match="two or more experts"):
        fit_spread(mean, std, np.full(mean.shape, np.nan))
