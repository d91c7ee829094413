"""Reads decisions that were logged or written by ``tryage route``: one JSON object a line."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tryage.errors import DecisionError
from tryage.json_lines import JsonLineError, json_lines
from tryage.paths import read_bytes, shown, user_path


@dataclass(frozen=True, slots=True)
class Alternative:
    """One expert in the ranking of a decision.

    Attributes:
        loss: predicted loss, lower is better; None where nothing is measured.
        cost: predicted USD; None where it is not known.
    """

    loss: float | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """What a report takes from the line of a decision.

    Attributes:
        expert: the chosen one.
        answered_by: the one that answered, where the line says it.
        time: when it was made, UTC; None where the line does not say.
        alternatives: experts of the ranking, as far as the line holds it.
        loss: predicted loss of what was chosen, an expert or a plan.
        cost: predicted USD of it.
        out_of_distribution: whether the prompt was unlike the training prompts.
        weights: goal → weight that acted.
        flags: how many directives the prompt had.
        planned: experts of the plan; 0 without one.
        prompt: its text, where the line holds it.
    """

    expert: str
    answered_by: str | None
    time: datetime.datetime | None
    alternatives: Mapping[str, Alternative]
    loss: float | None
    cost: float | None
    out_of_distribution: bool
    weights: Mapping[str, float]
    flags: int
    planned: int
    prompt: str | None = field(repr=False)


def read_decisions(path: str | Path) -> list[DecisionRow]:
    """Read decisions from a file, or from standard input where the path is ``-``.

    Raises:
        DecisionError: there are none, or a line is none.
        OSError: the file cannot be read.
    """
    path = user_path(path)
    source = shown(path)
    try:
        rows = [
            _row(entry, f"{source}, line {number}")
            for number, entry in json_lines(read_bytes(path))
        ]
    except JsonLineError as error:
        raise DecisionError(f"{source}, line {error.number}: {error.problem}") from error
    if not rows:
        raise DecisionError(f"{source}: there are no decisions")
    return rows


def _row(entry: Any, where: str) -> DecisionRow:
    if not isinstance(entry, dict) or not isinstance(entry.get("expert"), str):
        raise DecisionError(
            f"{where}: no decision: expected an object with the key 'expert', such as "
            "Router.with_log and tryage route --output write"
        )
    try:
        alternatives = dict(_alternatives(entry.get("ranking", [])))
        plan = entry.get("plan") or {}
        own = alternatives.get(entry["expert"], Alternative(None, None))
        return DecisionRow(
            expert=entry["expert"],
            answered_by=_text(entry.get("answered_by")),
            time=_time(entry.get("time")),
            alternatives=alternatives,
            loss=_number(plan["loss"]) if plan else own.loss,
            cost=_number(plan["cost"]) if plan else own.cost,
            out_of_distribution=entry.get("out_of_distribution") is True,
            weights={str(name): float(w) for name, w in entry.get("weights", {}).items()},
            flags=len(entry.get("flags", ())),
            planned=len(plan["attempts"]) if plan else 0,
            prompt=_text(entry.get("prompt")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DecisionError(f"{where}: {type(error).__name__}: {error}") from error


def _alternatives(ranking: Any) -> Iterator[tuple[str, Alternative]]:
    for ranked in ranking:
        if ranked.get("eligible", True):
            cost = ranked.get("values", {}).get("cost")
            yield str(ranked["expert"]), Alternative(_number(ranked.get("loss")), _number(cost))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _time(value: Any) -> datetime.datetime | None:
    """Return a time in UTC; one without a zone counts as UTC.

    Raises:
        ValueError: it is no time in ISO 8601.
    """
    if value is None:
        return None
    time = datetime.datetime.fromisoformat(value)
    return time.replace(tzinfo=time.tzinfo or datetime.UTC).astimezone(datetime.UTC)
