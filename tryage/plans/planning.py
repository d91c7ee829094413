"""From a prompt's predictions and a check to the plan to follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tryage.checks import ASSUMED_RIGHT, ASSUMED_WRONG, Check
from tryage.errors import CheckError
from tryage.plans.joint import JointSuccess
from tryage.plans.plan import Plan, PlannedAttempt, expect
from tryage.plans.search import PlanInputs, best_plan

Array = NDArray[np.float64]
Rates = Mapping[str, tuple[float, float]]
"""Expert → measured (accepts_right, accepts_wrong); the key "" holds the pooled rates."""

MAX_ATTEMPTS = 3
"""Experts in a plan at most, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often a check is right, for every expert.

    Attributes:
        accepts_right: (m,) chance that it accepts a right answer.
        accepts_wrong: (m,) chance that it accepts a wrong one.
        assumed: whether the rates are neither stated nor measured.
    """

    accepts_right: Array
    accepts_wrong: Array
    assumed: bool = field(default=False)


def reliability(check: Check, names: tuple[str, ...], measured: Rates | None) -> Reliability:
    """Return a check's rates: those it states, else those measured, else the assumed ones."""
    pooled = (measured or {}).get("", (ASSUMED_RIGHT, ASSUMED_WRONG))
    rows = np.array([(measured or {}).get(name, pooled) for name in names], dtype=np.float64)
    right, wrong = rows[:, 0], rows[:, 1]
    if check.accepts_right is not None:
        right = np.full(len(names), float(check.accepts_right))
    if check.accepts_wrong is not None:
        wrong = np.full(len(names), float(check.accepts_wrong))
    is_stated = check.accepts_right is not None and check.accepts_wrong is not None
    return Reliability(right, wrong, assumed=not is_stated and measured is None)


def make_plan(
    check: Check,
    rates: Reliability,
    *,
    names: tuple[str, ...],
    losses: Array,
    totals: Array,
    attempt_prices: Array,
    costs: Array | None,
    tie_rank: NDArray[np.int64],
    joint: JointSuccess,
    max_attempts: int,
) -> Plan:
    """Return the plan with the least expected objective among the eligible experts.

    Args:
        check: accepts or rejects answers.
        rates: its reliability.
        names: of m experts.
        losses: (m,) predicted losses in [0, 1]; NaN for experts of another task.
        totals: (m,) loss plus weighted goals, inf where not eligible.
        attempt_prices: (m,) part of the totals that adds up over attempts.
        costs: (m,) USD of one attempt, or None.
        tie_rank: (m,) place by price, then name.
        joint: how the m experts fail together.
        max_attempts: experts in a plan at most.

    Raises:
        CheckError: losses are not in [0, 1], or max_attempts is below 1.
    """
    if max_attempts < 1:
        raise CheckError(f"max_attempts is {max_attempts}; a plan has one attempt at least")
    eligible = np.flatnonzero(np.isfinite(totals))
    chances = np.clip(losses[eligible], 0.0, 1.0)
    # Experts that the check asks are paid for at every attempt.
    asked = [names.index(name) for name in check.asks if name in names]
    extra = float(attempt_prices[asked].sum()) if asked else 0.0
    prices = attempt_prices[eligible] + extra
    inputs = PlanInputs(
        chances,
        prices,
        totals[eligible] - losses[eligible] - attempt_prices[eligible],
        rates.accepts_right[eligible],
        rates.accepts_wrong[eligible],
        JointSuccess(joint.shared[eligible]),
    )
    order = np.argsort(tie_rank[eligible], kind="stable")
    places = best_plan(inputs, max_attempts, totals[eligible], order)
    columns = eligible[places].tolist()
    expected = expect(places, chances, inputs.accepts_right, inputs.accepts_wrong, inputs.joint)
    if len(places) == 1:  # a check that changes nothing asks nobody
        asked, extra = [], 0.0
        prices = attempt_prices[eligible]
    total = expected.loss + sum(
        reached * float(prices[place])
        for reached, place in zip(expected.reached, places, strict=True)
    )
    total += sum(
        chance * float(inputs.penalties[place])
        for chance, place in zip(expected.goes_out, places, strict=True)
    )
    asked_cost = None if costs is None else float(costs[asked].sum()) if asked else 0.0
    attempts = tuple(
        PlannedAttempt(
            names[column],
            reached,
            float(losses[column]),
            _cost(costs, column, asked_cost),
        )
        for column, reached in zip(columns, expected.reached, strict=True)
    )
    known = [attempt.cost for attempt in attempts]
    cost = None if None in known else float(sum(a.reached * (a.cost or 0.0) for a in attempts))
    return Plan(
        attempts,
        expected.loss,
        cost,
        expected.accepted,
        total,
        check.name,
        float(rates.accepts_right[columns[0]]),
        float(rates.accepts_wrong[columns[0]]),
        rates.assumed,
    )


def _cost(costs: Array | None, column: int, asked: float | None) -> float | None:
    if costs is None or asked is None or not np.isfinite(costs[column] + asked):
        return None
    return float(costs[column]) + asked
