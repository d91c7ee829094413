"""Unicode forms of texts that somebody may have written to make them slow."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

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
