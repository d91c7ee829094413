import datetime
import math

import numpy as np
import pytest

from tryage import Expert, Goals, Library
from tryage.errors import GoalError
from tryage.goals import GOALS, reference_date

LIBRARY = Library(
    [
        Expert(name="a", model="a", parameters="1M", released="2024-01-01"),
        Expert(name="b", model="b", parameters="100M", released="2024-01-31"),
        Expert(name="c", model="c"),
        Expert(name="d", model="d", parameters="10M"),
    ]
)


def test_size_is_scaled_by_its_logarithm_and_a_missing_one_counts_as_worst():
    goal = GOALS["size"]
    values = goal.values(LIBRARY, datetime.date.min)
    np.testing.assert_allclose(goal.scaled(values, goal.fit(values)), [0, 1, 1, 0.5])


def test_recency_counts_days_from_the_newest():
    goal, reference = GOALS["recency"], reference_date(LIBRARY)
    values = goal.values(LIBRARY, reference)
    np.testing.assert_array_equal(values, [30, 0, math.nan, math.nan])
    np.testing.assert_allclose(goal.scaled(values, goal.fit(values)), [1, 0, 1, 1])


def test_experts_that_are_all_alike_get_no_penalty():
    goal, values = GOALS["size"], np.array([5e6, 5e6])
    np.testing.assert_array_equal(goal.scaled(values, goal.fit(values)), [0, 0])


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"sise": 1}, "Did you mean 'size'"),
        ({"size": -0.1}, "-0.1; a weight is a number >= 0"),
        ({"size": math.nan}, "nan"),
        ({"recency": "much"}, "'much', not a number"),
    ],
)
def test_wrong_weights(weights, told):
    with pytest.raises(GoalError, match=told):
        Goals(**weights)
