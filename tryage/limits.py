"""Limits: hard conditions on experts, parsed from text and checked by type.

Most are on attributes that an expert states. The limits of `ON_GOALS` are on a goal's value,
which may differ from prompt to prompt, such as the predicted cost.
"""

from __future__ import annotations

import datetime
import functools
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.characters import short
from tryage.errors import GoalError, did_you_mean
from tryage.experts import Expert
from tryage.library import Library
from tryage.units import (
    format_count,
    format_money,
    format_seconds,
    parse_count,
    parse_money,
    parse_seconds,
    without_unit,
)

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class _Attribute:
    """How one attribute is read from an expert, parsed from text, compared and written."""

    read: Callable[[Expert], Any]
    parse: Callable[[str], Any]
    ordered: bool
    what: str
    write: Callable[[Any], str] = str


def _text(value: str) -> str:
    value = value.strip().strip("'\"").lower()
    if not value:
        raise ValueError("is empty")
    if "'" in value and '"' in value:
        raise ValueError(f"{value!r} holds both kinds of quotes")
    return value


def _flag(value: str) -> bool:
    word = _text(value)
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def _date(value: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(value.strip())
    except ValueError:
        raise ValueError(f"{value!r} is not a date such as 2024-01-31") from None


def _number(value: str) -> float:
    try:
        number = float(without_unit(value, "level", "grade"))
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None
    if not 0 <= number < math.inf:
        raise ValueError(f"{number:g} is not a number from 0 on")
    return number


def _characters(value: str) -> int:
    return parse_count(without_unit(value, "chars", "characters"))


def _of_a_goal(expert: Expert) -> None:
    """Return None: the value is that of a goal, not stated by the expert."""


def _lower(value: str | None) -> str | None:
    return None if value is None else value.lower()


def _lowers(values: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(value.lower() for value in values)


ATTRIBUTES: Mapping[str, _Attribute] = {
    "parameters": _Attribute(
        lambda e: e.parameters, parse_count, True, "a count such as 3B", format_count
    ),
    "context_length": _Attribute(
        lambda e: e.context_length, parse_count, True, "a number of tokens such as 8192"
    ),
    "released": _Attribute(lambda e: e.released, _date, True, "a date such as 2024-01-31"),
    "license": _Attribute(lambda e: _lower(e.license), _text, False, "a name"),
    "language": _Attribute(lambda e: _lowers(e.languages), _text, False, "a language code"),
    "modality": _Attribute(lambda e: _lowers(e.modalities), _text, False, "a modality"),
    "location": _Attribute(lambda e: _lower(e.security.location), _text, False, "a place"),
    "vendor": _Attribute(lambda e: _lower(e.security.vendor), _text, False, "a name"),
    "tools": _Attribute(lambda e: e.tools, _flag, False, "true or false"),
    "safetensors": _Attribute(lambda e: e.security.safetensors, _flag, False, "true or false"),
    "remote_code": _Attribute(lambda e: e.security.remote_code, _flag, False, "true or false"),
    "pinned": _Attribute(lambda e: e.revision is not None, _flag, False, "true or false"),
    "cost": _Attribute(
        _of_a_goal, parse_money, True, "USD per prompt, such as 0.002", format_money
    ),
    "latency": _Attribute(
        _of_a_goal, parse_seconds, True, "a time such as 2s or 500ms", format_seconds
    ),
    "security": _Attribute(_of_a_goal, _number, True, "a level such as 2", "{:g}".format),
    "verbosity": _Attribute(
        _of_a_goal, _characters, True, "a number of characters such as 800", "{:.0f}".format
    ),
    "readability": _Attribute(_of_a_goal, _number, True, "a grade such as 8", "{:.3g}".format),
}
"""Attribute → how a limit on it works."""

ON_GOALS = frozenset(name for name, attribute in ATTRIBUTES.items() if attribute.read is _of_a_goal)
"""Attributes that are values of the goal of the same name."""

ALIASES: Mapping[str, str] = {
    "size": "parameters",
    "languages": "language",
    "modalities": "modality",
    "licence": "license",
    "context": "context_length",
    "price": "cost",
}

_EXPRESSION = re.compile(
    r"([A-Za-z_]+)\s*(<=|>=|!=|==|=|<|>|\bin\b|≤|≥)\s*(.*\S)", re.IGNORECASE | re.DOTALL
)
_COMPARISON = re.compile(r"(<=|>=|!=|==|=|<|>|≤|≥)?\s*(.*\S)", re.DOTALL)
_ITEM = re.compile(r"""\s*(?:"[^"]*"|'[^']*')\s*(?=,|$)|[^,]+""")
_APART = re.compile(r"""[,"'\[\](){}]""")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_SAME = {"==": "=", "≤": "<=", "≥": ">="}


@dataclass(frozen=True, slots=True)
class Limit:
    """One hard condition: `attribute operator value`.

    Attributes:
        attribute: a key of `ATTRIBUTES`.
        operator: ``<=  >=  <  >  =  !=`` or ``in``.
        value: of the attribute's own type; a tuple for ``in``.
    """

    attribute: str
    operator: str
    value: Any

    def __str__(self) -> str:
        return _written(self)

    @property
    def condition(self) -> str:
        """The limit without its attribute: ``"<= 3B"``."""
        return f"{self.operator} {self.written(self.value)}"

    @property
    def exact(self) -> str:
        """The limit as text that parses to an equal limit; `str` rounds numbers."""
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        # str.lower makes "true" of True, and leaves numbers, dates and names as they are.
        texts = [str(value).lower() for value in values]
        if self.operator == "in":
            texts = [_quoted(text) for text in texts]
        text = ", ".join(texts)
        return f"{self.attribute} {self.operator} {f'[{text}]' if self.operator == 'in' else text}"

    def written(self, value: Any) -> str:
        """Return a value of the attribute as readable text."""
        return _format(self.attribute, value)

    def reason_against(self, expert: Expert) -> str | None:
        """Return why the expert breaks this limit, or None if it keeps it.

        Raises:
            GoalError: the expert does not state the attribute.
        """
        value = ATTRIBUTES[self.attribute].read(expert)
        if value is None:
            raise GoalError(
                f"the limit '{self}' cannot be checked: expert {expert.name!r} states no "
                f"{self.attribute}. Add it to the library, or drop the limit."
            )
        return None if self._holds(value) else self.reason(value)

    def reason(self, value: Any) -> str:
        """Return the sentence that says that a value breaks this limit."""
        return f"{self.attribute} is {self.written(value)}, the limit is {self.condition}"

    def of(self, library: Library) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which experts keep this limit, and which do not state the attribute, (m,) each."""
        codes, values = library.distinct(self.attribute, ATTRIBUTES[self.attribute].read)
        holds = np.array([value is not None and self._holds(value) for value in values])
        unstated = np.array([value is None for value in values])
        return holds[codes], unstated[codes]

    def holds_for(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which values of a goal keep this limit.

        Args:
            values: any shape, in the goal's unit.

        Returns:
            The same shape; false where a value is NaN.
        """
        if self.operator == "in":
            return np.isin(values, self.value)
        holds: NDArray[np.bool_] = _ORDER[self.operator](values, self.value) & ~np.isnan(values)
        return holds

    def _holds(self, stated: Any) -> bool:
        if isinstance(stated, frozenset):
            allowed = self.value if self.operator == "in" else (self.value,)
            overlap = any(value in stated for value in allowed)
            return not overlap if self.operator == "!=" else overlap
        if self.operator == "in":
            return stated in self.value
        return _ORDER[self.operator](stated, self.value)


def parse_limit(expression: str) -> Limit:
    """Read a limit such as ``"parameters <= 3B"`` or ``"license in [mit, apache-2.0]"``.

    Raises:
        GoalError: the text is no limit, or names no known attribute, or its value or unit does
            not fit the attribute.
    """
    if not isinstance(expression, str):
        raise GoalError(f"{short(expression)} is not a limit; write one as text or a `Limit`")
    # A text that ends with ink, so that the end of the value is found at once.
    match = _EXPRESSION.fullmatch(expression.strip())
    if match is None:
        raise GoalError(
            f"{short(expression)} is not a limit; write one as 'attribute operator value', "
            "such as 'parameters <= 3B'"
        )
    attribute, sign, value = match.groups()
    shown = short(expression)
    if sign.lower() == "in":
        return _limit(attribute, "in", _listed(value, shown), shown)
    return _limit(attribute, _SAME.get(sign, sign), [value], shown)


def parse_limits(limits: Mapping[str, Any] | Iterable[Limit | str]) -> tuple[Limit, ...]:
    """Read the limits of a `Goals` or a `Policy`, duplicates dropped.

    Args:
        limits: attribute → condition (``"<=3B"``, a list of allowed values, a single value), or
            an iterable of limits and expressions.

    Raises:
        GoalError: as `parse_limit`.
    """
    if isinstance(limits, str | bytes) or not isinstance(limits, Iterable):
        raise GoalError(
            f"limits is {short(limits)}; give a mapping such as {{'parameters': '<= 3B'}}, or a "
            "list such as ['parameters <= 3B']"
        )
    if isinstance(limits, Mapping):
        parsed = [_from_item(attribute, value) for attribute, value in limits.items()]
    else:
        parsed = [item if isinstance(item, Limit) else parse_limit(item) for item in limits]
    return tuple(dict.fromkeys(parsed))


def _from_item(attribute: Any, value: Any) -> Limit:
    expression = f"{attribute}: {short(value)}"
    definition = _attribute(attribute)
    if isinstance(value, list | tuple | set | frozenset):
        texts = sorted(_value_text(item, definition, expression) for item in value)
        return _limit(attribute, "in", texts, expression)
    match = _COMPARISON.fullmatch(_value_text(value, definition, expression).strip())
    if match is None:
        raise GoalError(f"the limit {expression} is empty")
    sign, text = match.groups()
    if sign is None and definition.ordered:
        raise GoalError(
            f"the limit {expression} says neither at most nor at least; "
            f"write it as {attribute!r}: '<= {text}'"
        )
    return _limit(attribute, _SAME.get(sign, sign) if sign else "=", [text], expression)


def _value_text(value: Any, definition: _Attribute, expression: str) -> str:
    """Return a value of a limit as text, of which exactly one value is read."""
    if isinstance(value, str):
        return value
    is_flag = definition.parse is _flag
    if isinstance(value, bool) and is_flag:
        return str(value)
    if isinstance(value, datetime.date) and definition.parse is _date:
        return value.isoformat()
    is_number = definition.ordered and definition.parse is not _date
    if isinstance(value, Real) and is_number and not isinstance(value, bool):
        return str(value)
    raise GoalError(
        f"the limit {expression}: {short(value)} is of type {type(value).__name__}; "
        f"expected {definition.what}"
    )


def _listed(text: str, expression: str) -> list[str]:
    """Return the items of a written list; a comma between quotes divides nothing."""
    text = text.strip()
    closing = _BRACKETS.get(text[:1])
    if closing is not None:
        if not text.endswith(closing) or len(text) < 2:
            raise GoalError(f"the limit {expression}: the list is not closed by {closing!r}")
        text = text[1:-1]
    return [item for item in _ITEM.findall(text) if item.strip()]


def _quoted(text: str) -> str:
    """Return an item of a list as `_listed` reads it back."""
    if not _APART.search(text):
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'


def _limit(name: str, sign: str, texts: Sequence[str], expression: str) -> Limit:
    """Make a limit of its parts; `texts` holds one value, or those of a list."""
    definition = _attribute(name)
    attribute = ALIASES.get(name.lower(), name.lower())
    if sign in ("<", ">", "<=", ">=") and not definition.ordered:
        raise GoalError(f"the limit {expression}: {attribute} has no order; use =, != or in")
    try:
        values = tuple(definition.parse(text) for text in texts)
        if not values:
            raise ValueError("the list is empty")
    except ValueError as error:
        hint = ""
        if sign == "=" and texts[0][:1] in ("<", ">"):
            turned = f"{attribute} {texts[0][0]}= {texts[0][1:].strip()}"
            hint = f" Did you mean {short(turned)}?"
        problem = f"the limit {expression}: {error}; expected {definition.what}"
        raise GoalError(f"{problem}.{hint}" if hint else problem) from error
    return Limit(attribute, sign, values if sign == "in" else values[0])


def _attribute(name: Any) -> _Attribute:
    if not isinstance(name, str):
        raise GoalError(f"unknown limit {short(name)}. Known: {', '.join(ATTRIBUTES)}.")
    attribute = ALIASES.get(name.lower(), name.lower())
    if attribute not in ATTRIBUTES:
        hint = did_you_mean(attribute, ATTRIBUTES) or f" Known: {', '.join(ATTRIBUTES)}."
        raise GoalError(f"unknown limit {short(name)}.{hint}")
    return ATTRIBUTES[attribute]


@functools.lru_cache(maxsize=1024)
def _written(limit: Limit) -> str:
    """Return a limit as text, cached because every decision under it shows it."""
    return f"{limit.attribute} {limit.condition}"


def _format(attribute: str, value: Any) -> str:
    if isinstance(value, tuple | frozenset):
        items = value if isinstance(value, tuple) else sorted(value)
        return "[" + ", ".join(_format(attribute, item) for item in items) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return ATTRIBUTES[attribute].write(value)
