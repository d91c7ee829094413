"""Plans with a check on measured results: the router's, beside fixed plans.

What plans attain comes from `tryage.evaluation.measured_plans`; means are macro averages over the
groups of all prompts with a measured expert.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tryage.drawing.notebook import preformatted
from tryage.evaluation.fronts import MIXTURES, Points, hull_area, zero_router
from tryage.evaluation.measured import Counts

WEIGHTS = (0.0, *np.geomspace(1e-3, 1e2, 60).tolist())
"""Weights of the goal that a front of plans tries."""


@dataclass(frozen=True)
class PlanFront:
    """What plans attain as the weight of a goal rises, beside fixed plans.

    Attributes:
        goal: whose weight rises.
        check: name and rates.
        max_attempts: experts in a plan at most.
        prompts: how many prompts count.
        cells: how many cells the figures rest on.
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
    cells: Counts
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
                {"expert": name, "score": 1.0 - loss, "value": value, "measured_prompts": measured}
                for name, loss, (value,), measured in zip(
                    self.experts,
                    self.singles.losses.tolist(),
                    self.singles.values.tolist(),
                    self.singles.cells.tolist(),
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
            "cells": self.cells.to_dict(),
            "points": [
                {
                    "weight": weight,
                    "score": 1.0 - loss,
                    "value": value,
                    "attempts": attempts,
                    "measured_prompts": measured,
                }
                for (weight,), loss, (value,), attempts, measured in zip(
                    self.points.weights.tolist(),
                    self.points.losses.tolist(),
                    self.points.values.tolist(),
                    self.attempts,
                    self.points.cells.tolist(),
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
        if not self.cells.complete:
            lines.append(_estimated_sentence(self.cells))
        points = self.to_dict()["points"]
        lines += [
            f"  weight {p['weight']:.4g}  score {p['score']:.4f}  value {p['value']:.4g}  "
            f"attempts {p['attempts']:.2f}"
            + ("" if self.cells.complete else f"  measured {p['measured_prompts']:,}")
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
        return Points(np.zeros((len(fixed), 1)), losses, values, np.zeros(len(fixed), np.intp))


def _estimated_sentence(cells: Counts) -> str:
    return (
        f"{cells}, the others estimated from them; measured says on how many prompts every expert "
        "of a plan was; the oracle chooses among the measured"
    )


def plans_table(figures: dict[str, Any]) -> str:
    """Return the figures of `Router.evaluate_plans` as printable text."""
    check = figures["check"]
    lines = [
        f"{figures['prompts']} prompts; {check['name']} accepts "
        f"{check['accepts_right']:.0%} of right and {check['accepts_wrong']:.0%} of wrong answers; "
        f"{figures['attempts']:.2f} attempts a prompt"
    ]
    cells = Counts(**figures["cells"])
    if not cells.complete:
        lines.append(_estimated_sentence(cells))
    rows = {"router": figures["router"], **figures["references"]}
    width = max(map(len, rows))
    for name, row in rows.items():
        low, high = row["score_ci95"] or (row["score"], row["score"])
        experts = row.get("experts", "")
        plan = " > ".join(experts) if isinstance(experts, list) else experts
        measured = "" if cells.complete else f"measured {row['measured_prompts']:,}  "
        lines.append(
            f"  {name:<{width}}  score {row['score']:.4f} ({low:.4f} to {high:.4f})  "
            f"{1000 * row['mean_cost']:.4g} USD per 1000  {measured}{plan}".rstrip()
        )
    for name, pair in figures["paired"].items():
        low, high = pair["ci95"] or (pair["difference"], pair["difference"])
        lines.append(f"  router - {name}: {pair['difference']:+.4f} ({low:+.4f} to {high:+.4f})")
    return "\n".join(lines)
