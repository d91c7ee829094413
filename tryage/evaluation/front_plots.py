"""The plot of a front: quality against cost, size or another goal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tryage.drawing.charts import PALETTE, Chart, alt, inline, number
from tryage.drawing.names import short_names
from tryage.evaluation.fronts import Points
from tryage.goals import find_goal

Array = NDArray[np.float64]

_MOST_POINTS = 400
"""Points of a line that are drawn; more of them cannot be told apart."""

_LOG_FROM = 30.0
"""Ratio of the highest to the lowest value from which the axis is logarithmic."""

_MOST_LABELS = 40
_LINE = 0.09
"""Height of a label, as a share of the single experts' range of quality."""

_WIDE = 0.3
"""Length of a label, as a share of the plot's width."""

_SHOWN_UNITS = {
    "cost": (1000.0, "mean cost, USD per 1,000 prompts"),
    "size": (1e-9, "mean size of the chosen expert, billions of parameters"),
}
"""Goal → factor, and title of the axis."""

_SHAPES = {"single expert": "circle", "this router": "diamond", "fixed plans": "square"}
"""Kind of point → its mark."""

_COLOURS = {
    "router": PALETTE[0],
    "plans of the router": PALETTE[0],
    "oracle": PALETTE[2],
    "mixtures of single experts": PALETTE[4],
    "fixed plans": PALETTE[1],
    "single expert": "#767676",
    "this router": PALETTE[3],
}


@dataclass(frozen=True)
class Drawn:
    """What a plot of a front shows.

    Attributes:
        goal: the name of the goal.
        scored: whether qualities are scores, higher is better; else losses.
        prompts: how many prompts the points are means of.
        lines: name → points of a line.
        experts: names of the single experts.
        singles: their points.
        extras: marks of other points: kind, name, value of the goal, loss.
    """

    goal: str
    scored: bool
    prompts: int
    lines: Mapping[str, Points]
    experts: tuple[str, ...]
    singles: Points
    extras: tuple[tuple[str, str, float, float], ...] = ()


def draw(drawn: Drawn) -> Chart:
    """Draw quality against the value of a goal."""
    axes = _Axes(drawn.goal, drawn.scored)
    lines = [row for name, points in drawn.lines.items() for row in axes.line(name, points)]
    points = axes.singles(drawn.experts, drawn.singles)
    points += [axes.row(kind, value, loss, name) for kind, name, value, loss in drawn.extras]
    return axes.chart(lines, points, drawn.prompts)


class _Axes:
    """A goal's values across, quality upwards; rows of charts in their units."""

    def __init__(self, goal: str, scored: bool) -> None:
        known_goal = find_goal(goal)
        unit = f"mean {goal}" + (f", {known_goal.unit}" if known_goal is not None else "")
        self.goal, self.scored = goal, scored
        self.factor, self.title = _SHOWN_UNITS.get(goal, (1.0, unit))

    def row(self, line: str, value: float, loss: float, name: str) -> dict[str, Any]:
        quality = 1.0 - loss if self.scored else loss
        return {
            "line": line,
            "name": name,
            "value": number(self.factor * value),
            "quality": number(quality),
        }

    def line(self, name: str, points: Points) -> list[dict[str, Any]]:
        order = np.argsort(points.values[:, 0], kind="stable")
        if len(order) > _MOST_POINTS:
            order = order[np.unique(np.linspace(0, len(order) - 1, _MOST_POINTS).astype(int))]
        return [
            self.row(name, float(points.values[row, 0]), float(points.losses[row]), name)
            | {"weight": number(float(points.weights[row, 0]))}
            for row in order.tolist()
        ]

    def singles(self, experts: tuple[str, ...], points: Points) -> list[dict[str, Any]]:
        rows = zip(
            short_names(experts), points.values[:, 0].tolist(), points.losses.tolist(), strict=True
        )
        return [self.row("single expert", value, loss, name) for name, value, loss in rows]

    def chart(
        self, lines: list[dict[str, Any]], points: list[dict[str, Any]], prompts: int
    ) -> Chart:
        shown = [row["value"] for row in [*lines, *points] if row["value"] is not None]
        low, high = min(shown), max(shown)
        log = low > 0 and high / low > _LOG_FROM
        measure = "score (higher is better)" if self.scored else "loss (lower is better)"
        scale = alt.Scale(type="log") if log else alt.Scale(zero=False)
        x = alt.X("value:Q", title=self.title, scale=scale, axis=alt.Axis(format="~g"))
        y = alt.Y("quality:Q", title=f"mean {measure}", scale=alt.Scale(zero=False))
        names = list(dict.fromkeys(row["line"] for row in [*lines, *points]))
        colour = alt.Color(
            "line:N",
            title=None,
            scale=alt.Scale(domain=names, range=[_COLOURS[name] for name in names]),
            legend=alt.Legend(orient="top", columns=3, labelLimit=220, symbolType="circle"),
        )
        figures = [
            alt.Tooltip("value:Q", title=self.title, format=".4~g"),
            alt.Tooltip("quality:Q", title=measure.partition(" ")[0], format=".4f"),
        ]
        curves = (
            alt.Chart(inline(lines))
            .mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=14, opacity=0.9))
            .encode(
                x=x,
                y=y,
                color=colour,
                tooltip=[alt.Tooltip("line:N"), alt.Tooltip("weight:Q", format=".4~g"), *figures],
            )
        )
        layers = curves
        for kind, shape in _SHAPES.items():
            layers += (
                alt.Chart(inline(row for row in points if row["line"] == kind))
                .mark_point(filled=True, size=100, opacity=1, shape=shape)
                .encode(x=x, y=y, color=colour, tooltip=[alt.Tooltip("name:N"), *figures])
            )
        named = [row for row in points if row["line"] != "fixed plans"]
        for align, label in self._labels(named, low, high, log):
            layers += (
                alt.Chart(inline([label]))
                .mark_text(align=align, dx=8 if align == "left" else -8, fontSize=10.5)
                .encode(x=x, y=y, text="name:N")
            )
        return layers.properties(
            width=600,
            height=360,
            description=f"Mean {measure} over {self.title}, {prompts} prompts.",
        )

    def _labels(
        self, points: list[dict[str, Any]], low: float, high: float, log: bool
    ) -> Iterator[tuple[Literal["left", "right"], dict[str, Any]]]:
        """Yield the points' names, moved up or down where they would cover each other."""
        shown = [row for row in points if row["value"] is not None and row["quality"] is not None]
        if len(shown) > _MOST_LABELS:
            return
        heights = [row["quality"] for row in shown]
        line = max(max(heights) - min(heights), 1e-6) * _LINE
        occupied: list[tuple[float, float]] = []
        for row in sorted(shown, key=lambda row: -row["quality"]):
            at = [_along(amount, log) for amount in (low, row["value"], high)]
            across = (at[1] - at[0]) / (at[2] - at[0] or 1.0)
            free = (
                row["quality"] + step * line
                for step in (0.0, -1.0, 1.0, -2.0, 2.0, -3.0)
                if all(
                    abs(across - x) > _WIDE or abs(row["quality"] + step * line - y) >= 0.9 * line
                    for x, y in occupied
                )
            )
            height = next(free, None)
            if height is not None:
                occupied.append((across, height))
                side: Literal["left", "right"] = "right" if across > 0.7 else "left"
                yield side, {**row, "quality": height}


def _along(value: float, log: bool) -> float:
    return float(np.log(value)) if log else value
