import json
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tryage import flags
from tryage.errors import FlagError
from tryage.goals import GOALS
from tryage.limits import parse_limit


@pytest.mark.parametrize(
    ("prompt", "clean", "weights"),
    [
        ("[Flag: Smallest model] Hello", "Hello", {"size": 1.0}),
        ("Hello [flag: small model, please]", "Hello", {"size": 0.3}),
        ("Hello [FLAGS: most recent; small] world", "Hello world", {"recency": 1.0, "size": 0.3}),
        ("one\n[Flag: newest]\ntwo", "one\n\ntwo", {"recency": 1.0}),
        ("a [Flag: size=0.4] b [Flag: smaller] c", "a b c", {"size": 0.4}),
    ],
)
def test_words_and_assignments_become_weights(prompt, clean, weights):
    read = flags.parse(prompt)
    assert (read.prompt, dict(read.weights)) == (clean, weights)
    assert read.error() is None


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        ("cheapest", {"cost": 1.0}),
        ("secure, concise", {"security": 0.3, "verbosity": 0.3}),
        ("least expensive model", {"cost": 1.0}),
        ("low-cost, low latency", {"cost": 0.3, "latency": 0.3}),
        ("as short as possible", {"verbosity": 1.0}),
        ("Please use the most secure model!", {"security": 1.0}),
        ("easy to read", {"readability": 0.3}),
        ("up to date", {"recency": 0.3}),
        ("most up-to-date", {"recency": 1.0}),
        ("fast and cheap", {"latency": 0.3, "cost": 0.3}),
        ("das kleinste Modell", {"size": 1.0}),
        ("möglichst günstig", {"cost": 1.0}),
        ("le modèle le plus rapide", {"latency": 1.0}),
        ("el modelo más barato", {"cost": 1.0}),
        ("più sicuro", {"security": 1.0}),
        ("最便宜的模型", {"cost": 1.0}),
    ],
)
def test_everyday_words_in_several_languages(words, weights):
    read = flags.parse(f"Hello [Flag: {words}]")
    assert dict(read.weights) == weights
    assert not read.unknown


def test_weights_and_limits_on_the_same_goal():
    read = flags.parse("Hello [Flag: size=0.4, cost<=0.001, cost=0.2]")
    assert read.weights == {"size": 0.4, "cost": 0.2}
    assert [str(limit) for limit in read.limits] == ["cost <= 0.001 USD"]


def test_no_word_of_the_lexicon_stands_twice():
    text = resources.files("tryage").joinpath("flags.json").read_text(encoding="utf-8")
    data = json.loads(text)
    degrees = [words for goal in data["goals"].values() for words in goal.values()]
    listed = [*degrees, data["intensifiers"], data["fillers"]]
    words = [word for languages in listed for group in languages.values() for word in group]
    assert len(words) == len(set(words))
    assert all(word == word.lower().strip() for word in words)
    assert set(data["goals"]) == set(GOALS)


def test_limits_in_flags():
    read = flags.parse("x [Flag: parameters<=3B, license in [mit, apache-2.0], size < 7B]")
    expected = ("parameters <= 3B", "license in [mit, apache-2.0]", "parameters < 7B")
    assert read.limits == tuple(parse_limit(text) for text in expected)


@pytest.mark.parametrize(
    "prompt",
    [
        "The flag of France is [blue, white, red].",
        "Set flag: smallest",
        "x[0] = flags[1]",
        "A [flagship: smallest] store",
        "[Flag\n: smallest]",
        "[MASK] of the flag",
    ],
)
def test_ordinary_text_is_left_alone(prompt):
    assert flags.parse(prompt) == flags.Flags(prompt)


def test_a_typo_in_a_long_word_acts_and_is_echoed():
    read = flags.parse("Hi [Flag: smalest modle]")
    assert read.weights == {"size": 1.0}
    assert read.echo == ("smalest (read as smallest) modle (read as model) → size=1",)


@pytest.mark.parametrize("word", ["fluffiest", "smaaallest", "nwe", "smal l"])
def test_unknown_words_are_named_with_the_nearest_known(word):
    read = flags.parse(f"Hi [Flag: {word}]")
    assert read.unknown
    error = read.error()
    assert isinstance(error, FlagError)
    assert "smallest" in str(error)


def test_a_flag_inside_a_bracket_leaves_no_flag_behind():
    read = flags.parse("x [[Flag: small]Flag: newest] y")
    assert read.prompt == "x y"
    assert read.weights == {"size": 0.3, "recency": 1.0}


def test_words_beside_an_unknown_one_do_not_act():
    read = flags.parse("x [Flag: not the smallest model, newest]")
    assert read.weights == {"recency": 1.0}
    assert read.unknown == ("not",)


def test_absurd_numbers_are_unknown_and_not_a_crash():
    for body in (f"parameters<={'9' * 400}", "size=1e308", "cost<=1e999"):
        assert flags.parse(f"x [Flag: {body}]").unknown


@pytest.mark.parametrize("body", ["", " ", "model", "size=big", "size=-1", "parameters<=3X"])
def test_flags_that_ask_for_nothing_are_never_dropped_silently(body):
    assert flags.parse(f"Hi [Flag:{body}]").error() is not None


@given(st.text(alphabet=list("[]Flag: smnewt,\n\r=0.3x;"), max_size=60))
def test_parsing_is_idempotent(text):
    once = flags.parse(text)
    again = flags.parse(once.prompt)
    assert again.prompt == once.prompt
    assert not again.weights
    assert not again.unknown


PIECES = ("[Flag: smallest]", "[Fl", "ag: newest]", "[", "Flag: newest]", "]", "[Flag", ": x]")


@given(st.lists(st.sampled_from([*PIECES, "a", " ", "\n"])))
def test_taking_flags_off_never_makes_a_new_one(pieces):
    once = flags.parse("".join(pieces))
    assert flags.parse(once.prompt).prompt == once.prompt
