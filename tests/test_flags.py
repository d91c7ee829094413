import json
import sys
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tryage import flags
from tryage.errors import FlagError
from tryage.flags import parser
from tryage.goals import GOALS
from tryage.limits import parse_limit
from tryage.units import parse_money


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


@pytest.mark.parametrize(
    ("prompt", "clean", "weights"),
    [
        ("it`s [Flag: smallest] late", "it`s late", {"size": 1.0}),
        ("`a` [Flag: smallest] `b`", "`a` `b`", {"size": 1.0}),
        ("```\ncode\n```\nDo it. [Flag: newest]", "```\ncode\n```\nDo it.", {"recency": 1.0}),
        ("```python\ncode [Flag: newest]", "```python\ncode", {"recency": 1.0}),
        ("a `tick\n[Flag: newest]\nand` tock", "a `tick\n\nand` tock", {"recency": 1.0}),
        ("Hello[Flag: smallest]", "Hello", {"size": 1.0}),
        ("[Flag: small][flag: newest] x", "x", {"size": 0.3, "recency": 1.0}),
        ("[Flag: smallest] (please)", "(please)", {"size": 1.0}),
        ("你好[flag：最小，最新]", "你好", {"size": 1.0, "recency": 1.0}),
        ("x [Flag: ｓｍａｌｌｅｓｔ； 最便宜]", "x", {"size": 1.0, "cost": 1.0}),
    ],
)
def test_flags_beside_code_and_in_other_scripts_act(prompt, clean, weights):
    read = flags.parse(prompt)
    assert (read.prompt, dict(read.weights), read.unknown) == (clean, weights, ())


@pytest.mark.parametrize(
    ("words", "weights", "echo"),
    [
        # As some keyboards and file systems write it: a letter, then its accent.
        ("mo\u0308glichst gu\u0308nstig", {"cost": 1.0}, None),
        ("ma\u0301s pequen\u0303o", {"size": 1.0}, None),
        ("plus recent", {"recency": 1.0}, "plus recent (read as plus récent) → recency=1"),
        ("gunstig", {"cost": 0.3}, "gunstig (read as günstig) → cost=0.3"),
        ("el mas pequeno", {"size": 1.0}, "el mas pequeno (read as el más pequeño) → size=1"),
    ],
)
def test_accents_are_read_as_they_come_or_do_not(words, weights, echo):
    read = flags.parse(f"x [Flag: {words}]")
    assert dict(read.weights) == weights
    assert not read.unknown
    assert echo is None or read.echo == (echo,)


def test_weights_and_limits_on_the_same_goal():
    read = flags.parse("Hello [Flag: size=0.4, cost<=0.001, cost=0.2]")
    assert read.weights == {"size": 0.4, "cost": 0.2}
    assert [str(limit) for limit in read.limits] == ["cost <= 1 USD per 1000"]


def test_no_word_of_the_lexicon_stands_twice():
    text = resources.files("tryage.flags").joinpath("lexicon.json").read_text(encoding="utf-8")
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
        "What does items[flag:] do, and items[flags:10]?",
        "rows[0][flag:small], open(path)[flag: new]",
        "Say what `[Flag: smallest model]` means.",
        "``a ` [Flag: small] b``",
        "Explain\n```\nx = '[Flag: smallest]'\n[flag: new]\n```\nplease.",
        "See [Flag: France](https://example.com/flag), [flag: new](x).",
        "opts = [Flag: a `small` one]",
    ],
)
def test_ordinary_text_is_left_alone(prompt):
    assert flags.parse(prompt) == flags.Flags(prompt)


def test_a_typo_in_a_long_word_acts_and_is_echoed():
    read = flags.parse("Hi [Flag: smalest modle]")
    assert read.weights == {"size": 1.0}
    assert read.echo == ("smalest (read as smallest) modle (read as model) → size=1",)


@pytest.mark.parametrize("word", ["eastest", "fasf"])
def test_a_typo_that_could_mean_two_things_or_of_a_short_word_does_not_act(word):
    """eastest is one letter from easiest and from fastest; fasf from fast, a word of four."""
    read = flags.parse(f"Hi [Flag: {word}]")
    assert read.unknown
    assert not read.weights


def test_a_typo_that_is_close_to_two_words_of_one_meaning_acts():
    read = flags.parse("Hi [Flag: smalle]")
    assert read.weights == {"size": 0.3}


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
    bodies = [f"parameters<={'9' * 400}", "size=1e308", "size=nan", "size=inf", "size=∞", "size=-1"]
    bodies += ["cost<=1e999", "security<=nan", "readability<=inf", "security<=-1", "latency<=nan"]
    bodies += ["cost<=-1", "cost<=1 cent", "parameters<=3 GB", "latency<=2h", "verbosity<=9 words"]
    for body in bodies:
        read = flags.parse(f"x [Flag: {body}]")
        assert (len(read.unknown), read.weights, read.limits) == (1, {}, ()), body


def test_a_goal_that_is_misspelt_before_its_weight_is_suggested():
    assert "Did you mean 'recency'" in str(flags.parse("x [Flag: recncy=0.3]").error())
    assert "Did you mean 'size'" in str(flags.parse("x [Flag: siez=0.3]").error())


def test_many_unknown_words_are_counted_not_listed():
    error = flags.parse(f"x [Flag: {', '.join('q' * n for n in range(5, 2000))}]").error()
    assert "And 1990 more." in str(error)
    assert len(str(error)) < 1500
    assert len(error.unknown) == 1995


@pytest.mark.parametrize(
    "hostile",
    [
        lambda n: "flag [" + "[" * n + "]" * n,
        lambda n: "[Flag:" * n + "]" * n,
        lambda n: "".join(f"[Flag: word{i} " for i in range(n)) + "]" * n,
        lambda n: f"x [Flag: {'[' * n + ']' * n}]",
        lambda n: f"x [Flag: {' '.join(f'word{i}' for i in range(n))}]",
        lambda n: f"x [Flag: cost <= 1{' ' * n}x]",
        lambda n: f"x [Flag: parameters <={' ' * n}x]",
        lambda n: f"a [Flag: small]{' ' * n}[Flag: small]{' ' * n}",
        lambda n: "[Flag: small] " + "` `` " * n,
        lambda n: "[Flag: small] " + " ".join("`" * i for i in range(1, int(n**0.5))),
    ],
)
def test_the_work_grows_with_the_length_of_a_prompt_and_not_faster(hostile):
    """Counted in the steps of the interpreter, not in seconds; scanning inside `re` is apart."""
    steps = []
    for n in (500, 2000):
        prompt = hostile(n)
        flags.parse("x [Flag: smallest]")
        opcodes = [0]

        def count(frame, event, arg, opcodes=opcodes):
            frame.f_trace_opcodes = True
            opcodes[0] += event == "opcode"
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            flags.parse(prompt)
        finally:
            sys.settrace(before)
        steps.append(opcodes[0])
    assert steps[1] < 6 * steps[0]


def test_blanks_in_an_amount_are_not_tried_in_every_way():
    with pytest.raises(ValueError, match="is not an amount"):
        parse_money("1" + " " * 100_000 + "x")


def test_what_is_long_is_not_remembered():
    before = parser._remembered.cache_info().currsize
    for n in range(3):
        flags.parse(f"x [Flag: {'a' * 10_000}{n}]")
    assert parser._remembered.cache_info().currsize == before


@pytest.mark.parametrize("body", ["", " ", "model", "size=big", "size=-1", "parameters<=3X"])
def test_flags_that_ask_for_nothing_are_never_dropped_silently(body):
    assert flags.parse(f"Hi [Flag:{body}]").error() is not None


FLAGS = (
    "[Flag: smallest]",
    "[flag: new, size=0.4]",
    "[Flag: parameters<=3B; fluffy]",
    "[Flag:]",
    "[FLAGS: cheapest]",
)
WORDS = ("Say it", "a", " ", "\n", "x[0]", "(b)")
CODE_AND_HALVES = ("`code`", "```\n[Flag: small]\n```\n", "[Flag", "]", "(", "`")


@given(
    st.lists(st.sampled_from(WORDS), max_size=5),
    st.sampled_from(FLAGS),
    st.lists(st.sampled_from([*WORDS, *FLAGS, *CODE_AND_HALVES]), max_size=5),
)
@settings(max_examples=200)
def test_parsing_a_prompt_with_flags_is_idempotent(before, flag, after):
    once = flags.parse(f"{''.join(before)} {flag} {''.join(after)}")
    assert once.found
    assert flags.parse(once.prompt) == flags.Flags(once.prompt)


PIECES = ("[Flag: smallest]", "[Fl", "ag: newest]", "[", "Flag: newest]", "]", "[Flag", ": x]")
CODE = ("[flag: small]", "`", "``", "```", "~~~", "(", ")")


@given(st.lists(st.sampled_from([*PIECES, *CODE, "a", " ", "\n"])))
@settings(max_examples=300)
def test_taking_flags_off_never_makes_a_new_one(pieces):
    once = flags.parse("".join(pieces))
    again = flags.parse(once.prompt)
    assert (again.prompt, again.found) == (once.prompt, False)
