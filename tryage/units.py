"""Numbers with units, as people write them in library files, limits, flags and budgets."""

from __future__ import annotations

import re

_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_MOST = 1e18
_COUNT = re.compile(
    r"((?:[0-9][0-9_,]*(?:\.[0-9]+)?|\.[0-9]+)(?:e\+?[0-9]{1,2})?)\s*([kmbt]?)", re.IGNORECASE
)
_NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|\.[0-9]+)"
_MONEY = re.compile(
    rf"\$?\s*{_NUMBER}\s*(?:usd|\$)?(?:\s*(?:per|/)\s*"
    r"(?:([0-9][0-9,_]*\s*[km]?)(?:\s*prompts?)?|prompts?))?",
    re.IGNORECASE,
)
_SECONDS = re.compile(rf"{_NUMBER}\s*(ms|s|sec|seconds?|min|minutes?)?", re.IGNORECASE)
_IN_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0}


def parse_count(text: str) -> int:
    """Read a count such as ``"7.24B"``, ``"350M"``, ``"8192"``, ``"32K"`` or ``"1e9"``.

    Raises:
        ValueError: the text is not a number, or its unit is none of K, M, B, T.
    """
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a count such as 350M, 7.2B or 8192 (units K, M, B, T)")
    digits, unit = match.groups()
    count = float(digits.replace(",", "").replace("_", "")) * _FACTORS[unit.lower()]
    if count > _MOST:
        raise ValueError(f"a count of {len(digits)} digits is more than anything has")
    return round(count)


def format_count(value: float) -> str:
    """Write a count the short way: 7240000000 becomes ``"7.24B"``."""
    for unit, larger in (("k", "m"), ("m", "b"), ("b", "t"), ("t", None)):
        # Rounding to three digits may reach the next unit: 999.6M is 1B, not 1e+03M.
        if larger is None or float(f"{value / _FACTORS[unit]:.3g}") < 1000:
            break
    return f"{value:g}" if value < 1000 else f"{value / _FACTORS[unit]:.3g}{unit.upper()}"


def parse_money(text: str) -> float:
    """Read US dollars per prompt: ``"0.002"``, ``"$0.002"``, ``"0.4 USD per 1000 prompts"``.

    Raises:
        ValueError: the text is no amount of US dollars.
    """
    # Runs of blanks between optional parts would be tried in every way.
    match = _MONEY.fullmatch(" ".join(text.split()))
    if match is None:
        raise ValueError(
            f"{text!r} is not an amount such as 0.002, $0.002 or 0.4 USD per 1000 prompts"
        )
    amount, prompts = match.groups()
    return _finite(float(amount) / ((parse_count(prompts) or 1) if prompts else 1))


def format_money(value: float) -> str:
    """Write US dollars per prompt as people compare them: 0.002 is ``"2 USD per 1000"``."""
    return f"{1000 * value:.4g} USD per 1000"


def parse_seconds(text: str) -> float:
    """Read a time: ``"2"``, ``"2 s"``, ``"500ms"``, ``"1 min"``.

    Raises:
        ValueError: the text is no time.
    """
    match = _SECONDS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a time such as 2s or 500ms")
    number, unit = match.groups()
    unit = (unit or "").lower()
    return _finite(float(number) * _IN_SECONDS[unit if unit == "ms" else unit[:1]])


def parse_days(text: str) -> float:
    """Read a number of days: ``"60"``, ``"60 d"``, ``"60 days"``.

    Raises:
        ValueError: the text is no number of days.
    """
    digits = without_unit(text, "d", "day", "days")
    if re.fullmatch(_NUMBER, digits, re.IGNORECASE) is None:
        raise ValueError(f"{text!r} is not a number of days such as 60 d")
    return _finite(float(digits))


def without_unit(text: str, *units: str) -> str:
    """Return the text of a number without a word for its unit, before or behind it."""
    number = text.strip()
    for unit in units:
        if number.lower().startswith(f"{unit.lower()} "):
            return number[len(unit) :].strip()
        rest = number[: -len(unit)]
        if rest and number.lower().endswith(unit.lower()) and rest[-1] in "0123456789. kKmMbBtT":
            return rest.strip()
    return number


def format_seconds(value: float) -> str:
    """Write a time: ``"1.25 s"``."""
    return f"{value:.3g} s"


def _finite(value: float) -> float:
    if value > _MOST:
        raise ValueError(f"{value:g} is more than anything takes")
    return value
