"""Estimates how many tokens a text has, without the expert's tokenizer."""

from __future__ import annotations

CHARS_PER_TOKEN = 4.0
"""Characters of English in one token, unless an expert states its own `chars_per_token`."""

_BYTES_PER_TOKEN = 3.0
"""Bytes of UTF-8 in one token of other scripts: a Chinese character, 1.5 Cyrillic letters."""


def count_tokens(text: str) -> float:
    """Return about how many tokens a text has.

    Four ASCII characters count as one token, and so do three bytes of UTF-8 of other characters.
    Tokenizers differ by up to a factor of two; the estimate is meant to be high rather than low.
    """
    if text.isascii():
        return len(text) / CHARS_PER_TOKEN
    ascii_chars = len(text.encode("ascii", "ignore"))
    other_bytes = len(text.encode("utf-8", "surrogatepass")) - ascii_chars
    return ascii_chars / CHARS_PER_TOKEN + other_bytes / _BYTES_PER_TOKEN
