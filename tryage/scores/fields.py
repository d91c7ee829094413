"""The numbers a score table may hold: names in files, ranges, and advice in errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["scores", "losses"]


@dataclass(frozen=True)
class Field:
    """One number per prompt and expert.

    Attributes:
        name: its singular name: the column of CSV and Parquet, the key of `ScoreTable.targets`.
        key: its name on a JSONL line, where it maps experts to numbers.
        low: the least value allowed.
        high: the greatest value allowed (infinity itself is never a value).
        advice: what to do about a value outside.
    """

    name: str
    key: str
    low: float
    high: float
    advice: str

    @property
    def interval(self) -> str:
        """The range as a person reads it."""
        if math.isinf(self.low):
            return "the finite numbers"
        return f"[{self.low:g}, {self.high:g}]" if math.isfinite(self.high) else "0 and above"


SCORE = Field(
    "score", "scores", 0.0, 1.0, "divide by the largest possible score, or give 'losses' instead"
)
LOSS = Field("loss", "losses", 0.0, math.inf, "shift the losses so that a perfect answer has 0")
TARGETS = (
    Field("cost", "costs", 0.0, math.inf, "costs are USD per prompt"),
    Field("response_chars", "response_chars", 0.0, math.inf, "give the number of characters"),
    Field("readability", "readability", -math.inf, math.inf, "give the grade as a number"),
    Field("latency", "latency", 0.0, math.inf, "latencies are seconds per prompt"),
    Field("probability", "probabilities", 0.0, 1.0, "give the probability of being right"),
)
FIELDS: dict[str, Field] = {field.name: field for field in (SCORE, LOSS, *TARGETS)}
TEXT_FIELDS = ("group", "task", "reference")
PROMPT_KEYS = ("prompt", "id", *TEXT_FIELDS)


def measure_of(kind: Kind) -> Field:
    """The field that a table of this kind stores its losses in."""
    return SCORE if kind == "scores" else LOSS
