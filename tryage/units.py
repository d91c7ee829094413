"""Numbers with units, as people write them in library files, limits and flags."""

from __future__ import annotations

import re

_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_COUNT = re.compile(r"([0-9][0-9_,]*(?:\.[0-9]+)?|\.[0-9]+)\s*([kmbt]?)", re.IGNORECASE)


def parse_count(text: str) -> int:
    """Read a count such as ``"7.24B"``, ``"350M"``, ``"8192"`` or ``"32K"``.

    Raises:
        ValueError: the text is not a number, or its unit is none of K, M, B, T.
    """
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a count such as 350M, 7.2B or 8192 (units K, M, B, T)")
    digits, unit = match.groups()
    return round(float(digits.replace(",", "").replace("_", "")) * _FACTORS[unit.lower()])


def format_count(value: float) -> str:
    """Write a count the short way: 7240000000 becomes ``"7.24B"``."""
    for unit in ("t", "b", "m", "k"):
        if value >= _FACTORS[unit]:
            return f"{value / _FACTORS[unit]:.3g}{unit.upper()}"
    return f"{value:g}"
