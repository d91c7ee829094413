"""Surface features of a prompt: shares of kinds of characters, and how it ends.

Pooled token vectors lose line breaks, capitals and the end of a prompt, yet those separate
questions from texts to complete and code from prose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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


_CLASSES = bytes(_class_of(byte) for byte in range(256))


def surface_features(text: str) -> list[float]:
    """Return the values of `FEATURES`, each in [0, 1]; marks `[MASK]` do not count.

    Args:
        text: encodable as UTF-8.
    """
    if _MASK in text:
        text = text.replace(_MASK, "")
    kinds = text.encode().translate(_CLASSES)
    values = [0.0] * len(FEATURES)
    visible = len(kinds) - kinds.count(_BLANK)
    if visible:
        values[:6] = [math.sqrt(kinds.count(kind) / visible) for kind in range(6)]
        end = _ENDS.get(text.rstrip()[-1:])
        if end is not None:
            values[end] = 1.0
    return values


def surface_vector(text: str, scales: Sequence[tuple[float, float, float]]) -> list[float]:
    """Return the features standardised, limited to 3 deviations, and weighted.

    Args:
        text: encodable as UTF-8.
        scales: mean, deviation and weight of each feature.
    """
    vector = []
    for value, (mean, deviation, weight) in zip(surface_features(text), scales, strict=True):
        deviations = (value - mean) / deviation
        if not -_LIMIT <= deviations <= _LIMIT:
            deviations = math.copysign(_LIMIT, deviations)
        vector.append(deviations * weight)
    return vector
