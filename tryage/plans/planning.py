"""From a prompt's predictions and a check to the plan to follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tryage.checks import ASSUMED_RIGHT, ASSUMED_WRONG, Check
from tryage.errors import CheckError
from tryage.plans.joint import JointSuccess
from tryage.plans.nodes import Reference
from tryage.plans.plan import Expected, Plan, PlannedAttempt, expect
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
    reference_columns = [names.index(name) for name in check.asks if name in names]
    check_price = float(attempt_prices[reference_columns].sum())
    inputs = PlanInputs(
        np.clip(losses[eligible], 0.0, 1.0),
        attempt_prices[eligible] + (check_price if check.asks_again else 0.0),
        totals[eligible] - losses[eligible] - attempt_prices[eligible],
        rates.accepts_right[eligible],
        rates.accepts_wrong[eligible],
        JointSuccess(joint.shared[eligible]),
        _reference(reference_columns, eligible, losses, joint) if check.compares else None,
        0.0 if check.asks_again else check_price,
    )
    places = best_plan(inputs, max_attempts, totals[eligible], tie_rank[eligible])
    columns = eligible[places].tolist()
    expected = expect(places, inputs.losses, inputs.nodes)
    if len(places) == 1:  # a check that changes nothing asks nobody
        reference_columns = []
    attempts = tuple(
        PlannedAttempt(
            names[column],
            reached,
            float(losses[column]),
            _cost(costs, [column, *(reference_columns if number == 0 or check.asks_again else [])]),
        )
        for number, (column, reached) in enumerate(zip(columns, expected.reached, strict=True))
    )
    return Plan(
        attempts,
        expected.loss,
        _expected_cost(attempts),
        expected.accepted,
        float(totals[columns[0]]) if len(places) == 1 else _total(inputs, places, expected),
        check.name,
        float(rates.accepts_right[columns[0]]),
        float(rates.accepts_wrong[columns[0]]),
        rates.assumed,
    )


def _reference(
    columns: list[int], eligible: NDArray[np.intp], losses: Array, joint: JointSuccess
) -> Reference | None:
    """Return the expert that answers are compared with, where the library knows it."""
    if len(columns) != 1 or np.isnan(losses[columns[0]]):
        return None
    (column,) = columns
    places = np.flatnonzero(eligible == column).tolist()
    chance = float(np.clip(1.0 - losses[column], 0.0, 1.0))
    return Reference(chance, float(joint.shared[column]), places[0] if places else None)


def _total(inputs: PlanInputs, places: list[int], expected: Expected) -> float:
    """Return the expected objective of a plan of several attempts."""
    prices = inputs.attempt_prices[places] @ np.array(expected.reached)
    penalties = inputs.penalties[places] @ np.array(expected.goes_out)
    return float(expected.loss + prices + penalties + inputs.check_price)


def _cost(costs: Array | None, columns: list[int]) -> float | None:
    """Return the USD of an attempt and of the experts that the check asks about it."""
    if costs is None or not np.isfinite(costs[columns]).all():
        return None
    return float(costs[columns].sum())


def _expected_cost(attempts: tuple[PlannedAttempt, ...]) -> float | None:
    total = 0.0
    for attempt in attempts:
        if attempt.cost is None:
            return None
        total += attempt.reached * attempt.cost
    return total
