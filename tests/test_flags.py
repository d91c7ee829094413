import pytest
from hypothesis import given
from hypothesis import strategies as st

from tryage import flags
from tryage.errors import FlagError
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


@pytest.mark.parametrize("word", ["cheapest", "smaaallest", "nwe", "smal l"])
def test_unknown_words_are_named_with_the_nearest_known(word):
    read = flags.parse(f"Hi [Flag: {word}]")
    assert read.unknown
    error = read.error()
    assert isinstance(error, FlagError)
    assert "smallest" in str(error)


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


@given(st.lists(st.sampled_from(["[Flag: smallest]", "[Fl", "ag: newest]", "a", " ", "\n"])))
def test_taking_flags_off_never_makes_a_new_one(pieces):
    once = flags.parse("".join(pieces))
    assert flags.parse(once.prompt).prompt == once.prompt
