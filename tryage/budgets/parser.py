"""Parses budgets from text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tryage.errors import GoalError, did_you_mean
from tryage.goals import GOALS
from tryage.limits import ON_GOALS, parse_limit
from tryage.prompts import short

_BUDGET = re.compile(
    r"(?:(?P<share>share) ?\((?P<expert>[^()]+)\)|(?:mean )?(?P<goal>[a-z]+))"
    r" ?(?P<sign><=|>=|≤|≥) ?(?P<amount>.+)",
    re.IGNORECASE,
)
_OF_BEST = re.compile(r"([0-9.]+)\s*%\s*of\s*(?:the\s+)?best", re.IGNORECASE)


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


def parse_budget(text: str) -> Budget:
    """Read a budget.

    Args:
        text: ``"mean cost <= 0.40 USD per 1000 prompts"``, ``"score >= 95% of best"``,
            ``"loss <= 110% of best"``, ``"share(gpt-4) <= 20%"``, or the mean of another goal.

    Raises:
        GoalError: it is no budget; the message says how to write one.
    """
    # Runs of blanks between optional parts would be tried in every way.
    match = _BUDGET.fullmatch(" ".join(text.split()))
    if match is None:
        raise GoalError(
            f"{short(text)} is not a budget; write one such as 'mean cost <= 0.40 USD per 1000 "
            "prompts', 'score >= 95% of best' or 'share(NAME) <= 20%'"
        )
    at_least = match["sign"] in (">=", "≥")
    measure, amount = (match["goal"] or "").lower(), match["amount"]
    if match["share"]:
        measure = f"share({match['expert'].strip()})"
    if at_least != (measure == "score"):
        raise GoalError(
            f"the budget {short(text)}: {measure} is held {'<=' if at_least else '>='} only"
        )
    if measure in ("score", "loss"):
        return _quality(text, measure, amount)
    if match["share"]:
        return Budget(text, measure, _share(text, amount))
    if measure not in GOALS:
        hint = did_you_mean(measure, [*GOALS, "score", "loss"])
        raise GoalError(f"the budget {short(text)} is on {measure!r}, which is not a goal.{hint}")
    return Budget(text, measure, _amount(text, measure, amount))


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


def _amount(text: str, goal: str, amount: str) -> float:
    """Read an amount in the unit of a goal, as limits do where there is such a limit."""
    attribute = {"size": "parameters"}.get(goal, goal)
    if attribute in ON_GOALS or attribute == "parameters":
        return float(parse_limit(f"{attribute} <= {amount}").value)
    return _number(text, amount)
