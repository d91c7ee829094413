"""Measures how reliable a check is, on scored answers."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tryage.checks import Check, CheckedAnswer
from tryage.errors import CheckError
from tryage.parquet_files import ParquetError, ParquetRows
from tryage.paths import user_path

RIGHT = 0.5
"""A score from this on counts as right."""

FEWEST = 30
"""An expert with fewer right or wrong answers than this gets the pooled rates."""

_Z = 1.959964  # 97.5th percentile of the normal distribution

_ANSWER_COLUMNS = ("prompt", "expert", "answer", "score")


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One answer and its score."""

    prompt: str = field(repr=False)
    expert: str
    answer: str = field(repr=False)
    score: float


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a check accepts answers of one kind.

    Attributes:
        value: share that is accepted; None without an answer.
        ci95: Wilson score interval (Wilson, 1927).
        count: answers.
    """

    value: float | None
    ci95: tuple[float, float] | None
    count: int

    @classmethod
    def of(cls, accepted: int, count: int) -> Rate:
        """Return the rate of `accepted` among `count` answers."""
        if not count:
            return cls(None, None, 0)
        share, z2 = accepted / count, _Z**2 / count
        centre = (share + z2 / 2) / (1 + z2)
        half = _Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count)) / (1 + z2)
        return cls(share, (max(0.0, centre - half), min(1.0, centre + half)), count)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "value": self.value,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "count": self.count,
        }


@dataclass(frozen=True)
class CheckReport:
    """How reliable a check is.

    Attributes:
        check: its name.
        pooled: (accepts_right, accepts_wrong) over all answers.
        experts: the same for each expert with enough answers.
        failed: answers on which the check raised or took too long; its `on_error` decides them.
    """

    check: str
    pooled: tuple[Rate, Rate]
    experts: Mapping[str, tuple[Rate, Rate]]
    failed: int

    @property
    def rates(self) -> dict[str, tuple[float, float]]:
        """The rates that a router stores: expert → rates, and "" → the pooled ones."""
        rates = {name: _values(pair) for name, pair in self.experts.items()}
        return {"": _values(self.pooled), **rates}

    def to_dict(self) -> dict[str, Any]:
        """Return what ``tryage check --json`` prints."""

        def row(pair: tuple[Rate, Rate]) -> dict[str, Any]:
            return {"accepts_right": pair[0].to_dict(), "accepts_wrong": pair[1].to_dict()}

        return {
            "check": self.check,
            **row(self.pooled),
            "experts": {name: row(pair) for name, pair in self.experts.items()},
            "failed": self.failed,
        }


def _values(pair: tuple[Rate, Rate]) -> tuple[float, float]:
    right, wrong = pair
    return float(right.value or 0.0), float(wrong.value or 0.0)


def measure(check: Check, answers: Iterable[ScoredAnswer]) -> CheckReport:
    """Run a check on scored answers.

    Args:
        check: accepts or rejects.
        answers: of one expert or several.

    Raises:
        CheckError: there is no right or no wrong answer, so a rate cannot be measured.
    """
    if check.asks:
        raise CheckError(
            f"check {check.name!r} asks {', '.join(check.asks)}, which only a dispatch can call; "
            "state its rates, or measure a function that asks them itself"
        )
    counts: defaultdict[tuple[str, bool], list[int]] = defaultdict(lambda: [0, 0])
    failed = 0
    for answer in answers:
        accepted, has_failed = _accepts(check, answer)
        failed += has_failed
        count = counts[answer.expert, answer.score >= RIGHT]
        count[0] += accepted
        count[1] += 1
    names = sorted({expert for expert, _ in counts})
    pairs = {n: (Rate.of(*counts[n, True]), Rate.of(*counts[n, False])) for n in names}
    totals = [[sum(counts[n, right][k] for n in names) for k in (0, 1)] for right in (True, False)]
    pooled = (Rate.of(*totals[0]), Rate.of(*totals[1]))
    for kind, rate in zip(("right", "wrong"), pooled, strict=True):
        if rate.value is None:
            raise CheckError(
                f"none of the answers is {kind}, so how many of those {check.name!r} accepts "
                "is unknown; measure it on answers of both kinds"
            )
    enough = {n: p for n, p in pairs.items() if min(p[0].count, p[1].count) >= FEWEST}
    return CheckReport(check.name, pooled, enough, failed)


def _accepts(check: Check, answer: ScoredAnswer) -> tuple[bool, bool]:
    try:
        finding = check.find(CheckedAnswer(answer.prompt, answer.answer, answer.expert))
        if isinstance(finding, Awaitable):
            finding = asyncio.run(_awaited(finding))
        return check.verdict(finding).accepted, False
    except Exception as error:  # noqa: BLE001 - a check is the user's own and may raise anything
        return check.failed(str(error)).accepted, True


async def _awaited(finding: Awaitable[Any]) -> Any:
    return await finding


def read_answers(folder: str | Path) -> Iterator[ScoredAnswer]:
    """Yield the scored answers that ``tryage label --keep-answers`` wrote.

    Raises:
        CheckError: there is none, or a file is damaged or says that it holds far more than its
            size allows.
        MissingExtraError: without pyarrow.
    """
    count = 0
    for file in sorted(user_path(folder).glob("*.parquet")):
        try:
            rows = ParquetRows(file, _ANSWER_COLUMNS, "reading kept answers")
            if not set(_ANSWER_COLUMNS) <= set(rows.columns):
                continue
            for row in rows:
                if row["answer"] is not None and row["score"] is not None:
                    count += 1
                    yield ScoredAnswer(**row)
        except ParquetError as error:
            raise CheckError(f"{file}: not a whole Parquet file: {error}") from error
    if not count:
        raise CheckError(
            f"{str(folder)!r} holds no scored answers; label with a metric and keep the answers: "
            "tryage label --metric METRIC --keep-answers"
        )
