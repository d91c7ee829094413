"""What the flags of a prompt ask for."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from tryage.errors import FlagError, GoalError, did_you_mean
from tryage.flags.lexicon import lexicon, plain
from tryage.flags.taking import take_off
from tryage.goals import GOALS, check_weights
from tryage.limits import ALIASES, ATTRIBUTES, Limit, parse_limit

_OPERATOR = re.compile(r"<=|>=|!=|=|<|>|≤|≥|\bin\s*\[", re.IGNORECASE)
_SEPARATORS = ",;，；、"
_SPLIT = re.compile(rf"([{_SEPARATORS}\[\]])")

_LONGEST_EXPRESSION = 1000
"""Characters of a weight or limit; more is no directive, and is not worth reading."""

_REMEMBERED = 500
"""Characters of flags up to which what they ask for is remembered."""

_MOST_NAMED = 5
"""Most unknown words that an error names; it counts the others."""

_SHOWN = 80
"""Characters that an error shows of each."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What the flags of one prompt ask for.

    Attributes:
        prompt: the prompt without its flags.
        weights: goal → λ; where flags name a goal twice, the larger.
        limits: limits asked for.
        echo: each directive as it was understood, for people.
        unknown: what could not be understood, as written.
    """

    prompt: str = field(repr=False)
    weights: Mapping[str, float] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    echo: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether the prompt held any flag."""
        return bool(self.echo or self.unknown)

    def error(self) -> FlagError | None:
        """Return the error that names the unknown words and the nearest known ones, if any."""
        if not self.unknown:
            return None
        words = lexicon()
        shown = [part if len(part) <= _SHOWN else f"{part[:_SHOWN]}…" for part in self.unknown]
        hints = [
            f"{one!r}.{did_you_mean(one.lower(), words.vocabulary)}" for one in shown[:_MOST_NAMED]
        ]
        rest = f" And {len(shown) - _MOST_NAMED} more." if len(shown) > _MOST_NAMED else ""
        return FlagError(
            f"flags not understood: {' '.join(hints)}{rest} "
            f"Known words: {', '.join(words.examples)} and others; "
            f"also goal=weight ({', '.join(GOALS)}) and limits ({', '.join(ATTRIBUTES)}). Text "
            "between backticks is left as it is.",
            self.unknown,
        )


def parse(prompt: str) -> Flags:
    """Take the flags off a prompt and read them.

    Text that merely contains brackets or the word is left alone, and so is code (see
    `tryage.flags.taking`). Parsing what is left finds nothing more.
    """
    if "[" not in prompt or "flag" not in prompt.casefold():
        return Flags(prompt)
    bodies, rest = take_off(prompt)
    if not bodies:
        return Flags(prompt)
    # Memory is for the same few flags in prompt after prompt, not for whatever is long.
    short = sum(map(len, bodies)) <= _REMEMBERED
    return replace((_remembered if short else _read)(tuple(bodies)), prompt=rest)


def _read(bodies: tuple[str, ...]) -> Flags:
    reading = _Reading()
    for body in bodies:
        reading.read(body)
    return Flags(
        prompt="",
        weights=MappingProxyType(reading.weights),
        limits=tuple(reading.limits),
        echo=tuple(reading.echo),
        unknown=tuple(reading.unknown),
    )


_remembered = functools.lru_cache(maxsize=1024)(_read)


def _parts(body: str) -> list[str]:
    """Split a flag at its commas and semicolons, those of a list in brackets left alone."""
    parts: list[list[str]] = [[]]
    depth = 0
    for piece in _SPLIT.split(body):
        depth += {"[": 1, "]": -1}.get(piece, 0)
        if piece and piece in _SEPARATORS and depth <= 0:
            parts.append([])
        else:
            parts[-1].append(piece)
    return ["".join(pieces) for pieces in parts]


@dataclass(slots=True)
class _Reading:
    """What the flags read so far ask for."""

    weights: dict[str, float] = field(default_factory=dict)
    limits: dict[Limit, None] = field(default_factory=dict)
    echo: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def read(self, body: str) -> None:
        """Read one flag; one that asks for nothing is a slip, so it counts as unknown."""
        before = len(self.echo) + len(self.unknown)
        for part in _parts(body):
            if _OPERATOR.search(part):
                self._expression(part.strip())
            else:
                self._words(part)
        if len(self.echo) + len(self.unknown) == before:
            self.unknown.append(body.strip())

    def _expression(self, part: str) -> None:
        try:
            if len(part) > _LONGEST_EXPRESSION:
                raise GoalError(f"longer than {_LONGEST_EXPRESSION} characters")
            weights = _assignment(part)
            limit = None if weights else parse_limit(part)
        except GoalError as error:
            self.unknown.append(f"{part} ({error})")
            return
        self._add_weights(weights, part)
        if limit is not None:
            self.limits[limit] = None
            self.echo.append(str(limit))

    def _words(self, part: str) -> None:
        words = lexicon()
        written = part.split()
        weights: dict[str, float] = {}
        wording: list[str] = []
        unknown: list[str] = []
        strong, place = False, 0
        while place < len(written):
            word, length = words.read(written, place)
            text = " ".join(written[place : place + length])
            place += length
            if word is None:
                unknown.append(text)
            elif word in words.goal_words:
                goal, weight = words.goal_words[word]
                weight = words.superlative if strong else weight
                weights[goal] = max(weight, weights.get(goal, 0.0))
            strong = word in words.intensifiers
            differs = word is not None and word != plain(text)
            wording.append(f"{text} (read as {word})" if differs else text)
        self.unknown += unknown
        # An unknown word may reverse the others: "not the smallest".
        if not unknown:
            self._add_weights(weights, " ".join(wording))

    def _add_weights(self, weights: Mapping[str, float], wording: str) -> None:
        for goal, weight in weights.items():
            self.weights[goal] = max(weight, self.weights.get(goal, 0.0))
            self.echo.append(f"{wording} → {goal}={weight:g}")


def _assignment(part: str) -> Mapping[str, float]:
    """Read ``goal=weight``; an empty mapping means that the part is a limit."""
    name, sign, value = part.partition("=")
    name = name.strip().lower()
    if sign and name in GOALS:
        return check_weights({name: _number(name, value)})
    if sign and name.isidentifier() and not {name} & {*ATTRIBUTES, *ALIASES}:
        hint = did_you_mean(name, (*GOALS, *ATTRIBUTES, *ALIASES))
        raise GoalError(f"{name!r} is neither goal nor attribute.{hint}")
    return {}


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise GoalError(f"the weight of {name} is {value.strip()!r}, not a number") from None
