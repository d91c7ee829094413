"""The word cache gives the library's ids, for every text."""

import re
import string
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from tryage.encoders import StaticEncoder, wordpiece
from tryage.encoders.wordpiece import WordCache

TOKENIZER = StaticEncoder.bundled()._tokenizer
CACHE = WordCache.of(TOKENIZER)
"""One for all examples, so that what one of them left there is met by the others."""

SPECIAL = {token.content for token in TOKENIZER.get_added_tokens_decoder().values()}
WORD_PARTS = sorted({t.removeprefix("##") for t in TOKENIZER.get_vocab()} - SPECIAL)

ALONE = [chr(code) for code in range(0x110000) if re.match(f"[{wordpiece._ALONE}]", chr(code))]

PIECES = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(max_codepoint=0x7F), max_size=12),
    st.sampled_from(["Hello", "don't", "x_1", "##ing", "[MASK", "MASK]", "café", "naïve", "ﬁ"]),
    st.sampled_from(
        ["e\u0301", "\u0301", "İ", "ß", "ΑΣ", "가", "한국", "カﾀ", "が", "１２", "⁇", "\u200b"]
    ),
    st.sampled_from(
        ["为什么？", "（甲）", "\u3000", "\xa0", "\u2028", "\x85", "\x1f", "\x0c", "\ufeff"]
    ),
    st.sampled_from(["a" * 100, "a" * 101, "𠀀", "豈", "😀", "→", "“q”", "…", "—", "№"]),
    st.text(string.ascii_letters + string.digits, min_size=1, max_size=110),
    st.lists(st.sampled_from(WORD_PARTS), min_size=1, max_size=6).map("".join),
    st.sampled_from(sorted(SPECIAL)),
)
TEXTS = st.lists(st.tuples(PIECES, st.sampled_from(["", "", " ", "\n", "\t"])), max_size=30).map(
    lambda pairs: "".join(part for pair in pairs for part in pair)
)


def cached(text, cache=CACHE):
    ids = cache.ids(text)
    return ids if ids is None else ids.tolist()


def of_library(text):
    return TOKENIZER.encode(text, add_special_tokens=False).ids


@settings(max_examples=800, deadline=None)
@given(TEXTS)
@example("")
@example(" \n ")
@example("I [MASK] it, and [CLS] too")
@example("Prove that √2 is irrational — “q.e.d.”")
@example("下列哪一项不是 HTTP 的方法？A. GET；B. 发送")
def test_the_ids_are_the_librarys(text):
    text = text.encode("utf-8", "replace").decode("utf-8")
    assert cached(text) in (None, of_library(text))
    assert cached(text) in (None, of_library(text)), "from the cache"


@pytest.mark.parametrize(
    "text", ["What is the capital of France?", "def f(x):\n\treturn x ** 2", "为什么天空是蓝色的？"]
)
def test_plain_text_does_not_go_to_the_library(text):
    assert cached(text) == of_library(text)


def test_characters_that_stand_alone_do_so_anywhere():
    assert len(ALONE) > 27_000
    for number in range(0, len(ALONE), 500):
        text = "".join(f"a{char}b{char}{char}" for char in ALONE[number : number + 500])
        assert cached(text) == of_library(text)


def test_every_assigned_character_splits_as_in_the_library():
    assigned = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
    ]
    assert len(assigned) > 100_000
    for number in range(0, len(assigned), 4):
        text = " ".join(f"a{char}b {char}" for char in assigned[number : number + 4])
        assert cached(text) in (None, of_library(text))


@pytest.mark.parametrize("text", ["a\x00b", "a\x7fb", "a\x1db", "see [MASK] there", "[PAD]"])
def test_control_characters_and_special_tokens_are_the_librarys(text):
    assert cached(text) is None


def test_text_in_other_scripts_goes_to_the_library_whole():
    words = [f"слово{number}" for number in range(9)]
    assert cached(" ".join(words[:4])) == of_library(" ".join(words[:4]))
    assert WordCache.of(TOKENIZER).ids(" ".join(words)) is None


def test_what_is_kept_has_a_bound(monkeypatch):
    monkeypatch.setattr(wordpiece, "_MOST_CACHED", 50)
    cache = WordCache.of(TOKENIZER)
    for number in range(0, 2000, 10):
        text = " ".join(f"n{n}x" for n in range(number, number + 10))
        assert cached(text, cache) == of_library(text)
        assert len(cache._cache) <= 50 + 20
    long = "abc" * 30
    assert cached(long, cache) == of_library(long)
    assert long not in cache._cache


def test_words_that_recur_are_split_once(monkeypatch):
    monkeypatch.setattr(wordpiece, "_MOST_CACHED", 40)
    split = []
    whole = WordCache._pieces
    monkeypatch.setattr(
        WordCache, "_pieces", lambda self, word: split.append(word) or whole(self, word)
    )
    cache = WordCache.of(TOKENIZER)
    for number in range(100):
        text = f"qwertzy, n{number}x (qwertzy)"
        assert cached(text, cache) == of_library(text)
    assert split.count("qwertzy") == 1
    assert len(split) == 101


def test_many_threads_at_once(monkeypatch):
    monkeypatch.setattr(wordpiece, "_MOST_CACHED", 20)
    cache = WordCache.of(TOKENIZER)
    texts = [f"Some {n}th words, {n * 7} of them (not all {n % 5})" for n in range(500)]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda text: cached(text, cache), texts)) == [
            of_library(text) for text in texts
        ]


@pytest.mark.parametrize("change", ["model", "normalizer", "cased", "accents", "pre_tokenizer"])
def test_other_tokenizers_have_no_cache(change):
    tokenizer = Tokenizer.from_str(TOKENIZER.to_str())
    if change == "model":
        tokenizer.model = models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")
    elif change == "pre_tokenizer":
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    elif change == "normalizer":
        tokenizer.normalizer = normalizers.Lowercase()
    else:
        off = {"lowercase": False} if change == "cased" else {"strip_accents": False}
        tokenizer.normalizer = normalizers.BertNormalizer(**off)
    assert WordCache.of(tokenizer) is None
