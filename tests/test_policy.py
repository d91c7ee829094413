import pytest

from tryage import Goals, Policy, TryageWarning, flags
from tryage.errors import FlagError, GoalError
from tryage.goals import Security
from tryage.limits import parse_limit


def combine(policy=None, *, goals=None, prompt=None):
    read = None if prompt is None else flags.parse(prompt)
    return (policy or Policy()).combine(goals, read)


def test_the_larger_of_default_and_flag_acts_up_to_the_maximum():
    policy = Policy(weights={"size": 0.5}, max_weights={"size": 0.8})
    assert combine(policy).weights == {"size": 0.5}
    assert combine(policy, prompt="x [Flag: small]").weights == {"size": 0.5}
    assert combine(policy, prompt="x [Flag: smallest]").weights == {"size": 0.8}


def test_the_call_names_a_goal_and_has_its_way():
    policy = Policy(weights={"size": 0.5, "recency": 0.2})
    resolved = combine(policy, goals=Goals(size=0), prompt="x [Flag: smallest, newest]")
    assert resolved.weights == {"recency": 1.0}


def test_limits_of_all_sources_hold_together():
    resolved = combine(
        Policy(limits={"parameters": "<=7B"}),
        goals=Goals(limits={"license": ["mit"]}),
        prompt="x [Flag: parameters<=100B]",
    )
    expected = ("parameters <= 7B", "license in [mit]", "parameters <= 100B")
    assert resolved.limits == tuple(parse_limit(text) for text in expected)


def test_flags_touch_only_what_the_policy_lets_them():
    resolved = combine(Policy(flags=["size"]), prompt="x [Flag: smallest, newest, tools=yes]")
    assert resolved.weights == {"size": 1.0}
    assert resolved.limits == ()
    assert "recency: not allowed by the policy" in resolved.flags
    assert "tools: not allowed by the policy" in resolved.flags


def test_what_the_policy_refuses_is_told_and_what_it_allows_is_not():
    prompt = "x [Flag: smallest, newest, tools=yes, parameters<=3B]"
    resolved = combine(Policy(flags=["size", "parameters"]), prompt=prompt)
    assert resolved.weights == {"size": 1.0}
    assert resolved.limits == (parse_limit("parameters <= 3B"),)
    refused = [words for words in resolved.flags if words.endswith("not allowed by the policy")]
    assert refused == [
        "recency: not allowed by the policy",
        "tools: not allowed by the policy",
    ]


def test_a_limit_of_several_sources_is_told_once():
    limits = {"parameters": "<=3B"}
    for resolved in (
        combine(Policy(limits=limits), goals=Goals(limits=limits)),
        combine(Policy(limits=limits), prompt="x [Flag: size<=3B]"),
        combine(goals=Goals(limits=limits), prompt="x [Flag: parameters<=3B]"),
    ):
        assert resolved.limits == (parse_limit("parameters <= 3B"),)


def test_unknown_flags_are_an_error_or_a_warning_as_the_policy_says():
    read = flags.parse("x [Flag: fluffy]")
    with pytest.raises(FlagError, match="fluffy"):
        Policy().combine(None, read)
    with pytest.warns(TryageWarning, match="fluffy"):
        resolved = Policy(unknown_flags="warn").combine(None, read)
    assert resolved.flags == ("fluffy: not understood",)
    with pytest.raises(FlagError):
        Policy(unknown_flags="error").combine(None, read, unknown="warn")


@pytest.mark.parametrize(
    "wrong", [{"flags": ["sise"]}, {"weights": {"size": -1}}, {"unknown_flags": "ignore"}]
)
def test_a_wrong_policy_is_refused(wrong):
    with pytest.raises(GoalError):
        Policy(**wrong)


def test_the_maximum_holds_for_the_defaults_too():
    assert combine(Policy(weights={"size": 0.9}, max_weights={"size": 0.5})).weights == {
        "size": 0.5
    }


def test_a_policy_brings_goals_of_its_own():
    strict = Security(rules={"rules": [{"fact": "vendor", "points": {"acme": 0, "*": 9}}]})
    policy = Policy(goals=[strict], weights={"security": 0.4})
    resolved = combine(policy, prompt="x [Flag: most secure]")
    assert resolved.weights == {"security": 1.0}
    assert resolved.goal("security") is strict
    assert combine(policy).goal("security") is strict
    assert combine(policy, goals=Goals(custom=[Security(0.1)])).goal("security") is not strict
    assert combine(Policy(goals=[Security(0.2)])).weights == {"security": 0.2}


def test_goals_of_another_kind_are_told():
    with pytest.raises(GoalError, match=r"goals is a dict; give tryage\.Goals"):
        combine(goals={"size": 0.2})


def test_a_goal_that_is_none_is_named():
    with pytest.raises(GoalError, match=r"unknown goal 'sise'\. Did you mean 'size'"):
        combine().goal("sise")
    assert combine().goal("share(big)").name == "share(big)"
