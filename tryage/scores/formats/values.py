"""Values of tables as they stand in files: numbers in text, empty cells, chat messages."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>"})
_TRUTH = {"true": 1.0, "false": 0.0}

_WITH_COMMA = re.compile(r"-?\d+,\d+%?")
_WITH_POINT = re.compile(r"-?\d*\.\d+(?:[eE][+-]?\d+)?%?")
_THOUSANDS = re.compile(r"-?[1-9]\d{0,2},\d{3}")
_WHOLE = re.compile(r"-?\d+%?")


def number(value: Any, decimal: str = ".") -> float | None:
    """Return a cell as a number; None where it is empty, 1 and 0 for true and false.

    Args:
        value: text, a number, or None. Text may end in a percent sign.
        decimal: "." or ",", which stands before the fraction in text.

    Raises:
        ValueError: it is no number.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _text_number(value, decimal)
    try:
        converted = float(value)
    except OverflowError:
        return math.inf
    except TypeError:
        raise ValueError(value) from None
    return None if math.isnan(converted) else converted


def numbers(values: Sequence[Any], decimal: str = ".") -> tuple[list[float | None], int]:
    """Return cells as `number` does, up to the first that is no number.

    Args:
        values: the cells.
        decimal: as in `number`.

    Returns:
        The numbers, None where a cell is empty, and how many there are.
    """
    try:
        plain = list(map(float, values))
    except (ValueError, TypeError, OverflowError):
        pass
    else:
        return [None if value != value else value for value in plain], len(plain)
    converted: list[float | None] = []
    try:
        for value in values:
            converted.append(number(value, decimal))
    except ValueError:
        pass
    return converted, len(converted)


def _text_number(text: str, decimal: str) -> float | None:
    if decimal == "," and "," in text:
        if "." in text or text.count(",") > 1:
            raise ValueError(text)
        text = text.replace(",", ".")
    try:
        converted = float(text)
    except ValueError:
        plain = text.strip().lower()
        if plain in _EMPTY:
            return None
        if plain in _TRUTH:
            return _TRUTH[plain]
        if plain.endswith("%"):
            return float(plain[:-1]) / 100.0
        raise
    return None if math.isnan(converted) else converted


class MixedDecimalsError(ValueError):
    """Numbers with a comma may mean two things; `args` are examples."""


def decimal_of(columns: Sequence[Sequence[str]]) -> str:
    """Return "," where the columns of numbers have a decimal comma, else ".".

    Args:
        columns: the first cells of each column, as text.

    Raises:
        MixedDecimalsError: both are used, or every comma may stand between thousands.
    """
    commas: list[str] = []
    points: list[str] = []
    for column in columns:
        cells = [cell.strip() for cell in column if cell.strip().lower() not in _EMPTY]
        with_comma = [cell for cell in cells if _WITH_COMMA.fullmatch(cell)]
        with_point = [cell for cell in cells if _WITH_POINT.fullmatch(cell)]
        whole = sum(bool(_WHOLE.fullmatch(cell)) for cell in cells)
        if cells and len(with_comma) + len(with_point) + whole == len(cells):
            commas += with_comma
            points += with_point
    if not commas:
        return "."
    if points:
        raise MixedDecimalsError(commas[0], points[0])
    if all(_THOUSANDS.fullmatch(cell) for cell in commas):
        raise MixedDecimalsError(commas[0], commas[0].replace(",", "."))
    return ","


def as_text(value: Any) -> Any:
    """Return a group, reference or id as text where it is a number; other values unchanged."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    return str(int(value)) if value == int(value) else str(value)


def message_text(value: Any) -> str | None:
    """Return the text of the last message by the user in a list of chat messages.

    Args:
        value: such a list, its JSON text, or anything else.

    Returns:
        The text; None where the value is no list of chat messages with one by the user.
    """
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if not isinstance(value, list):
        return None
    for message in reversed(value):
        if not isinstance(message, Mapping):
            return None
        if message.get("role", message.get("type")) in ("user", "human"):
            return _content(message.get("content"))
    return None


def _content(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        texts = [part for part in parts if isinstance(part, str)]
        return "\n".join(texts) or None
    return None


def at_path(entry: Any, path: str) -> Any:
    """Return the value at a dotted path, such as "doc.question"; None where there is none."""
    if isinstance(entry, Mapping) and path in entry:
        return entry[path]
    for key in path.split("."):
        if isinstance(entry, list) and key.isdecimal() and int(key) < len(entry):
            entry = entry[int(key)]
        elif isinstance(entry, Mapping) and key in entry:
            entry = entry[key]
        else:
            return None
    return entry
