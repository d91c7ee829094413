"""Flags: directives in a prompt, such as ``[Flag: smallest model]``.

`parse` takes the flags off a prompt and says which weights and limits they ask for. What they may
do is the policy's business (`tryage.policy`).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from types import MappingProxyType
from typing import Any

from tryage.errors import FlagError, GoalError, did_you_mean
from tryage.goals import GOALS, check_weights
from tryage.limits import ATTRIBUTES, Limit, parse_limit

_OPENING = re.compile(r"\[[ \t]{0,8}flags?[ \t]{0,8}:", re.IGNORECASE)
_LONGEST_OPENING = 32
_MARKS = re.compile(r"[\[\]\n\r]")
_OPERATOR = re.compile(r"<=|>=|!=|=|<|>|≤|≥|\bin\s*\[", re.IGNORECASE)
_SHORTEST_TYPO = 5


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

    prompt: str
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
        lexicon = _lexicon()
        hints = [f"{part!r}.{did_you_mean(part.lower(), lexicon.known)}" for part in self.unknown]
        return FlagError(
            f"flags not understood: {' '.join(hints)} "
            f"Known words: {', '.join(lexicon.examples)} and others; "
            f"also goal=weight ({', '.join(GOALS)}) and limits ({', '.join(ATTRIBUTES)}).",
            self.unknown,
        )


def parse(prompt: str) -> Flags:
    """Take the flags off a prompt and read them.

    Text that merely contains brackets or the word is left alone. Parsing what is left finds
    nothing more.
    """
    if "[" not in prompt or "flag" not in prompt.casefold():
        return Flags(prompt)
    bodies, rest = _take_off(prompt)
    return replace(_read(tuple(bodies)), prompt=rest) if bodies else Flags(prompt)


def _take_off(prompt: str) -> tuple[list[str], str]:
    """Return the bodies of the flags of a prompt, and the prompt without them.

    One pass over the brackets. Whether a bracket is a flag is seen when it closes, in the text as
    it is then, so that a flag that only appears once another is taken out of it is found too.
    A flag stands on one line.
    """
    bodies: list[str] = []
    kept: list[str] = []
    opened: list[int] = []  # places in `kept` of the brackets that are open on this line
    start = 0
    for match in _MARKS.finditer(prompt):
        if match.start() < start:  # a line end that was looked at as a flag's neighbour
            continue
        mark = match.group()
        kept.append(prompt[start : match.start()])
        start = match.end()
        if mark == "[":
            opened.append(len(kept))
            kept.append(mark)
        elif mark != "]" or not opened:
            opened = opened if mark == "]" else []
            kept.append(mark)
        else:
            place = opened.pop()
            opening = _OPENING.match("".join(kept[place : place + 8])[:_LONGEST_OPENING])
            if opening is None:
                kept.append(mark)
                continue
            bodies.append("".join(kept[place:])[opening.end() :])
            del kept[place:]
            start = _close_gap(kept, prompt, start)
    kept.append(prompt[start:])
    return bodies, "".join(kept)


def _close_gap(kept: list[str], prompt: str, start: int) -> int:
    """Leave one blank where a flag stood between words, none at the edge of a line.

    Returns:
        Where the text goes on, behind the blanks that followed the flag.
    """
    while kept and not kept[-1].rstrip(" \t"):
        kept.pop()
    if kept:
        kept[-1] = kept[-1].rstrip(" \t")
    while start < len(prompt) and prompt[start] in " \t":
        start += 1
    at_edge = not kept or kept[-1][-1] in "\r\n" or start == len(prompt) or prompt[start] in "\r\n"
    if not at_edge:
        kept.append(" ")
    return start


@functools.lru_cache(maxsize=1024)
def _read(bodies: tuple[str, ...]) -> Flags:
    """Read flags; the same few stand in prompt after prompt."""
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


def _parts(body: str) -> list[str]:
    """Split a flag at its commas and semicolons, those of a list in brackets left alone."""
    parts = [""]
    depth = 0
    for piece in re.split(r"([,;\[\]])", body):
        depth += {"[": 1, "]": -1}.get(piece, 0)
        if piece in (",", ";") and depth <= 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


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
            asked = _assignment(part)
            limit = None if asked else parse_limit(part)
        except GoalError as error:
            self.unknown.append(f"{part} ({error})")
            return
        self._ask(asked, part)
        if limit is not None:
            self.limits[limit] = None
            self.echo.append(str(limit))

    def _words(self, part: str) -> None:
        lexicon = _lexicon()
        written = part.split()
        asked: dict[str, float] = {}
        said: list[str] = []
        unknown: list[str] = []
        strong, place = False, 0
        while place < len(written):
            word, length = lexicon.read(written, place)
            text = " ".join(written[place : place + length])
            place += length
            if word is None:
                unknown.append(text)
            elif word in lexicon.goal_words:
                goal, weight = lexicon.goal_words[word]
                weight = lexicon.superlative if strong else weight
                asked[goal] = max(weight, asked.get(goal, 0.0))
            strong = word in lexicon.intensifiers
            differs = word is not None and word != _plain(text)
            said.append(f"{text} (read as {word})" if differs else text)
        self.unknown += unknown
        # With a word unknown nobody can tell what the others ask for: "not the smallest".
        if not unknown:
            self._ask(asked, " ".join(said))

    def _ask(self, asked: Mapping[str, float], said: str) -> None:
        for goal, weight in asked.items():
            self.weights[goal] = max(weight, self.weights.get(goal, 0.0))
            self.echo.append(f"{said} → {goal}={weight:g}")


def _assignment(part: str) -> Mapping[str, float]:
    """Read ``goal=weight``; an empty mapping means that the part is a limit."""
    name, sign, value = part.partition("=")
    name = name.strip().lower()
    if not sign or name not in GOALS:
        return {}
    return check_weights({name: _number(name, value)})


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise GoalError(f"the weight of {name} is {value.strip()!r}, not a number") from None


def _plain(word: str) -> str:
    return word.lower().strip(".!?:'\"“”„«»¡¿")


@dataclass(frozen=True)
class _Lexicon:
    """Words that act, and those that mean nothing; entries of several words are phrases."""

    goal_words: Mapping[str, tuple[str, float]]
    intensifiers: frozenset[str]
    fillers: frozenset[str]
    superlative: float
    examples: tuple[str, ...]

    @functools.cached_property
    def known(self) -> frozenset[str]:
        return self.intensifiers | self.fillers | frozenset(self.goal_words)

    @functools.cached_property
    def longest(self) -> int:
        """Words of the longest phrase."""
        return max(word.count(" ") + 1 for word in self.known)

    def read(self, written: Sequence[str], start: int) -> tuple[str | None, int]:
        """Return the known word or phrase that starts at a place, and how many words it takes."""
        for length in range(min(self.longest, len(written) - start), 1, -1):
            phrase = " ".join(_plain(word) for word in written[start : start + length])
            if phrase in self.known:
                return phrase, length
        return self.nearest(_plain(written[start])), 1

    def nearest(self, word: str) -> str | None:
        """Return the known word meant: itself, or the long one that is one edit away.

        Several that are one edit away act only where they mean the same.
        """
        spaced = word.replace("-", " ")
        if word in self.known or spaced in self.known:
            return word if word in self.known else spaced
        if len(word) < _SHORTEST_TYPO - 1:
            return None
        close = [k for k in self.known if len(k) >= _SHORTEST_TYPO and _one_edit_apart(word, k)]
        meanings = {self.goal_words.get(k, k in self.intensifiers) for k in close}
        return min(close) if len(meanings) == 1 else None


@functools.cache
def _lexicon() -> _Lexicon:
    text = resources.files("tryage").joinpath("flags.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    words = {
        word: (goal, data["weights"][degree])
        for goal, degrees in data["goals"].items()
        for degree, languages in degrees.items()
        for group in languages.values()
        for word in group
    }
    fillers = (word for group in data["fillers"].values() for word in group)
    intensifiers = (word for group in data["intensifiers"].values() for word in group)
    # The first English superlative of each goal.
    examples = tuple(degrees["superlative"]["en"][0] for degrees in data["goals"].values())
    return _Lexicon(
        words,
        frozenset(intensifiers),
        frozenset(fillers),
        data["weights"]["superlative"],
        examples,
    )


def _one_edit_apart(a: str, b: str) -> bool:
    """Tell whether one letter inserted, dropped, replaced or swapped with the next makes a of b."""
    if abs(len(a) - len(b)) > 1:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(min(a, b)))
    a, b = a[start:], b[start:]
    swapped = len(a) > 1 and len(b) > 1 and a[:2] == b[1::-1] and a[2:] == b[2:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or swapped
