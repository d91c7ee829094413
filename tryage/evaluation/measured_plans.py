"""Plans with a check on measured results: what each attains, and the best that never change.

All figures are exact expectations over what the check says (`tryage.plans.realised`). Where an
expert of a prompt's plan was not measured, what the plan attains is estimated as a missing cell is
(`tryage.evaluation.measured`): by a model of all experts' results, corrected on the prompts of the
group on which the whole plan was measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tryage.evaluation.doubts import FEWEST_CELLS
from tryage.evaluation.fronts import Points, non_dominated
from tryage.evaluation.measured import (
    Array,
    Indices,
    Mask,
    estimated,
    group_sums,
    is_measured,
    measured_weights,
    modelled,
)
from tryage.plans import realised

MOST_EXPERTS = 60
"""Experts of a library up to which fixed plans of three attempts are enumerated."""


@dataclass(frozen=True, eq=False)
class MeasuredPlans:
    """Results on which plans are judged.

    Attributes:
        scores: (n, m) measured scores in [0, 1], NaN where not measured.
        values: (n, m) measured values of the goal, such as USD, NaN where not measured.
        shares: (n,) what each prompt counts in a macro average, sum 1.
        accepts_right: (m,) chance that the check accepts a right answer.
        accepts_wrong: (m,) chance that it accepts a wrong one.
        groups: (n,) group of each prompt, from 0; None where all are of one.
    """

    scores: Array
    values: Array
    shares: Array
    accepts_right: Array
    accepts_wrong: Array
    groups: Indices | None = None

    @cached_property
    def measured(self) -> Mask:
        """(n, m) whether both score and value of a cell were measured."""
        return is_measured(self.scores, self.values)

    @cached_property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return bool(self.measured.all())

    @cached_property
    def estimates(self) -> tuple[Array, Array]:
        """(n, m) estimates of all scores and values."""
        return estimated(self.scores, *self._groups), estimated(self.values, *self._groups)

    @cached_property
    def model(self) -> tuple[Array, Array]:
        """(n, m) what other cells say of the score and the value of each."""
        return modelled(self.scores, *self._groups), modelled(self.values, *self._groups)

    @cached_property
    def among_measured(self) -> tuple[Array, Array]:
        """(n, m) scores and values, each missing one a copy of a measured one of its prompt."""
        columns = np.arange(self.scores.shape[1])
        place = np.where(self.measured, columns, self.measured.argmax(axis=1)[:, None])
        rows = np.arange(len(place))[:, None]
        return self.scores[rows, place], self.values[rows, place]

    def of(self, plans: Sequence[Sequence[int]], losses: Array) -> tuple[Array, Array]:
        """Return the expected score and value of one plan a prompt, (n,) each."""
        rates = (losses, self.accepts_right, self.accepts_wrong)
        if self.complete:
            return realised(plans, self.scores, self.values, *rates)
        weights = self._weights(plans)
        scores, values = realised(plans, *self.model, *rates)
        own_scores, own_values = realised(plans, *self._filled, *rates)
        return scores + weights * (own_scores - scores), values + weights * (own_values - values)

    def count(self, plans: Sequence[Sequence[int]]) -> int:
        """Return on how many prompts every expert of the plan was measured."""
        rows = zip(self.measured, plans, strict=True)
        return sum(bool(row[list(plan)].all()) for row, plan in rows)

    def mean(self, figures: Array) -> float:
        """Return a macro average."""
        return float(self.shares @ figures)

    @cached_property
    def singles(self) -> Points:
        """What single experts attain."""
        scores, values = self.estimates
        losses, means = self.shares @ (1.0 - scores), self.shares @ values
        return Points(np.zeros((len(losses), 1)), losses, means[:, None], self.measured.sum(axis=0))

    @property
    def _groups(self) -> tuple[Indices, int]:
        groups = np.zeros(len(self.scores), dtype=np.intp) if self.groups is None else self.groups
        return groups, int(groups.max(initial=0)) + 1

    @cached_property
    def _filled(self) -> tuple[Array, Array]:
        """(n, m) the measured scores and values, those of the model where one is missing."""
        scores, values = self.model
        return (
            np.where(self.measured, self.scores, scores),
            np.where(self.measured, self.values, values),
        )

    def _weights(self, plans: Sequence[Sequence[int]]) -> Array:
        """Return 1 / share of the group on which the plan's experts were measured, else 0, (n,)."""
        weights = np.zeros(len(plans))
        rows_of: dict[frozenset[int], list[int]] = {}
        for row, plan in enumerate(plans):
            rows_of.setdefault(frozenset(plan), []).append(row)
        for experts, rows in rows_of.items():
            whole: Mask = np.all(self.measured[:, sorted(experts)], axis=1, keepdims=True)
            weights[rows] = measured_weights(whole, *self._groups)[rows, 0]
        return weights


@dataclass(frozen=True)
class FixedPlan:
    """A plan that is the same for every prompt.

    Attributes:
        columns: of its experts.
        loss: mean expected loss on the prompts it was chosen on.
        value: mean expected value there.
    """

    columns: tuple[int, ...]
    loss: float
    value: float


def best_fixed_plans(train: MeasuredPlans, max_attempts: int) -> list[FixedPlan]:
    """Return the non-dominated fixed plans, by their value.

    Args:
        train: results to choose on.
        max_attempts: experts in a plan at most; two where the library has more than
            `MOST_EXPERTS`.
    """
    m = train.scores.shape[1]
    depth = min(max_attempts, 3 if m <= MOST_EXPERTS else 2)
    losses = train.singles.losses
    plans: list[tuple[tuple[int, ...], float, float]] = []
    for length in range(1, depth + 1):
        for prefix in itertools.permutations(range(m), length - 1):
            plans += _with_last(train, prefix, losses)
    points = Points(
        np.arange(len(plans), dtype=np.float64)[:, None],
        np.array([loss for _, loss, _ in plans]),
        np.array([[value] for _, _, value in plans]),
        np.zeros(len(plans), dtype=np.intp),
    )
    rows = non_dominated(points).weights[:, 0].astype(int).tolist()
    return sorted((FixedPlan(*plans[row]) for row in rows), key=lambda plan: plan.value)


def _with_last(
    train: MeasuredPlans, prefix: tuple[int, ...], losses: Array
) -> list[tuple[tuple[int, ...], float, float]]:
    """Return loss and value of every plan that starts with a prefix and has one more expert.

    Plans of several experts that were all measured on fewer than `FEWEST_CELLS` prompts of a group
    are left out.
    """
    often: Mask = np.ones(train.scores.shape[1], dtype=bool)
    if train.complete:
        scores, values = _ends(train, train.scores, train.values, prefix, losses)
    else:
        scores, values = _ends(train, *train.model, prefix, losses)
        own_scores, own_values = _ends(train, *train._filled, prefix, losses)
        whole = train.measured & train.measured[:, list(prefix)].all(axis=1, keepdims=True)
        weights = measured_weights(whole, *train._groups)
        scores += weights * (own_scores - scores)
        values += weights * (own_values - values)
        if prefix:  # the best of many that hardly a prompt tells of is the luckiest
            groups, count = train._groups
            numbers = group_sums(whole.astype(np.float64), groups, count)
            sizes = np.bincount(groups, minlength=count)[:, None]
            often = np.all(numbers >= np.minimum(sizes, FEWEST_CELLS), axis=0)
    mean_scores, mean_values = train.shares @ scores, train.shares @ values
    return [
        ((*prefix, column), 1.0 - float(mean_scores[column]), float(mean_values[column]))
        for column in np.flatnonzero(often).tolist()
        if column not in prefix
    ]


def _ends(
    train: MeasuredPlans, scores: Array, values: Array, prefix: tuple[int, ...], losses: Array
) -> tuple[Array, Array]:
    """Return score and value, (n, m) each, of a prefix and then each expert.

    Args:
        train: the check's rates.
        scores: (n, m) scores.
        values: (n, m) values of the goal.
        prefix: columns of the first experts.
        losses: (m,) mean losses; the least of a plan's says whose answer goes out in the end.
    """
    n = len(scores)
    score, value, reached = np.zeros(n), np.zeros(n), np.ones(n)
    fallback, least = np.zeros(n), np.inf
    for column in prefix:
        right = scores[:, column]
        yes, no = train.accepts_right[column], train.accepts_wrong[column]
        accepted = yes * right + no * (1.0 - right)
        value += reached * values[:, column]
        score += reached * yes * right
        fallback = (
            reached * (1.0 - yes) * right if losses[column] < least else fallback * (1.0 - accepted)
        )
        least = min(least, float(losses[column]))
        reached = reached * (1.0 - accepted)
    accepted = train.accepts_right * scores + train.accepts_wrong * (1.0 - scores)
    becomes = reached[:, None] * (1.0 - train.accepts_right) * scores
    stays = fallback[:, None] * (1.0 - accepted)
    last = np.where(losses < least, becomes, stays)
    total = score[:, None] + reached[:, None] * train.accepts_right * scores + last
    return total, value[:, None] + reached[:, None] * values
