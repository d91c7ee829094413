"""The plot of a front: quality against cost, size or another goal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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

_WIDTH, _HEIGHT = 600, 360
"""Pixels of the plot."""

_LETTER = 5.6
"""Pixels of a letter of a label, about."""

_ROOM = 0.05
"""Room at both ends of an axis, as a share of it."""

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
        rows = [*lines, *points]
        across = _Span.of([row["value"] for row in rows], may_be_log=True)
        up = _Span.of([row["quality"] for row in rows])
        measure = "score (higher is better)" if self.scored else "loss (lower is better)"
        x = alt.X(
            "value:Q",
            title=self.title,
            scale=across.scale(),
            axis=alt.Axis(format="~g", tickCount=7),
        )
        y = alt.Y("quality:Q", title=f"mean {measure}", scale=up.scale())
        names = list(dict.fromkeys(row["line"] for row in [*lines, *points]))
        colour = alt.Color(
            "line:N",
            title=None,
            scale=alt.Scale(domain=names, range=[_COLOURS[name] for name in names]),
            legend=alt.Legend(orient="top", columns=4, labelLimit=220, symbolType="circle"),
        )
        figures = [
            alt.Tooltip("value:Q", title=self.title, format=".4~g"),
            alt.Tooltip("quality:Q", title=measure.partition(" ")[0], format=".4f"),
        ]
        curves = (
            alt.Chart(inline(lines))
            .mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=50, opacity=0))
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
        for side, label in _labels(named, across, up):
            layers += (
                alt.Chart(inline([label]))
                .mark_text(align=side, dx=9 if side == "left" else -9, fontSize=10.5)
                .encode(x=x, y=y, text="name:N")
            )
        return layers.properties(
            width=_WIDTH,
            height=_HEIGHT,
            description=f"Mean {measure} over {self.title}, {prompts} prompts.",
        )


@dataclass(frozen=True)
class _Span:
    """The values that an axis shows, with some room around them."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, values: Iterable[float | None], may_be_log: bool = False) -> _Span:
        shown = [value for value in values if value is not None]
        low, high = min(shown), max(shown)
        if may_be_log and low > 0 and high / low > _LOG_FROM:
            room = (high / low) ** _ROOM
            return cls(low / room, high * room, True)
        gap = _ROOM * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low - gap, high + gap, False)

    def scale(self) -> Any:
        """Return the scale of the axis."""
        domain = [self.low, self.high]
        if self.log:
            return alt.Scale(type="log", domain=domain, nice=False)
        return alt.Scale(domain=domain, nice=False, zero=False)

    def share(self, value: float) -> float:
        """Return how far along the axis a value lies, 0 to 1."""
        if self.log:
            return float(np.log(value / self.low) / np.log(self.high / self.low))
        return (value - self.low) / (self.high - self.low)

    def above(self, value: float, share: float) -> float:
        """Return the value that lies a share of the axis above another; for linear axes."""
        return value + share * (self.high - self.low)


Side = Literal["left", "right"]
"""Which end of a label is at its point."""


def _labels(
    points: list[dict[str, Any]], across: _Span, up: _Span
) -> Iterator[tuple[Side, dict[str, Any]]]:
    """Yield the names of points that have room for them, right of their point or left of it."""
    shown = [row for row in points if row["value"] is not None and row["quality"] is not None]
    places = [
        (_WIDTH * across.share(row["value"]), _HEIGHT * up.share(row["quality"])) for row in shown
    ]
    boxes = [(x - 6, x + 6, y - 6, y + 6) for x, y in places]
    for place, (row, (x, y)) in enumerate(zip(shown, places, strict=True)):
        length = _LETTER * len(row["name"])
        others = [*boxes[:place], *boxes[place + 1 :]]
        sides: list[tuple[Side, float, float]] = [
            ("left", x + 9, x + 9 + length),
            ("right", x - 9 - length, x - 9),
        ]
        for rise in (0, 9, -9):
            for side, start, end in sides:
                box = (start, end, y + rise - 7, y + rise + 7)
                if start >= 0 and end <= _WIDTH and not any(_overlap(box, one) for one in others):
                    boxes.append(box)
                    yield side, {**row, "quality": up.above(row["quality"], rise / _HEIGHT)}
                    break
            else:
                continue
            break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]
