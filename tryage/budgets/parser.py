"""Parses budgets from text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tryage.errors import GoalError, did_you_mean
from tryage.goals import GOALS, Goal
from tryage.limits import ON_GOALS, parse_limit
from tryage.prompts import short
from tryage.units import parse_days, without_unit

_SIGN = re.compile("<=|>=|≤|≥")
_SHARE = re.compile(r"share\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
_MEAN = re.compile(r"mean\s", re.IGNORECASE)
_OF_BEST = re.compile(r"([0-9.]+)\s*%\s*of\s*(?:the\s+)?best", re.IGNORECASE)

_WORDS = re.compile(r"[\w.|/:-]+")

_OTHER_NAMES = {
    "parameters": "size",
    "price": "cost",
    "costs": "cost",
    "response_chars": "verbosity",
    "losses": "loss",
    "scores": "score",
}
"""What goals are called in limits, tables and libraries."""

_QUALITIES = ("accuracy", "contains", "exact", "f1", "number", "quality", "probability")
"""What people call a score."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget.

    Attributes:
        text: as it was written.
        measure: ``"loss"``, or the name of a goal, ``share(EXPERT)`` included.
        bound: greatest mean, in the unit of the measure; of a score budget, 1 minus the score.
        of_best: for losses and scores, the bound as a share of the best single expert's.
        scored: whether it was stated in scores.
    """

    text: str
    measure: str
    bound: float
    of_best: bool = False
    scored: bool = False


def parse_budget(text: str, own: Mapping[str, Goal] | None = None) -> Budget:
    """Read a budget.

    Args:
        text: ``"mean cost <= 0.40 USD per 1000 prompts"``, ``"score >= 95% of best"``,
            ``"loss <= 110% of best"``, ``"share(gpt-4) <= 20%"``, or the mean of another goal, in
            the units that decisions are explained in.
        own: goals by name besides the built-in ones.

    Raises:
        GoalError: it is no budget; the message says how to write one.
    """
    if not isinstance(text, str):
        raise GoalError(f"{short(text)} is not a budget; write one as text")
    # The last sign: the name of an expert may hold one.
    signs = list(_SIGN.finditer(text))
    left, amount = (text[: signs[-1].start()], text[signs[-1].end() :]) if signs else ("", "")
    left, amount = left.strip(), " ".join(amount.split())
    if not left or not amount:
        raise GoalError(
            f"{short(text)} is not a budget; write one such as 'mean cost <= 0.40 USD per 1000 "
            "prompts', 'score >= 95% of best' or 'share(NAME) <= 20%'"
        )
    at_least = signs[-1][0] in (">=", "≥")
    share = _SHARE.fullmatch(left)
    measure = f"share({share[1].strip()})" if share else _measure(text, left, own or {})
    if at_least != (measure == "score"):
        raise GoalError(
            f"the budget {short(text)}: {measure} is held {'<=' if at_least else '>='} only"
        )
    if measure in ("score", "loss"):
        return _quality(text, measure, amount)
    if share:
        return Budget(text, measure, _share(text, amount))
    return Budget(text, measure, _amount(text, measure, amount, own or {}))


def _measure(text: str, name: str, own: Mapping[str, Goal]) -> str:
    """Return the goal, ``"score"`` or ``"loss"`` that a budget names."""
    name = name[4:].strip() if _MEAN.match(name) else name
    names = {*GOALS, *own, "score", "loss"}
    for word in (name, name.lower(), _OTHER_NAMES.get(name.lower(), "")):
        if word in names:
            return word
    if name.lower() in _QUALITIES:
        raise GoalError(
            f"the budget {short(text)} is on {name!r}; what answers scored by any metric is named "
            "score here, and a measured loss is named loss"
        )
    if _WORDS.fullmatch(name) is None:
        raise GoalError(
            f"{short(text)} is not a budget; write one such as 'mean cost <= 0.40 USD per 1000 "
            "prompts', 'score >= 95% of best' or 'share(NAME) <= 20%'"
        )
    hint = did_you_mean(name, names) or f" Known: {', '.join(sorted(names))}."
    raise GoalError(f"the budget {short(text)} is on {name!r}, which is not a goal.{hint}")


def _quality(text: str, measure: str, amount: str) -> Budget:
    scored = measure == "score"
    match = _OF_BEST.fullmatch(amount)
    if match is not None:
        return Budget(text, "loss", _number(text, match[1]) / 100.0, of_best=True, scored=scored)
    value = _share(text, amount) if scored else _number(text, amount)
    return Budget(text, "loss", 1.0 - value if scored else value, scored=scored)


def _share(text: str, amount: str) -> float:
    amount = amount.strip()
    value = _number(text, amount.rstrip("% ")) / (100.0 if amount.endswith("%") else 1.0)
    if not 0.0 <= value <= 1.0:
        raise GoalError(
            f"the budget {short(text)}: {short(amount)} is not between 0 and 1, or 0% and 100%"
        )
    return value


def _number(text: str, amount: str) -> float:
    try:
        value = float(amount)
    except ValueError:
        raise GoalError(f"the budget {short(text)}: {short(amount)} is not a number") from None
    if not math.isfinite(value) or value < 0:
        raise GoalError(f"the budget {short(text)}: {short(amount)} is not a number >= 0")
    return value


def _amount(text: str, goal: str, amount: str, own: Mapping[str, Goal]) -> float:
    """Read an amount in the unit of a goal, as limits do where there is such a limit."""
    attribute = {"size": "parameters"}.get(goal, goal)
    if goal in own:
        return _number(text, without_unit(amount, own[goal].unit))
    if attribute in ON_GOALS or attribute == "parameters":
        return float(parse_limit(f"{attribute} <= {amount}").value)
    try:
        return parse_days(amount)
    except ValueError as error:
        raise GoalError(
            f"the budget {short(text)}: {short(amount)} is not a number of days, such as 60 d"
        ) from error
