"""Pieces of a prompt: paragraphs, lines, sentences and quoted passages near both of its ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

HEAD, TAIL = 1_000, 2_000
"""Characters at both ends of a prompt in which labels and paragraphs are looked for."""

_NEAR_END = 400
"""Characters at both ends of a part in which single sentences are looked for."""

PARAGRAPH = re.compile(r"\n[ \t]*\n\s*|\n[-=*_]{3,}\n")
SENTENCE = re.compile(r"(?<=[.!?。！？])[\"')\]]*\s+")
_NEWLINE = re.compile("\n")
_INK = re.compile(r"\S")


class Span(NamedTuple):
    """A part of a prompt: characters `start` to `end`, `end` not included."""

    start: int
    end: int


def ends_of(parts: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the last part, the first, the last but one, the second."""
    if parts:
        yield parts[-1]
        yield parts[0]
    if len(parts) > 2:
        yield parts[-2]
        yield parts[1]


def paragraphs_of(text: str) -> list[tuple[int, int]]:
    """Return the paragraphs near both ends of a prompt, in order."""
    if len(text) <= HEAD + TAIL:
        return _between(text, 0, len(text), PARAGRAPH)
    first = _between(text, 0, HEAD, PARAGRAPH)[:-1]
    return first + _between(text, len(text) - TAIL, len(text), PARAGRAPH)[1:]


def lines_of(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the lines near both ends of a part."""
    if end - start > HEAD + TAIL:
        return [
            *_between(text, start, start + HEAD, _NEWLINE)[:-1],
            *_between(text, end - TAIL, end, _NEWLINE)[1:],
        ]
    return _between(text, start, end, _NEWLINE)


def sentences_of(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the sentences near both ends of a part."""
    if end - start > 2 * _NEAR_END:
        return [
            *_between(text, start, start + _NEAR_END, SENTENCE),
            *_between(text, end - _NEAR_END, end, SENTENCE),
        ]
    return _between(text, start, end, SENTENCE)


def quoted_in(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the last quoted passage of a part; quotes are paired from its end."""
    close = max(text.rfind(mark, max(start, end - _NEAR_END), end) for mark in '"”»')
    if close > start:
        mark = text[close]
        # A longer passage would be left out anyway.
        start = max(start, close - HEAD - TAIL)
        begin = text.rfind({'"': '"', "”": "“", "»": "«"}[mark], start, close)
        if begin >= 0:
            yield begin + 1, close


def after_colon(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield what follows the first colon of a part, as in "Answer the following: ..."."""
    colon = text.find(":", start, min(end, start + _NEAR_END))
    if colon >= 0 and text.find("\n", start, colon) < 0:
        yield colon + 1, end


def trimmed(text: str, start: int, end: int) -> Span:
    """Return a part without white space at its ends, and without quotes around the whole."""
    part = text[start:end].rstrip()
    end = start + len(part)
    start = end - len(part.lstrip())
    for mark in ("'''", '"""', "```"):
        if end - start > 6 and text.startswith(mark, start) and text.startswith(mark, end - 3):
            return trimmed(text, start + 3, end - 3)
    return Span(start, end)


def has_ink(text: str, start: int, end: int) -> bool:
    """Tell whether a part holds more than white space."""
    return end > start and _INK.search(text, start, end) is not None


def _between(text: str, start: int, end: int, gaps: re.Pattern[str]) -> list[tuple[int, int]]:
    parts = []
    for gap in gaps.finditer(text, start, end):
        parts.append((start, gap.start()))
        start = gap.end()
    parts.append((start, end))
    return [(a, b) for a, b in parts if _INK.search(text, a, b)]
