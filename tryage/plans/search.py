"""The plan with the least expected objective: which experts to try, in which order.

A plan is tried until a check accepts an answer. If none is accepted, the answer of the expert with
the least predicted loss goes out. With everything expected over what is right, what the check says
and which attempts are reached,

    objective = loss of the answer that goes out
              + sum over attempts of (chance of being reached) x (price of the attempt)
              + penalty of the expert whose answer goes out.

The search is exact. It extends prefixes of plans and drops one where even a continuation that
picked the best expert on every level of difficulty anew could not beat the best plan so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tryage.plans.joint import LEVELS, JointSuccess

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

TIE = 1e-9
"""A longer plan must be better than a shorter one by more than this."""

_WEIGHT = 1.0 / LEVELS
_CHUNK = 2_000
"""Prefixes that are extended at once."""


@dataclass(frozen=True, slots=True, eq=False)
class PlanInputs:
    """What the search knows of m eligible experts on one prompt.

    Attributes:
        losses: (m,) predicted losses in [0, 1]; 1 - loss is the chance of being right.
        attempt_prices: (m,) what an attempt adds to the objective, in units of loss, 0 or more.
        penalties: (m,) what an expert's answer adds to the objective when it goes out.
        accepts_right: (m,) chance that the check accepts a right answer of each expert.
        accepts_wrong: (m,) chance that it accepts a wrong one.
        joint: how experts fail together.
    """

    losses: Array
    attempt_prices: Array
    penalties: Array
    accepts_right: Array
    accepts_wrong: Array
    joint: JointSuccess


class _Terms:
    """The inputs on every level of difficulty, (m, LEVELS) each."""

    def __init__(self, inputs: PlanInputs) -> None:
        right = inputs.joint.by_level(1.0 - inputs.losses)
        wrong = 1.0 - right
        yes, no = inputs.accepts_right[:, None], inputs.accepts_wrong[:, None]
        # The penalties' lowest value is paid by whichever answer goes out, so it comes last.
        self.offset = float(inputs.penalties.min())
        penalties = (inputs.penalties - self.offset)[:, None]
        accepted = yes * right + no * wrong
        self.rejected = 1.0 - accepted
        self.prices = inputs.attempt_prices
        self.losses = inputs.losses
        self.accepted_cost = no * wrong + penalties * accepted
        self.rejected_cost = (1.0 - no) * wrong + penalties * self.rejected
        self.attempt = self.prices[:, None] + self.accepted_cost
        self.cheapest = self.attempt.min(axis=0)  # (LEVELS,), of any expert


@dataclass(slots=True)
class _Prefixes:
    """Plans that are not ended yet.

    Attributes:
        experts: (k, depth) columns.
        cost: (k,) expected cost so far: attempts, and answers that were accepted.
        reached: (k, LEVELS) chance that all were rejected.
        fallback: (k, LEVELS) cost of the fallback's answer together with that.
        least: (k,) predicted loss of the fallback.
    """

    experts: Indices
    cost: Array
    reached: Array
    fallback: Array
    least: Array

    def part(self, rows: Indices | slice) -> _Prefixes:
        return _Prefixes(
            self.experts[rows],
            self.cost[rows],
            self.reached[rows],
            self.fallback[rows],
            self.least[rows],
        )


def best_plan(inputs: PlanInputs, max_attempts: int, singles: Array, order: Indices) -> list[int]:
    """Return the columns of the best plan's experts, in the order in which they are tried.

    Args:
        inputs: of the eligible experts.
        max_attempts: experts in a plan at most.
        singles: (m,) objective of every expert alone, as the router computes it.
        order: (m,) columns from first to last where totals tie.

    Returns:
        One column where no longer plan has a lower objective.
    """
    m = len(inputs.losses)
    rank = np.empty(m, dtype=np.intp)
    rank[order] = np.arange(m)
    best = int(min(np.flatnonzero(singles <= singles.min() + TIE), key=rank.__getitem__))
    plan, value = [best], float(singles[best])
    if max_attempts == 1 or m == 1:
        return plan
    terms = _Terms(inputs)
    prefixes = _first(terms)
    for depth in range(2, min(max_attempts, m) + 1):
        is_last = depth == min(max_attempts, m)
        plan, value, prefixes = _extend(terms, prefixes, plan, value, rank, is_last=is_last)
        if not len(prefixes.cost):
            break
    return plan


def _first(terms: _Terms) -> _Prefixes:
    m = len(terms.losses)
    return _Prefixes(
        np.arange(m)[:, None],
        terms.attempt.sum(axis=1) * _WEIGHT,
        terms.rejected,
        terms.rejected_cost,
        terms.losses,
    )


def _bounds(terms: _Terms, prefixes: _Prefixes) -> Array:
    """Return what no continuation of a prefix can go below, (k,)."""
    bounds: Array = prefixes.cost + prefixes.reached @ terms.cheapest * _WEIGHT + terms.offset
    return bounds


def _extend(
    terms: _Terms,
    prefixes: _Prefixes,
    plan: list[int],
    value: float,
    rank: Indices,
    *,
    is_last: bool,
) -> tuple[list[int], float, _Prefixes]:
    """Try every expert after every prefix; return the best plan, and the longer prefixes."""
    bounds = _bounds(terms, prefixes)
    by_bound = np.argsort(bounds, kind="stable")
    longer = []
    for start in range(0, len(by_bound), _CHUNK):
        rows = by_bound[start : start + _CHUNK]
        rows = rows[bounds[rows] < value - TIE]
        if not len(rows):
            break
        part = prefixes.part(rows)
        totals = _totals(terms, part)
        low = totals.min()
        if low < value - TIE:
            ties = np.argwhere(totals <= low + TIE)
            plans = [[*part.experts[row].tolist(), int(column)] for row, column in ties]
            plan = min(plans, key=lambda experts: [int(rank[e]) for e in experts])
            value = float(low)
        if not is_last:
            longer.append(_children(terms, part, value))
    return plan, value, _joined(longer, prefixes)


def _totals(terms: _Terms, part: _Prefixes) -> Array:
    """Return the objective of every prefix with one more expert, (k, m); inf where it repeats."""
    attempts = part.reached @ terms.attempt.T
    becomes = part.reached @ terms.rejected_cost.T
    stays = part.fallback @ terms.rejected.T
    is_new = terms.losses[None, :] < part.least[:, None]
    totals: Array = part.cost[:, None] + _WEIGHT * (attempts + np.where(is_new, becomes, stays))
    totals += terms.offset
    np.put_along_axis(totals, part.experts, np.inf, axis=1)
    return totals


def _children(terms: _Terms, part: _Prefixes, value: float) -> _Prefixes:
    """Return the longer prefixes that may still lead to a better plan."""
    cost = part.cost[:, None] + _WEIGHT * (part.reached @ terms.attempt.T)
    left = (part.reached * terms.cheapest) @ terms.rejected.T * _WEIGHT
    hopeful = cost + left + terms.offset < value - TIE
    np.put_along_axis(hopeful, part.experts, False, axis=1)
    rows, columns = np.nonzero(hopeful)
    is_new = (terms.losses[columns] < part.least[rows])[:, None]
    return _Prefixes(
        np.column_stack([part.experts[rows], columns]),
        cost[rows, columns],
        part.reached[rows] * terms.rejected[columns],
        np.where(
            is_new,
            part.reached[rows] * terms.rejected_cost[columns],
            part.fallback[rows] * terms.rejected[columns],
        ),
        np.minimum(part.least[rows], terms.losses[columns]),
    )


def _joined(parts: list[_Prefixes], empty: _Prefixes) -> _Prefixes:
    if not parts:
        return empty.part(slice(0, 0))
    return _Prefixes(
        np.concatenate([part.experts for part in parts]),
        np.concatenate([part.cost for part in parts]),
        np.concatenate([part.reached for part in parts]),
        np.concatenate([part.fallback for part in parts]),
        np.concatenate([part.least for part in parts]),
    )
