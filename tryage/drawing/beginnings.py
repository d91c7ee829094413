"""Beginnings of prompts as a report shows them: short, on one line, with nothing hidden."""

from __future__ import annotations

import re

LONGEST = 240
"""Characters of a prompt that a report holds at most."""

_LEAST = 60
_BYTES = 1_500_000
"""What the prompts of one report may take, in UTF-8."""

_SPACES = re.compile(r"[ \t\r\n\f\v]+")

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Control characters, and those that turn, join or hide text: bidi marks and overrides, tags."""

_HALF = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs, which no file can hold."""


def beginning(text: str, longest: int = LONGEST) -> str:
    """Return the start of a text on one line, its control characters written as escapes."""
    start = _SPACES.sub(" ", text[: 4 * longest]).strip()
    cut = start[:longest]
    whole = len(start) <= longest and len(text) <= 4 * longest
    return visible(cut) if whole else f"{visible(cut)}…"


def visible(text: str) -> str:
    """Return a text with its control characters, except ends of lines, written as escapes."""
    whole = _HALF.sub("\ufffd", text)
    return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", whole)


def fitting(texts: list[str]) -> list[str]:
    """Return texts cut to a common length at which all of them fit into a report."""
    longest = LONGEST
    while longest > _LEAST and sum(len(text.encode()) for text in texts) > _BYTES:
        longest = max(_LEAST, longest * 3 // 4)
        texts = [text if len(text) <= longest + 1 else f"{text[:longest]}…" for text in texts]
    return texts
