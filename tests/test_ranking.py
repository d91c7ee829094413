"""The order of experts, of few and of thousands: the same rule, by lists and by arrays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tryage import Expert, Goals, Library, Router
from tryage.ranking import excluded_columns, name_order, ranked_columns

SIZES = (3, 40, 511, 512, 900)


def made(size, seed):
    """Totals with many ties and many experts that are not eligible, and a chosen one."""
    rng = np.random.default_rng(seed)
    names = tuple(f"expert-{number}" for number in rng.permutation(size))
    totals = rng.integers(4, size=size).astype(float)
    totals[rng.random(size) < rng.choice([0.0, 0.3, 0.98])] = np.inf
    column = int(rng.integers(size))
    totals[column] = 0.0
    return totals, names, names[column]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(SIZES), st.integers(0, 10_000), st.sampled_from([None, 0, 1, 2, 5, 100]))
def test_the_first_of_a_ranking_are_those_of_a_plain_sort(size, seed, top):
    totals, names, chosen = made(size, seed)
    eligible = [column for column in range(size) if totals[column] < np.inf]
    plain = sorted(eligible, key=lambda c: (names[c] != chosen, totals[c], names[c]))
    assert ranked_columns(totals, names, chosen, top) == plain[:top]
    excluded = sorted(set(range(size)) - set(eligible), key=names.__getitem__)
    assert excluded_columns(totals, names, top or None) == excluded[: top or None]


def test_the_order_of_names_is_that_of_these_names():
    one, other = ("b", "a"), ("c", "d")
    assert name_order(one) is name_order(one)
    assert name_order(one).columns == [1, 0]
    assert name_order(other).column_of == {"c": 0, "d": 1}
    for number in range(40):
        assert name_order((str(number),)).names == (str(number),)
    assert name_order(one).ranks.tolist() == [1, 0]


@pytest.fixture(scope="module")
def wide():
    experts = tuple(
        Expert(name=f"e{n:04}", model="m", parameters=10**9 * (1 + n % 70)) for n in range(1500)
    )
    return Router.from_library(Library(experts, name="wide"))


def test_a_decision_among_thousands_ranks_and_reasons_as_among_few(wide):
    goals = Goals(size=1.0, limits={"parameters": "<=3B"})
    decision = wide.route("What is 2 + 2?", goals=goals)
    rows = decision.to_dict(top=4)["ranking"]
    assert [row["expert"] for row in rows] == ["e0000", "e0070", "e0140", "e0210"]
    assert decision.order[:4] == ("e0000", "e0070", "e0140", "e0210")
    ranking = decision.ranking
    assert len(ranking) == 1500
    assert [one.expert for one in ranking[:4]] == [row["expert"] for row in rows]
    assert not ranking[-1].eligible
    assert ranking[-1].reason == decision.reasons[ranking[-1].expert]
    assert "the limit is <= 3B" in ranking[-1].reason
    assert len(decision.reasons) == 1500 - len(decision.order)
