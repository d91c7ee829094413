"""One rule settles ties wherever experts are chosen: by price, then by name."""

import numpy as np
import pytest

from tryage import Expert, Library
from tryage.experts import Price
from tryage.ties import TIE, lowest, name_ranks, price_ranks


def library():
    """Experts in an order that neither price nor name gives."""
    prices = {
        "unpriced": None,
        "b": Price(input=1.0, output=2.0, per=1_000_000),
        "c": Price(input=0.002, output=0.0005, per=1_000),
        "a": Price(input=2.0, output=1.0, per=1_000_000),
    }
    return Library([Expert(name=n, model=f"lab/{n}", price=p) for n, p in prices.items()])


def test_experts_rank_by_price_per_token_then_by_name():
    # c costs 2.5 per million tokens in and out, a and b cost 3.
    assert price_ranks(library()).tolist() == [3, 2, 0, 1]


def test_name_ranks_follow_the_names():
    assert name_ranks(["c", "a", "b"]).tolist() == [2, 0, 1]


def test_values_closer_than_the_tolerance_are_settled_by_rank():
    ranks = np.array([7, 5, 9])  # those of some experts of a larger library
    rows = np.array([[0.5, 0.5 + TIE / 2, 0.4 + TIE], [0.5, 0.5 + 3 * TIE, 0.9], [0.2, 0.2, 0.2]])
    assert lowest(rows, ranks).tolist() == [2, 0, 1]


def test_values_that_are_missing_never_win():
    rows = np.array([[np.nan, 0.9, np.inf], [np.inf, np.inf, np.nan], [np.nan, np.nan, np.nan]])
    assert lowest(rows, np.array([0, 1, 2])).tolist() == [1, -1, -1]


@pytest.mark.parametrize("noise", [0.0, TIE / 2, -TIE / 2])
def test_a_price_settles_what_rounding_leaves_open(noise):
    losses = np.array([[0.3, 0.3 + noise, 0.3, 0.3]])
    assert lowest(losses, price_ranks(library())).tolist() == [2]
