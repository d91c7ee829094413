"""The words that act in a flag, and the ones that are meant where a letter is wrong."""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from tryage.characters import normalized

_SHORTEST_TYPO = 5


def plain(word: str) -> str:
    """Return a word without case, width and the marks around it; letters are one character each."""
    folded = normalized("NFKC", word)
    return folded.lower().strip(".!?:'\"“”„«»¡¿")


@dataclass(frozen=True)
class Lexicon:
    """Words that act, and those that mean nothing; entries of several words are phrases.

    Attributes:
        goal_words: word → goal and weight.
        intensifiers: words that make a superlative of the plain adjective after them.
        fillers: words that mean nothing.
        superlative: the weight of a superlative.
        examples: a few of the words, for messages.
    """

    goal_words: Mapping[str, tuple[str, float]]
    intensifiers: frozenset[str]
    fillers: frozenset[str]
    superlative: float
    examples: tuple[str, ...]

    @functools.cached_property
    def vocabulary(self) -> frozenset[str]:
        """Every word and phrase."""
        return self.intensifiers | self.fillers | frozenset(self.goal_words)

    @functools.cached_property
    def longest(self) -> int:
        """Words of the longest phrase."""
        return max(word.count(" ") + 1 for word in self.vocabulary)

    def read(self, written: Sequence[str], start: int) -> tuple[str | None, int]:
        """Return the known word or phrase that starts at a place, and how many words it takes."""
        for length in range(min(self.longest, len(written) - start), 1, -1):
            phrase = " ".join(plain(word) for word in written[start : start + length])
            match = phrase if phrase in self.vocabulary else self._bare.get(phrase)
            if match is not None:
                return match, length
        return self.nearest(plain(written[start])), 1

    def nearest(self, word: str) -> str | None:
        """Return the known word meant: itself, or the long one that is one edit away.

        Several that are one edit away act only where they mean the same.
        """
        spaced = word.replace("-", " ")
        if word in self.vocabulary or spaced in self.vocabulary:
            return word if word in self.vocabulary else spaced
        if word in self._bare:
            return self._bare[word]
        if not _SHORTEST_TYPO - 1 <= len(word) <= self._longest_word + 1:
            return None
        shared = (self._shortened.get(short, ()) for short in _shortened(word))
        near = {entry for group in shared for entry in group}
        close = [entry for entry in near if _one_edit_apart(word, entry)]
        meanings = {self._meaning(entry) for entry in close}
        return min(close) if len(meanings) == 1 else None

    def _meaning(self, word: str) -> Any:
        return self.goal_words.get(word, word in self.intensifiers)

    @functools.cached_property
    def _bare(self) -> Mapping[str, str]:
        """Word without accents → the word; ambiguous ones are left out."""
        groups: dict[str, list[str]] = {}
        for word in sorted(self.vocabulary):
            bare = _without_accents(word)
            if bare != word:
                groups.setdefault(bare, []).append(word)
        return {
            bare: words[0]
            for bare, words in groups.items()
            if bare not in self.vocabulary and len({self._meaning(word) for word in words}) == 1
        }

    @functools.cached_property
    def _shortened(self) -> Mapping[str, Sequence[str]]:
        """Long words, by themselves and by what is left of them without one letter.

        Words that are one edit apart share one of these, so few have to be compared.
        """
        index: dict[str, list[str]] = {}
        for word in self.vocabulary:
            if len(word) >= _SHORTEST_TYPO:
                for short in _shortened(word):
                    index.setdefault(short, []).append(word)
        return index

    @functools.cached_property
    def _longest_word(self) -> int:
        return max(map(len, self.vocabulary))


@functools.cache
def lexicon() -> Lexicon:
    """Return the lexicon of the package."""
    text = resources.files("tryage.flags").joinpath("lexicon.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    words = {
        word: (goal, data["weights"][degree])
        for goal, degrees in data["goals"].items()
        for degree, languages in degrees.items()
        for word in _all(languages)
    }
    # The first English superlative of each goal.
    examples = tuple(degrees["superlative"]["en"][0] for degrees in data["goals"].values())
    return Lexicon(
        words,
        frozenset(_all(data["intensifiers"])),
        frozenset(_all(data["fillers"])),
        data["weights"]["superlative"],
        examples,
    )


def _all(languages: Mapping[str, Iterable[str]]) -> Iterator[str]:
    for words in languages.values():
        yield from words


def _without_accents(word: str) -> str:
    letters = normalized("NFD", word)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _shortened(word: str) -> Iterator[str]:
    """Yield a word, and what is left of it without any one letter."""
    yield word
    for at in range(len(word)):
        yield word[:at] + word[at + 1 :]


def _one_edit_apart(a: str, b: str) -> bool:
    """Tell whether one letter inserted, dropped, replaced or swapped with the next makes a of b."""
    if abs(len(a) - len(b)) > 1:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(min(a, b)))
    a, b = a[start:], b[start:]
    swapped = len(a) > 1 and len(b) > 1 and a[:2] == b[1::-1] and a[2:] == b[2:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or swapped
