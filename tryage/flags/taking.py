"""Where the flags of a prompt are, and the prompt without them.

A flag stands on one line. Left alone is what only looks like one: code between backticks or in a
fence, an index such as ``items[flag:]``, and the text of a Markdown link.
"""

from __future__ import annotations

import bisect
import re

_OPENING = re.compile(r"\[[ \t]{0,8}(f)lags?[ \t]{0,8}[:：]", re.IGNORECASE)
_LONGEST_OPENING = 32
_MARKS = re.compile(r"[\[\]\n\r]")
_BACKTICKS = re.compile(r"`+")
_FENCE = 3
_GLUED = re.compile(r"[A-Za-z0-9_)\]]$")


def take_off(prompt: str) -> tuple[list[str], str]:
    """Return the bodies of the flags of a prompt, and the prompt without them.

    One pass over the brackets. Whether a bracket is a flag is seen when it closes, in the text as
    it is then, so that a flag that only appears once another is taken out of it is found too.
    """
    bodies: list[str] = []
    remaining = _Remaining()
    # Of the brackets that are open on this line: places in `remaining`, whether they stand in code.
    opened: list[tuple[int, bool]] = []
    code = _Code(prompt)
    start = 0
    for match in _MARKS.finditer(prompt):
        if match.start() < start:  # a line end that was looked at as a flag's neighbour
            continue
        mark = match.group()
        remaining.add(prompt[start : match.start()])
        start = match.end()
        if mark == "[":
            opened.append((len(remaining.pieces), code.holds(match.start())))
            remaining.add(mark)
        elif mark != "]" or not opened:
            opened = opened if mark == "]" else []
            remaining.add(mark)
        else:
            place, in_code = opened.pop()
            link = prompt.startswith("(", start)
            body = None if in_code or link else _body(remaining, place)
            if body is None:
                remaining.add(mark)
                continue
            bodies.append(body)
            remaining.cut(place)
            start = _close_gap(remaining, prompt, start)
    remaining.add(prompt[start:])
    return bodies, "".join(remaining.pieces)


class _Remaining:
    """The prompt without its flags so far, in pieces.

    Attributes:
        pieces: in order; some may be empty.
    """

    def __init__(self) -> None:
        self.pieces: list[str] = []
        # Pieces with a backtick up to each place, so that nested flags are not searched again.
        self._ticked = [0]

    def add(self, piece: str) -> None:
        self.pieces.append(piece)
        self._ticked.append(self._ticked[-1] + ("`" in piece))

    def cut(self, place: int) -> None:
        """Take off all pieces from a place on."""
        del self.pieces[place:]
        del self._ticked[place + 1 :]

    def has_backtick(self, place: int) -> bool:
        """Tell whether there is a backtick from a place on."""
        return self._ticked[-1] > self._ticked[place]


def _body(remaining: _Remaining, place: int) -> str | None:
    """Return what stands behind the opening of a flag; None where the bracket opens none."""
    first = (piece[:_LONGEST_OPENING] for piece in remaining.pieces[place : place + 8])
    opening = _OPENING.match("".join(first)[:_LONGEST_OPENING])
    # Backticks taken out could turn the text that is left into code, or code into text.
    if opening is None or remaining.has_backtick(place):
        return None
    if opening[1] == "f" and _GLUED.search(_last(remaining.pieces, place)):
        return None
    return "".join(remaining.pieces[place:])[opening.end() :]


def _last(pieces: list[str], place: int) -> str:
    """Return the last character before a place, or an empty string."""
    for piece in reversed(pieces[max(0, place - 8) : place]):
        if piece:
            return piece[-1]
    return ""


class _Code:
    """Which places of a text stand in Markdown code: between equal runs of backticks.

    Runs of fewer than three pair on one line only.
    """

    def __init__(self, text: str) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        runs = [match.span() for match in _BACKTICKS.finditer(text)] if "`" in text else []
        following: list[int | None] = [None] * len(runs)
        nearest: dict[int, int] = {}
        for number in range(len(runs) - 1, -1, -1):
            low, high = runs[number]
            following[number] = nearest.get(high - low)
            nearest[high - low] = number
        number = 0
        while number < len(runs):
            (low, high), partner = runs[number], following[number]
            number += 1
            if partner is None:
                continue
            end = runs[partner][0]
            if high - low >= _FENCE or text.find("\n", high, end) < 0:
                self._starts.append(low)
                self._ends.append(end)
                number = partner + 1

    def holds(self, place: int) -> bool:
        """Tell whether a place stands in code."""
        at = bisect.bisect_right(self._starts, place) - 1
        return at >= 0 and place < self._ends[at]


def _close_gap(remaining: _Remaining, prompt: str, start: int) -> int:
    """Leave one blank where a flag stood between words, none at the edge of a line.

    Returns:
        Where the text goes on, behind the blanks that followed the flag.
    """
    pieces = remaining.pieces
    while pieces and not pieces[-1].rstrip(" \t"):
        remaining.cut(len(pieces) - 1)
    if pieces:
        pieces[-1] = pieces[-1].rstrip(" \t")
    while start < len(prompt) and prompt[start] in " \t":
        start += 1
    at_edge = (
        not pieces or pieces[-1][-1] in "\r\n" or start == len(prompt) or prompt[start] in "\r\n"
    )
    if not at_edge:
        remaining.add(" ")
    return start
