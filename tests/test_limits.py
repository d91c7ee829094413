import datetime

import numpy as np
import pytest

from tryage import Expert, Goals, Policy, Security
from tryage.errors import GoalError
from tryage.limits import parse_limit, parse_limits

EXPERT = Expert(
    name="e",
    model="org/e",
    parameters=7_240_000_000,
    released=datetime.date(2024, 3, 1),
    license="Apache-2.0",
    context_length=8192,
    languages=("en", "de"),
    tools=False,
    security=Security(location="local", vendor="Meta", safetensors=True),
)


@pytest.mark.parametrize(
    ("limit", "holds"),
    [
        ("parameters <= 3B", False),
        ("size<=8B", True),
        ("parameters > 7B", True),
        ("released >= 2024-01-01", True),
        ("released < 2024-01-01", False),
        ("license in [mit, apache-2.0]", True),
        ("license = mit", False),
        ("context_length >= 8K", True),
        ("language = de", True),
        ("language != de", False),
        ("language in [fr, it]", False),
        ("location = local", True),
        ("vendor != meta", False),
        ("tools = yes", False),
        ("safetensors = true", True),
    ],
)
def test_limits_hold_or_give_their_reason(limit, holds):
    reason = parse_limit(limit).reason_against(EXPERT)
    assert (reason is None) is holds


def test_the_reason_holds_both_values():
    reason = parse_limit("parameters<=3B").reason_against(EXPERT)
    assert reason == "parameters is 7.24B, the limit is <= 3B"


@pytest.mark.parametrize(
    ("limit", "holds"),
    [
        ("security <= 1", [True, True, False, False]),
        ("security < 1", [True, False, False, False]),
        ("security >= 1", [False, True, True, False]),
        ("security > 1", [False, False, True, False]),
        ("security = 1", [False, True, False, False]),
        ("security != 1", [True, False, True, False]),
        ("security in [0, 2]", [True, False, True, False]),
    ],
)
def test_limits_on_the_values_of_a_goal(limit, holds):
    values = np.array([0.0, 1.0, 2.0, np.nan])
    assert parse_limit(limit).holds_for(values).tolist() == holds


def test_an_attribute_that_is_not_stated_is_an_error():
    with pytest.raises(GoalError, match=r"'bare' states no parameters"):
        parse_limit("parameters <= 3B").reason_against(Expert(name="bare", model="m"))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"parameters": "3B"}, "at most nor at least"),
        ({"parameters": "<= 3 apples"}, "units K, M, B, T"),
        ({"paramters": "<= 3B"}, "Did you mean 'parameters'"),
        ({"released": ">= 2024"}, "a date such as"),
        ({"license": "<= mit"}, "has no order"),
        ({"license": []}, "empty"),
        ({"tools": "maybe"}, "neither true nor false"),
        ({"license": "  "}, "empty"),
        ({"parameters": ""}, "empty"),
        (["license in [ , ]"], "empty"),
        (["no limit"], "is not a limit"),
    ],
)
def test_limits_that_cannot_be_read(limits, message):
    with pytest.raises(GoalError, match=message):
        parse_limits(limits)


def test_a_limit_reads_back_from_its_own_text():
    for text in (
        "parameters <= 3B",
        "license in [mit, apache-2.0]",
        "tools = true",
        "cost <= 2 USD per 1000",
        "latency < 1.5 s",
        "security <= 2",
        "verbosity <= 800",
        "readability <= 8.5",
        "pinned = false",
    ):
        limit = parse_limit(text)
        assert str(limit) == text
        assert parse_limit(str(limit)) == limit


@pytest.mark.parametrize(
    ("count", "text"),
    [("999", "999"), ("1000", "1K"), ("1500", "1.5K"), ("3000K", "3M"), ("7_240_000_000", "7.24B")],
)
def test_counts_are_written_with_units_from_a_thousand_on(count, text):
    assert str(parse_limit(f"parameters <= {count}")) == f"parameters <= {text}"


def test_a_limit_reads_back_exactly_from_its_exact_text():
    for text in (
        "parameters <= 7_241_748_480",
        "license in [mit, apache-2.0]",
        "tools != no",
        "cost <= 0.000012345678 USD",
        "latency < 1234.5 ms",
        "released >= 2024-01-31",
        "readability <= 8.123456789",
    ):
        assert parse_limit(parse_limit(text).exact) == parse_limit(text)


def test_goals_take_limits_in_every_form_and_drop_duplicates():
    goals = Goals(limits={"size": "<=3B", "license": ["mit", "apache-2.0"], "tools": True})
    assert [str(limit) for limit in goals.limits] == [
        "parameters <= 3B",
        "license in [apache-2.0, mit]",
        "tools = true",
    ]
    assert len(Goals(limits=["size<=3B", "parameters<=3B"]).limits) == 1


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("cost <= $0.002", "cost <= 2 USD per 1000"),
        ("cost<=0.4 USD per 1000 prompts", "cost <= 0.4 USD per 1000"),
        ("price < 1e-4 usd", "cost < 0.1 USD per 1000"),
        ("latency <= 500ms", "latency <= 0.5 s"),
        ("latency <= 2 minutes", "latency <= 120 s"),
    ],
)
def test_units_of_limits_on_goals(text, read):
    assert str(parse_limit(text)) == read


@pytest.mark.parametrize("text", ["cost <= 3 EUR", "latency <= 3 hours", "security <= low"])
def test_units_that_do_not_fit(text):
    with pytest.raises(GoalError, match="expected"):
        parse_limit(text)


def names(limit):
    """Which vendors a limit admits."""
    vendors = ("Acme, Inc.", "Inc.", "Acme", "O'Reilly, Bob's", "mit [x]", 'a "b", c')
    experts = [Expert(name=v, model="m", security={"vendor": v}) for v in vendors]
    return {e.name for e in experts if limit.reason_against(e) is None}


@pytest.mark.parametrize("vendor", ["Acme, Inc.", "Inc.", "O'Reilly, Bob's", "mit [x]", 'a "b", c'])
def test_a_value_with_a_comma_is_one_value(vendor):
    for condition in ([vendor], {vendor}, (vendor, "nobody")):
        (limit,) = Goals(limits={"vendor": condition}).limits
        assert names(limit) == {vendor}
        assert parse_limit(limit.exact) == limit
        (again,) = Policy.from_dict(Policy(limits=[limit]).to_dict()).limits
        assert again == limit


def test_quotes_hold_a_written_value_together():
    limit = parse_limit("vendor in ['Acme, Inc.', \"O'Reilly, Bob's\"]")
    assert names(limit) == {"Acme, Inc.", "O'Reilly, Bob's"}
    assert names(parse_limit("vendor in [Acme, Inc.]")) == {"Acme", "Inc."}
    assert names(parse_limit("vendor in O'Reilly, Inc.")) == {"Inc."}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (None, "limits is None; give a mapping"),
        (3, "limits is 3; give a mapping"),
        (b"parameters <= 3B", "limits is b'parameters <= 3B'; give"),
        ("parameters <= 3B", "limits is 'parameters <= 3B'; give"),
        ([None], "None is not a limit"),
        ([b"parameters <= 3B"], "is not a limit; write one as text"),
        ([{"parameters": "<= 3B"}], "is not a limit; write one as text"),
        ({"license": None}, "license: None: None is of type NoneType; expected a name"),
        ({"license": 3}, "3 is of type int; expected a name"),
        ({"license": True}, "True is of type bool; expected a name"),
        ({"license": b"mit"}, "b'mit' is of type bytes; expected a name"),
        ({"license": ["mit", None]}, "None is of type NoneType; expected a name"),
        ({"license": ["mit", 3]}, "3 is of type int; expected a name"),
        ({"license": [["mit"]]}, r"\['mit'\] is of type list"),
        ({"license": {"mit": 1}}, "is of type dict"),
        ({"parameters": True}, "True is of type bool; expected a count"),
        ({"parameters": [True]}, "True is of type bool; expected a count"),
        ({"tools": 1}, "1 is of type int; expected true or false"),
        ({"released": 2024}, "2024 is of type int; expected a date"),
        ({None: "<= 3B"}, "unknown limit None"),
        ({3: "<= 3B"}, "unknown limit 3"),
        ({"license": []}, "the list is empty"),
        ({"vendor": "a 'b' \"c\" d"}, "holds both kinds of quotes"),
        (["license in [mit"], "the list is not closed by ']'"),
    ],
)
def test_what_is_no_limit_is_one_named_error(limits, message):
    for made in (Goals, Policy):
        with pytest.raises(GoalError, match=message):
            made(limits=limits)


def test_values_of_an_attributes_own_type_are_limits():
    limits = {
        "parameters": [1_000_000, 7e9],
        "tools": [True],
        "released": [datetime.date(2024, 1, 31)],
    }
    texts = [str(limit) for limit in Goals(limits=limits).limits]
    assert texts == ["parameters in [1M, 7B]", "tools in [true]", "released in [2024-01-31]"]


@pytest.mark.parametrize("weight", [None, b"1", "much", float("nan"), 10**400, [1], True, -1])
def test_weights_that_are_none(weight):
    if weight is True:
        assert Goals(size=True).weights == {"size": 1.0}
        return
    with pytest.raises(GoalError, match="the weight of size is"):
        Goals(size=weight)
    for field in ("weights", "max_weights"):
        with pytest.raises(GoalError):
            Policy(**{field: {"size": weight}})


@pytest.mark.parametrize(
    "fields",
    [{"weights": [1]}, {"max_weights": 3}, {"weights": {3: 1}}, {"flags": "size"}, {"flags": 3}],
)
def test_policies_of_odd_parts(fields):
    with pytest.raises(GoalError):
        Policy(**fields)
    with pytest.raises(GoalError):
        Policy.from_dict(fields)
