"""Untrusted texts: Unicode forms in bounded time, and short forms for error messages."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Literal

_RUN = re.compile(r"[^\w\s\x00-\x7f]{30}")
"""What may be a run of combining marks; no mark is a letter, and no language stacks so many."""


def normalized(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
    """Return a Unicode form of a text, in time that grows with its length.

    `unicodedata` sorts the marks on a letter in time that grows with the square of their number, so
    runs of them are taken 30 at a time, as Unicode's stream-safe format does.
    """
    if text.isascii():
        return text
    ends = [match.end() for match in _RUN.finditer(text)]
    starts = [0, *ends]
    parts = zip(starts, [*ends, len(text)], strict=True)
    return "".join(unicodedata.normalize(form, text[start:end]) for start, end in parts)


def short(value: Any) -> str:
    """Return a value as error messages show it: never more than 60 characters of it."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of too many digits
        text = f"a {type(value).__name__} too large to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


DEEPEST = 100
"""Levels of lists and mappings in each other that are read; more may recurse too deeply."""


def is_deep(value: Any) -> bool:
    """Tell whether a JSON value has more than `DEEPEST` levels."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)
