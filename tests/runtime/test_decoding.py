"""The decoder and the stop strings, over a real tokenizer and made-up token sequences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tryage import Library
from tryage.runtime import Runtime
from tryage.runtime.decoding import AnswerBuilder

pytest.importorskip("torch")


def watch(tokenizer, ids, stop=(), prompt=()):
    pieces: list[str] = []
    watcher = AnswerBuilder(tokenizer, list(prompt), stop, pieces.append)
    unread = AnswerBuilder(tokenizer, list(prompt), stop, None)
    for token in ids:
        unread.add(token)
        if watcher.add(token):
            break
    watcher.finish()
    unread.finish()
    assert "".join(pieces) == watcher.text == unread.text
    return watcher, pieces


@pytest.fixture(scope="module")
def tokenizer(tiny_library):
    return Runtime(Library.read(tiny_library)).load("code-gpt").tokenizer


@given(text=st.text(min_size=1, max_size=40).filter(lambda t: "\ufffd" not in t and "<" not in t))
def test_pieces_join_to_the_text_and_are_whole_characters(tokenizer, text) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    watcher, pieces = watch(tokenizer, ids)
    assert watcher.text == text
    assert not any("\ufffd" in piece for piece in pieces)


@given(
    text=st.text("abc \n", min_size=1, max_size=40),
    stop=st.lists(st.text("abc \n", min_size=1, max_size=4), max_size=3),
)
def test_the_text_ends_before_the_first_stop_string(tokenizer, text, stop) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    watcher, _ = watch(tokenizer, ids, stop)
    assert text.startswith(watcher.text)
    assert not any(string in watcher.text for string in stop)
    assert watcher.stopped == any(string in text for string in stop)
    if not watcher.stopped:
        assert watcher.text == text


def test_text_that_might_begin_a_stop_string_is_held_back(tokenizer) -> None:
    ids = [tokenizer(c, add_special_tokens=False)["input_ids"][0] for c in "ab-=x"]
    watcher, pieces = watch(tokenizer, ids, ["--", "-=="])
    assert watcher.text == "ab-=x"
    assert pieces[:2] == ["a", "b"]
    assert pieces[2:] == ["-=x"]


def test_the_space_before_the_first_word_is_kept(tiny_library) -> None:
    tokenizer = Runtime(Library.read(tiny_library)).load("prose-gpt").tokenizer
    ids = tokenizer("The old river", add_special_tokens=False)["input_ids"]
    watcher, _ = watch(tokenizer, ids[-1:], prompt=ids[:-1])
    assert tokenizer.decode(ids[:-1]) + watcher.text == "The old river"
