"""Prompts of judges, their verdicts, and the patterns that read their replies."""

from __future__ import annotations

import re
from dataclasses import dataclass

RATE = """You grade an answer to a prompt. Judge how correct and helpful it is. Length counts \
neither for it nor against it.

[Prompt]
{prompt}
{reference}
[Answer]
{answer}
[End]

Grade it from {low} (useless) to {high} (perfect). End your reply with one line: "Score: " and the \
number."""

COMPARE = """You compare two answers to a prompt. Judge which one is more correct and helpful. \
Neither their order nor their length counts.

[Prompt]
{prompt}
{reference}
[Answer A]
{first}
[Answer B]
{second}
[End]

End your reply with one line: "Winner: A", "Winner: B" or "Winner: tie"."""

# "Score (1-10): 7" repeats the scale before the grade, and "Score: 1-2" is no grade.
_SCORE = re.compile(
    r"\b(?:score|grade|rating)(?:[\s*_]*(?:\([^)\n]*\)|\[[^\]\n]*\])(?=\W*\d))?"
    r"\W*?(-?\d++(?:\.\d++)?+)(?![-–]\d|\s*(?:\.\.|to)\s*\d)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# The letters in capitals only: "the winner is a tie" names no answer A, nor does "A or B" one.
_WINNER = re.compile(
    r"\b(?i:winner)\W*(?:(?i:is|an?)\s+)*(?:(?i:answer)\W+)?\W*(A|B|(?i:tie))\b"
    r"(?!\s*(?:/|&|(?i:or|and)\b)\s*(?:(?i:answer)\s+)?(?:A|B|(?i:tie))\b)"
)
_LETTER = re.compile(r"\W*(A|B|(?i:tie))\W*")
_READ = 4_000
"""Characters at the end of a reply that are read, which bounds the time."""

_WON = {"a": 1.0, "b": 0.0, "tie": 0.5}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's verdict on one answer.

    Attributes:
        score: in [0, 1], higher is better; None if there is none.
        error: why there is none.
        parse_failure: whether a reply could not be read; other replies may give a score.
    """

    score: float | None
    error: str | None = None
    parse_failure: bool = False


@dataclass(slots=True)
class Counts:
    """What a judge did in all its runs so far; runs in several threads may miscount.

    Attributes:
        asked: replies of the judge's model.
        parse_failures: replies that could not be read.
        pairs: pairs of answers shown in both orders, with both replies read.
        flipped: pairs whose verdict changed with the order; each counts as a tie.
        first: verdicts of these pairs for the answer shown first.
        second: verdicts of these pairs for the answer shown second.
    """

    asked: int = 0
    parse_failures: int = 0
    pairs: int = 0
    flipped: int = 0
    first: int = 0
    second: int = 0

    @property
    def first_share(self) -> float:
        """Share of decided verdicts for the answer shown first; 0.5 is without bias."""
        decided = self.first + self.second
        return self.first / decided if decided else 0.5


def read_score(reply: str) -> float | None:
    """Return the last number after the word score, or the one that is the whole reply."""
    reply = reply[-_READ:]
    found = _SCORE.findall(reply)
    if found:
        return float(found[-1])
    alone = _NUMBER.fullmatch(reply.strip().rstrip("."))
    return float(alone.group()) if alone else None


def read_winner(reply: str) -> float | None:
    """Return 1 for the first answer, 0 for the second, 0.5 for a tie; None where none is named."""
    reply = reply[-_READ:]
    found = _WINNER.findall(reply)
    alone = _LETTER.fullmatch(reply)
    word = found[-1] if found else alone.group(1) if alone else None
    return None if word is None else _WON[word.lower()]
