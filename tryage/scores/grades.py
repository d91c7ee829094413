"""The Automated Readability Index of an answer: the target `readability` of a score table."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE = re.compile(r"(?<![.!?])[.!?]+(?=\s|$)|\n\s*\n")


def readability(text: str) -> float:
    """Return the school grade that a text asks of its reader, lower is easier.

    ``4.71 · characters / words + 0.5 · words / sentences − 21.43``, characters being letters and
    digits (Smith and Senter, Automated Readability Index, 1967). Made for English.

    Args:
        text: any text; one without words has grade 0.
    """
    words = _WORD.findall(text)
    if not words:
        return 0.0
    characters = sum(letter.isalnum() for word in words for letter in word)
    parts = [part for part in _SENTENCE.split(text) if _WORD.search(part)]
    grade: float = 4.71 * characters / len(words) + 0.5 * len(words) / max(len(parts), 1) - 21.43
    return grade
