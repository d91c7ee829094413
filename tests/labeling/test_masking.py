import pytest
from hypothesis import given
from hypothesis import strategies as st

from tryage.errors import PromptError
from tryage.labeling import mask_words
from tryage.labeling.masking import align, words

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def named(text: str) -> list[str]:
    return [text[start:end] for start, end in words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The old river, it's 3.5 km.", ["The", "old", "river", "it's", "3", "5", "km"]),
        ("def foo_bar(x1):", ["def", "foo", "bar", "x1"]),
        ("Überraschung façade", ["Überraschung", "façade"]),
        ("fac\u0327ade caf\u00e9s cafe\u0301s", ["fac\u0327ade", "caf\u00e9s", "cafe\u0301s"]),
        ("\u0928\u092e\u0938\u094d\u0924\u0947 x", ["\u0928\u092e\u0938\u094d\u0924\u0947", "x"]),
        ("東京 is", ["東", "京", "is"]),
        ("'quoted' words'", ["quoted", "words"]),
        ("+-- ...", []),
    ],
)
def test_words(text, expected) -> None:
    assert named(text) == expected


@given(TEXT, st.floats(0.01, 1))
def test_hidden_words_are_whole_and_the_rest_stays(text, share) -> None:
    masked = mask_words(text, share=share)
    assert masked == mask_words(text, share=share)
    assert set(masked.spans) <= set(words(text))
    assert list(masked.spans) == sorted(masked.spans)
    shown, end = "", 0
    for start, stop in masked.spans:
        shown += text[end:start] + "[MASK]"
        end = stop
    assert masked.prompt == shown + text[end:]
    assert len(masked.spans) == min(len(words(text)), max(1, round(share * len(words(text)))))
    assert masked.hidden_bytes == sum(len(text[a:b].encode()) for a, b in masked.spans)


@given(TEXT.filter(lambda t: words(t) and "[MASK]" not in t), st.floats(0.01, 1))
def test_marks_can_be_laid_over_their_text(text, share) -> None:
    masked = mask_words(text, share=share)
    aligned = align(masked.prompt, text)
    assert len(aligned.spans) == len(masked.spans)
    # Where the marks could stand elsewhere another place may be found, never another text.
    rebuilt, end = "", 0
    for start, stop in aligned.spans:
        rebuilt += text[end:start] + "[MASK]"
        end = stop
    assert rebuilt + text[end:] == masked.prompt


def test_the_choice_depends_on_the_text_alone_and_never_changes() -> None:
    text = "The old river follows the quiet garden, and the doctor answers a letter."
    assert mask_words(text, share=0.3).prompt == (
        "The [MASK] river [MASK] [MASK] quiet garden, and the doctor answers a [MASK]."
    )


def test_a_larger_share_hides_the_same_words_and_more() -> None:
    text = " ".join(f"word{i}" for i in range(40))
    few, many = mask_words(text, share=0.1), mask_words(text, share=0.5)
    assert set(few.spans) < set(many.spans)


@pytest.mark.parametrize("share", [0, -0.1, 1.01])
def test_a_share_out_of_range(share) -> None:
    with pytest.raises(ValueError, match="share of hidden words"):
        mask_words("a b", share=share)


def test_a_mark_may_stand_for_more_than_a_word() -> None:
    assert align("a [MASK].", "a b c.").spans == ((2, 5),)
    assert align("[MASK][MASK]", "xyz").spans == ((0, 1), (1, 3))


@pytest.mark.parametrize(
    ("prompt", "text"),
    [("a [MASK].", "b c."), ("a [MASK].", "a ."), ("a [MASK] b", "a x c"), ("no", "no")],
)
def test_texts_that_do_not_fit(prompt, text) -> None:
    with pytest.raises(PromptError):
        align(prompt, text)
