"""The plan with the least expected objective: which experts to try, in which order.

A plan is tried until a check accepts an answer. If none is accepted, the answer of the expert with
the least predicted loss goes out. With everything expected over what is right, what the check says
and which attempts are reached,

    objective = loss of the answer that goes out
              + sum over attempts of (chance of being reached) x (price of the attempt)
              + penalty of the expert whose answer goes out.

The search is exact. It extends prefixes of plans and drops one where even a continuation that
picked the best expert in every case anew could not beat the best plan so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tryage.plans.joint import JointSuccess
from tryage.plans.nodes import Nodes, Reference
from tryage.ties import TIE, lowest

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_CHUNK = 2_000
"""Prefixes that are extended at once."""


@dataclass(frozen=True, slots=True, eq=False)
class PlanInputs:
    """The inputs of the search: m eligible experts on one prompt.

    Attributes:
        losses: (m,) predicted losses in [0, 1]; 1 - loss is the chance of being right.
        attempt_prices: (m,) what an attempt adds to the objective, in units of loss, 0 or more.
        penalties: (m,) what an expert's answer adds to the objective when it goes out.
        accepts_right: (m,) chance that the check accepts a right answer of each expert.
        accepts_wrong: (m,) chance that it accepts a wrong one.
        joint: how experts fail together.
        reference: the expert that the check compares answers with; None for other checks.
        check_price: what the check itself adds, once, to a plan of several attempts, such as the
            price of the expert that it asks.
    """

    losses: Array
    attempt_prices: Array
    penalties: Array
    accepts_right: Array
    accepts_wrong: Array
    joint: JointSuccess
    reference: Reference | None = None
    check_price: float = 0.0

    @property
    def nodes(self) -> Nodes:
        """The cases in which experts are independent."""
        return Nodes.of(
            self.losses, self.accepts_right, self.accepts_wrong, self.joint, self.reference
        )


class _Terms:
    """The inputs in every case, (m, cases) each."""

    def __init__(self, inputs: PlanInputs) -> None:
        nodes = inputs.nodes
        wrong = 1.0 - nodes.right
        # The penalties' lowest value is paid by whichever answer goes out, so it comes last.
        self.offset = float(inputs.penalties.min())
        penalties = (inputs.penalties - self.offset)[:, None]
        accepted = nodes.accepted
        self.weights = nodes.weights
        self.rejected = 1.0 - accepted
        self.losses = inputs.losses
        self.check_price = inputs.check_price
        self.rejected_cost = (1.0 - nodes.accepts_wrong) * wrong + penalties * self.rejected
        accepted_cost = nodes.accepts_wrong * wrong + penalties * accepted
        self.attempt = inputs.attempt_prices[:, None] + accepted_cost
        self.cheapest = self.attempt.min(axis=0)  # (cases,), of any expert


@dataclass(slots=True)
class _Prefixes:
    """Prefixes of plans.

    Attributes:
        experts: (k, depth) columns.
        cost: (k,) expected cost so far: attempts, and answers that were accepted.
        reached: (k, cases) chance of the case and that all were rejected.
        fallback: (k, cases) cost of the fallback's answer together with that.
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


def best_plan(
    inputs: PlanInputs, max_attempts: int, singles: Array, ranks: NDArray[np.integer]
) -> list[int]:
    """Return the columns of the best plan's experts, in the order in which they are tried.

    Args:
        inputs: of the eligible experts.
        max_attempts: experts in a plan at most.
        singles: (m,) objective of every expert alone, as the router computes it.
        ranks: (m,) place of every expert where totals tie, see `tryage.ties`.

    Returns:
        One column where no longer plan is better by more than `TIE`.
    """
    m = len(inputs.losses)
    best = int(lowest(singles[None, :], ranks)[0])
    plan, value = [best], float(singles[best])
    if max_attempts == 1 or m == 1:
        return plan
    terms = _Terms(inputs)
    prefixes = _first(terms)
    for depth in range(2, min(max_attempts, m) + 1):
        is_last = depth == min(max_attempts, m)
        plan, value, prefixes = _extend(terms, prefixes, plan, value, ranks, is_last=is_last)
        if not len(prefixes.cost):
            break
    return plan


def _first(terms: _Terms) -> _Prefixes:
    return _Prefixes(
        np.arange(len(terms.losses))[:, None],
        terms.attempt @ terms.weights + terms.check_price,
        terms.rejected * terms.weights,
        terms.rejected_cost * terms.weights,
        terms.losses,
    )


def _bounds(terms: _Terms, prefixes: _Prefixes) -> Array:
    """Return lower bounds of the objective of all continuations of each prefix, (k,)."""
    bounds: Array = prefixes.cost + prefixes.reached @ terms.cheapest + terms.offset
    return bounds


def _extend(
    terms: _Terms,
    prefixes: _Prefixes,
    plan: list[int],
    value: float,
    ranks: NDArray[np.integer],
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
            plan = min(plans, key=lambda experts: [int(ranks[e]) for e in experts])
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
    totals: Array = part.cost[:, None] + attempts + np.where(is_new, becomes, stays)
    totals += terms.offset
    np.put_along_axis(totals, part.experts, np.inf, axis=1)
    return totals


def _children(terms: _Terms, part: _Prefixes, value: float) -> _Prefixes:
    """Return the prefixes one longer that may still lead to a better plan."""
    cost = part.cost[:, None] + part.reached @ terms.attempt.T
    least_future_cost = (part.reached * terms.cheapest) @ terms.rejected.T
    hopeful = cost + least_future_cost + terms.offset < value - TIE
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
