"""What a prompt looks like, whatever its words: a few shares of its characters, and its end.

Pooled token vectors forget line breaks, capitals and how a prompt ends, yet those tell a question
from a text to complete and code from prose.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEATURES = (
    "capitals",
    "digits",
    "line_breaks",
    "punctuation",
    "symbols",
    "non_ascii",
    "ends_with_colon",
    "ends_with_question_mark",
    "ends_with_full_stop",
)
"""Names, in order. The first six are square roots of shares of the bytes that are not blank."""

_MASK = "[MASK]"
_LETTER, _BLANK = 6, 7
_PUNCTUATION = ".,;:?!'\"-"
_ENDS = {":": 6, "：": 6, "?": 7, "？": 7, ".": 8, "。": 8}
_LIMIT = 3.0


def _class_of(byte: int) -> int:
    character = chr(byte)
    tests = (
        character.isupper(),
        character.isdigit(),
        character == "\n",
        character in _PUNCTUATION,
        character.isprintable() and not character.isalnum() and character != " ",
    )
    if byte >= 128:
        return FEATURES.index("non_ascii")
    if any(tests):
        return tests.index(True)
    return _LETTER if character.isalpha() else _BLANK


_CLASSES = np.array([_class_of(byte) for byte in range(256)], dtype=np.intp)


def surface_features(text: str) -> NDArray[np.float64]:
    """Return the values of `FEATURES`, each in [0, 1], shape (9,); marks `[MASK]` do not count.

    Args:
        text: what UTF-8 can hold.
    """
    if _MASK in text:
        text = text.replace(_MASK, "")
    counts = np.bincount(_CLASSES[np.frombuffer(text.encode(), dtype=np.uint8)], minlength=8)
    values = np.zeros(len(FEATURES))
    seen = int(counts[:_BLANK].sum())
    if seen:
        np.sqrt(counts[:6] / seen, out=values[:6])
        end = _ENDS.get(text.rstrip()[-1:])
        if end is not None:
            values[end] = 1.0
    return values


def surface_vector(text: str, scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features standardised, limited to 3 deviations, and weighted, shape (9,).

    Args:
        text: what UTF-8 can hold.
        scales: shape (3, 9): mean, deviation and weight of each feature.
    """
    standard = (surface_features(text) - scales[0]) / scales[1]
    vector: NDArray[np.float32] = (np.clip(standard, -_LIMIT, _LIMIT) * scales[2]).astype(
        np.float32
    )
    return vector
