"""Plans with a check on measured results: the router's, beside fixed plans.

Only prompts on which every expert has a measured score and value count, so that every plan can be
judged on the same prompts. All figures are exact expectations over what the check says
(`tryage.plans.realised`); means are macro averages over the groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.drawing.notebook import preformatted
from tryage.errors import ScoreTableError
from tryage.evaluation.doubts import warn_of_left_out
from tryage.evaluation.fronts import MIXTURES, Points, hull_area, non_dominated, zero_router
from tryage.plans import realised
from tryage.scores import ScoreTable

Array = NDArray[np.float64]

WEIGHTS = (0.0, *np.geomspace(1e-3, 1e2, 60).tolist())
"""Weights of the goal that a front of plans tries."""

MOST_EXPERTS = 60
"""Experts of a library up to which fixed plans of three attempts are enumerated."""


@dataclass(frozen=True)
class MeasuredPlans:
    """Results on which plans are judged.

    Attributes:
        scores: (n, m) measured scores in [0, 1].
        values: (n, m) measured values of the goal, such as USD.
        shares: (n,) what each prompt counts in a macro average, sum 1.
        accepts_right: (m,) chance that the check accepts a right answer.
        accepts_wrong: (m,) chance that it accepts a wrong one.
    """

    scores: Array
    values: Array
    shares: Array
    accepts_right: Array
    accepts_wrong: Array

    def of(self, plans: Sequence[Sequence[int]], losses: Array) -> tuple[Array, Array]:
        """Return the expected score and value of one plan a prompt, (n,) each."""
        return realised(
            plans, self.scores, self.values, losses, self.accepts_right, self.accepts_wrong
        )

    def mean(self, figures: Array) -> float:
        """Return a macro average."""
        return float(self.shares @ figures)

    @property
    def singles(self) -> Points:
        """What single experts attain."""
        losses, values = self.shares @ (1.0 - self.scores), self.shares @ self.values
        return Points(np.zeros((len(losses), 1)), losses, values[:, None])


def complete(table: ScoreTable, values: Array) -> NDArray[np.intp]:
    """Return the rows on which every expert has a score and a value.

    Raises:
        ScoreTableError: there are none.
    """
    rows = np.flatnonzero(~(np.isnan(table.losses) | np.isnan(values)).any(axis=1))
    if not len(rows):
        raise ScoreTableError(
            "no prompt has the score and the goal's value of every expert measured; plans cannot "
            "be judged. Leave out experts that were measured on few prompts"
        )
    warn_of_left_out(table, rows, "plans are judged")
    return rows


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
    losses = np.broadcast_to(train.shares @ (1.0 - train.scores), train.scores.shape)
    plans: list[tuple[tuple[int, ...], float, float]] = []
    for length in range(1, depth + 1):
        for prefix in itertools.permutations(range(m), length - 1):
            plans += _with_last(train, prefix, losses[0])
    points = Points(
        np.arange(len(plans), dtype=np.float64)[:, None],
        np.array([loss for _, loss, _ in plans]),
        np.array([[value] for _, _, value in plans]),
    )
    rows = non_dominated(points).weights[:, 0].astype(int).tolist()
    return sorted((FixedPlan(*plans[row]) for row in rows), key=lambda plan: plan.value)


def _with_last(
    train: MeasuredPlans, prefix: tuple[int, ...], losses: Array
) -> list[tuple[tuple[int, ...], float, float]]:
    """Return loss and value of every plan that starts with a prefix and has one more expert."""
    n, m = train.scores.shape
    score, value, reached = np.zeros(n), np.zeros(n), np.ones(n)
    fallback, least = np.zeros(n), np.inf
    for column in prefix:
        right = train.scores[:, column]
        yes, no = train.accepts_right[column], train.accepts_wrong[column]
        accepted = yes * right + no * (1.0 - right)
        value += reached * train.values[:, column]
        score += reached * yes * right
        fallback = (
            reached * (1.0 - yes) * right if losses[column] < least else fallback * (1.0 - accepted)
        )
        least = min(least, float(losses[column]))
        reached = reached * (1.0 - accepted)
    right = train.scores
    accepted = train.accepts_right * right + train.accepts_wrong * (1.0 - right)
    becomes = reached[:, None] * (1.0 - train.accepts_right) * right
    stays = fallback[:, None] * (1.0 - accepted)
    last = np.where(losses < least, becomes, stays)
    scores = train.shares @ (score[:, None] + reached[:, None] * train.accepts_right * right + last)
    values = train.shares @ (value[:, None] + reached[:, None] * train.values)
    return [
        ((*prefix, column), 1.0 - float(scores[column]), float(values[column]))
        for column in range(m)
        if column not in prefix
    ]


@dataclass(frozen=True)
class PlanFront:
    """What plans attain as the weight of a goal rises, beside fixed plans.

    Attributes:
        goal: whose weight rises.
        check: name and rates.
        max_attempts: experts in a plan at most.
        prompts: how many prompts count.
        experts: names.
        points: the router's, one for each weight that attains something new, none dominated.
        attempts: mean expected attempts at each point.
        singles: single experts.
        fixed: fixed plans chosen on the training table, with their score and value here; None
            without one.
        oracle: the best measured expert of each prompt.
    """

    goal: str
    check: dict[str, Any]
    max_attempts: int
    prompts: int
    experts: tuple[str, ...]
    points: Points = field(repr=False)
    attempts: tuple[float, ...] = field(repr=False)
    singles: Points = field(repr=False)
    fixed: tuple[tuple[tuple[str, ...], float, float], ...] | None = field(repr=False)
    oracle: Points = field(repr=False)

    def aiq(self, points: Points) -> float | None:
        """Return the AIQ of points, as `tryage.evaluation.pareto.Front` defines it."""
        area = hull_area(points, self.singles)
        return None if area is None else float(area + 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``tryage pareto --check --json`` prints."""
        references: dict[str, Any] = {
            "singles": [
                {"expert": name, "score": 1.0 - loss, "value": value}
                for name, loss, (value,) in zip(
                    self.experts,
                    self.singles.losses.tolist(),
                    self.singles.values.tolist(),
                    strict=True,
                )
            ],
            "zero_router": {"aiq": self.aiq(zero_router(self.singles))},
            "best_fixed_plan": None,
            "oracle": {"aiq": self.aiq(self.oracle)},
        }
        if self.fixed is not None:
            references["best_fixed_plan"] = [
                {"experts": list(experts), "score": score, "value": value}
                for experts, score, value in self.fixed
            ]
            references["fixed_plans"] = {"aiq": self.aiq(self._fixed_points)}
        return {
            "goal": self.goal,
            "check": self.check,
            "max_attempts": self.max_attempts,
            "prompts": self.prompts,
            "points": [
                {"weight": weight, "score": 1.0 - loss, "value": value, "attempts": attempts}
                for (weight,), loss, (value,), attempts in zip(
                    self.points.weights.tolist(),
                    self.points.losses.tolist(),
                    self.points.values.tolist(),
                    self.attempts,
                    strict=True,
                )
            ],
            "aiq": self.aiq(self.points),
            "references": references,
        }

    def plot(self) -> Any:
        """Draw the front as an Altair chart: plans, fixed plans, mixtures and single experts.

        Raises:
            MissingExtraError: the extra `report` is not installed.
        """
        from tryage.evaluation.front_plots import Drawn, draw

        lines = {"oracle": self.oracle, "plans of the router": self.points}
        lines[MIXTURES] = zero_router(self.singles)
        fixed = tuple(
            ("fixed plans", " > ".join(experts), value, 1.0 - score)
            for experts, score, value in self.fixed or ()
        )
        return draw(Drawn(self.goal, True, self.prompts, lines, self.experts, self.singles, fixed))

    def _repr_html_(self) -> str:
        return preformatted(self.table())

    def table(self) -> str:
        """Return the front as printable text."""
        rates = self.check
        lines = [
            f"{self.prompts} prompts; {rates['name']} accepts "
            f"{rates['accepts_right']:.0%} of right and {rates['accepts_wrong']:.0%} of wrong "
            f"answers; at most {self.max_attempts} "
            "attempts"
        ]
        points = self.to_dict()["points"]
        lines += [
            f"  weight {p['weight']:.4g}  score {p['score']:.4f}  value {p['value']:.4g}  "
            f"attempts {p['attempts']:.2f}"
            for p in points[:: max(1, len(points) // 12)]
        ]
        sections = {"router": self.points, "single experts, mixed": zero_router(self.singles)}
        if self.fixed is not None:
            sections["best fixed plans"] = self._fixed_points
        sections["oracle"] = self.oracle
        figures = ((name, self.aiq(points)) for name, points in sections.items())
        lines.append("AIQ: " + ", ".join(f"{n} {a:.4f}" for n, a in figures if a is not None))
        return "\n".join(lines)

    @property
    def _fixed_points(self) -> Points:
        fixed = self.fixed or ()
        losses = np.array([1.0 - score for _, score, _ in fixed])
        values = np.array([[value] for _, _, value in fixed])
        return Points(np.zeros((len(fixed), 1)), losses, values)


def plans_table(figures: dict[str, Any]) -> str:
    """Return the figures of `Router.evaluate_plans` as printable text."""
    check = figures["check"]
    lines = [
        f"{figures['prompts']} prompts; {check['name']} accepts "
        f"{check['accepts_right']:.0%} of right and {check['accepts_wrong']:.0%} of wrong answers; "
        f"{figures['attempts']:.2f} attempts a prompt"
    ]
    rows = {"router": figures["router"], **figures["references"]}
    width = max(map(len, rows))
    for name, row in rows.items():
        low, high = row["score_ci95"] or (row["score"], row["score"])
        experts = row.get("experts", "")
        plan = " > ".join(experts) if isinstance(experts, list) else experts
        lines.append(
            f"  {name:<{width}}  score {row['score']:.4f} ({low:.4f} to {high:.4f})  "
            f"{1000 * row['mean_cost']:.4g} USD per 1000  {plan}".rstrip()
        )
    for name, pair in figures["paired"].items():
        low, high = pair["ci95"] or (pair["difference"], pair["difference"])
        lines.append(f"  router - {name}: {pair['difference']:+.4f} ({low:+.4f} to {high:+.4f})")
    return "\n".join(lines)
