import datetime
import json
import math

import numpy as np
import pytest

from tryage import Expert, Goals, Library, Security
from tryage import goals as goal_module
from tryage.errors import GoalError
from tryage.goals import GOALS, Goal, GoalInputs, reference_date

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
    values = goal.values(LIBRARY, GoalInputs(datetime.date.min))
    np.testing.assert_allclose(goal.scaled(values, goal.fit(values)), [0, 1, 1, 0.5])


def test_recency_counts_days_from_the_newest():
    goal, reference = GOALS["recency"], reference_date(LIBRARY)
    values = goal.values(LIBRARY, GoalInputs(reference))
    np.testing.assert_array_equal(values, [30, 0, math.nan, math.nan])
    np.testing.assert_allclose(goal.scaled(values, goal.fit(values)), [1, 0, 1, 1])


def test_experts_that_are_all_alike_get_no_penalty():
    goal, values = GOALS["size"], np.array([5e6, 5e6])
    np.testing.assert_array_equal(goal.scaled(values, goal.fit(values)), [0, 0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"sise": 1}, "Did you mean 'size'"),
        ({"size": -0.1}, "-0.1; a weight is a number from 0 to"),
        ({"size": math.nan}, "nan"),
        ({"size": 1e308}, "1e.308; a weight is a number from 0 to 1e.06"),
        ({"recency": "much"}, "'much', not a number"),
    ],
)
def test_wrong_weights(weights, message):
    with pytest.raises(GoalError, match=message):
        Goals(**weights)


class Hops(Goal):
    name, unit = "hops", "network hops"

    def value(self, expert):
        return 1.0


def test_goals_of_ones_own_bring_their_weight():
    goals = Goals(size=0.1, custom=[Hops(0.2)])
    assert goals.weights == {"size": 0.1, "hops": 0.2}
    assert goals.to_dict() == {"weights": {"size": 0.1, "hops": 0.2}, "limits": []}
    assert isinstance(hash(goals), int)


@pytest.mark.parametrize(
    ("custom", "message"),
    [
        ([Hops(-1)], "hops is -1"),
        ([Hops(1), Hops(1)], "two goals are named 'hops'"),
        ([Hops], "is not a goal"),
    ],
)
def test_wrong_goals_of_ones_own(custom, message):
    with pytest.raises(GoalError, match=message):
        Goals(custom=custom)


def test_a_weight_given_twice_is_refused():
    with pytest.raises(GoalError, match="weight twice"):
        Goals(security=0.1, custom=[goal_module.Security(0.2)])


def test_goals_with_other_weights_keep_goals_of_ones_own_and_limits():
    goals = Goals(size=0.1, custom=[Hops(0.2)], limits={"parameters": "<=3B"})
    changed = goals.with_weights({"hops": 0.7, "cost": 0.3})
    assert changed.weights == {"size": 0.1, "hops": 0.7, "cost": 0.3}
    assert (changed.custom, changed.limits) == (goals.custom, goals.limits)
    assert goals.weights == {"size": 0.1, "hops": 0.2}
    with pytest.raises(GoalError, match="Did you mean 'size'"):
        goals.with_weights({"sise": 1})


def secure(**attributes):
    own = {name: attributes.pop(name) for name in ("license", "revision") if name in attributes}
    return Expert(name="e", model="e", security=Security(**attributes), **own)


@pytest.mark.parametrize(
    ("expert", "level"),
    [
        (secure(), math.nan),
        (secure(revision="abc"), math.nan),
        (secure(license="mit"), 11),
        (
            secure(
                safetensors=True,
                remote_code=False,
                location="local",
                vendor="Mistral AI",
                license="mit",
                revision="abc",
            ),
            0,
        ),
        (secure(safetensors=False, remote_code=False, location="us-east", vendor="x"), 7),
    ],
)
def test_the_security_level_is_summed_from_facts(expert, level):
    np.testing.assert_equal(GOALS["security"].value(expert), level)


def test_security_rules_are_data_that_the_user_can_replace(tmp_path):
    rules = {"rules": [{"fact": "vendor", "points": {"acme": 0, "*": 5}}]}
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    for source in (rules, tmp_path / "rules.json"):
        goal = goal_module.Security(rules=source)
        assert goal.value(secure(vendor="ACME")) == 0
        assert goal.value(secure(vendor="other")) == 5
        assert math.isnan(goal.value(secure()))


def test_what_is_not_stated_counts_as_the_worst_that_the_rules_know():
    rules = [
        {"fact": "vendor", "points": {"acme": 0, "*": 5, "evil": 8}},
        {"fact": "location", "points": {"local": 1, "*": 3}},
        {"fact": "license", "points": {"mit": 0, "*": 9, "unknown": 2}},
    ]
    goal = goal_module.Security(rules={"rules": rules})
    assert goal.value(secure(vendor="acme", location="local", license="mit")) == 1
    assert goal.value(secure(vendor="acme", license="mit")) == 0 + 3 + 0
    assert goal.value(secure(location="local", license="mit")) == 8 + 1 + 0
    assert goal.value(secure(vendor="acme", location="local")) == 0 + 1 + 2


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"rules": [{"fact": "colour", "points": {"red": 1}}]}, "unknown fact 'colour'"),
        ({"rules": [{"fact": "vendor", "points": {"x": -1}}]}, "numbers >= 0"),
        ({"rules": [{"fact": "vendor"}]}, "not a table"),
        ("no-such-file.json", "no-such-file"),
    ],
)
def test_wrong_security_rules(rules, message):
    with pytest.raises(GoalError, match=message):
        goal_module.Security(rules=rules)


def test_every_goal_writes_its_values():
    written = {name: goal.format(1.0) for name, goal in GOALS.items()}
    assert written == {
        "size": "1",
        "recency": "1 d",
        "cost": "1000 USD per 1000",
        "latency": "1 s",
        "security": "level 1",
        "verbosity": "1 chars",
        "readability": "grade 1.0",
    }
