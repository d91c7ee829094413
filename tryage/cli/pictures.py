"""The picture of a front, as PNG."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tryage.errors import GoalError, missing_extra
from tryage.evaluation.pareto import Front
from tryage.files import replacing
from tryage.goals import find_goal
from tryage.paths import check_writable

if TYPE_CHECKING:
    from tryage.evaluation.fronts import Points

Array = NDArray[np.float64]

_WIDTH, _HEIGHT, _SCALE = 900, 600, 2
"""Pixels, and how much larger it is drawn before it is made smooth."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 30, 50, 70
_INK, _GRID = "#222222", "#dddddd"
_LINES = (("oracle", "#2a9d4a"), ("router", "#1f5fbf"), ("mixtures of single experts", "#c0392b"))


def check_picture(path: Path, goals: Sequence[str]) -> None:
    """See that a front can be drawn, before it is computed.

    Raises:
        GoalError: it is over two goals.
        MissingExtraError: Pillow is not installed.
        OSError: the file may not be written.
    """
    if len(goals) > 1:
        raise GoalError("a picture shows one goal; draw one for each, or take the JSON")
    if importlib.util.find_spec("PIL") is None:
        raise missing_extra("plots", "drawing a front") from ImportError("no module named 'PIL'")
    check_writable(path)


def draw_front(front: Front, path: Path) -> None:
    """Draw a front over one goal: router, oracle, mixtures, single experts.

    Raises:
        GoalError, MissingExtraError, OSError: as `check_picture`.
    """
    check_picture(path, front.goals)
    from PIL import Image, ImageDraw, ImageFont

    size = (_WIDTH * _SCALE, _HEIGHT * _SCALE)
    image = Image.new("RGB", size, "white")
    font = ImageFont.load_default(13 * _SCALE)
    plot = _Plot(front, ImageDraw.Draw(image), font)
    plot.axes()
    # By value: the front has no point twice, so each line is a function of it.
    for points, (name, colour) in zip(
        (front.oracle, front.points, front.zero), _LINES, strict=True
    ):
        plot.line(points, colour)
        plot.key(name, colour)
    for name, x, y in zip(
        front.experts, front.singles.values[:, 0], front.quality(front.singles), strict=True
    ):
        plot.point(name, float(x), float(y))
    smooth = image.resize((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
    with replacing(path) as temporary:
        smooth.save(temporary, format="PNG", optimize=True)


class _Plot:
    """Maps values and qualities to pixels."""

    def __init__(self, front: Front, draw: Any, font: Any) -> None:
        self._front, self._draw, self._font = front, draw, font
        everything = (front.points, front.oracle, front.singles)
        x = np.concatenate([points.values[:, 0] for points in everything])
        y = np.concatenate([front.quality(points) for points in everything])
        self._x = _padded(float(x.min()), float(x.max()))
        self._y = _padded(float(y.min()), float(y.max()))
        self._keys = 0

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a value and a quality."""
        right = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return (
            _SCALE * (_LEFT + right * (_WIDTH - _LEFT - _RIGHT)),
            _SCALE * (_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)),
        )

    def axes(self) -> None:
        """Draw grid, numbers and names of the axes."""
        front = self._front
        goal = find_goal(front.goals[0])
        for x in _ticks(*self._x):
            self._draw.line([self.at(x, self._y[0]), self.at(x, self._y[1])], _GRID, _SCALE)
            label = f"{x:.3g}" if goal is None else goal.format(x)
            self._text(self.at(x, self._y[0]), label, "ma", down=6)
        for y in _ticks(*self._y):
            self._draw.line([self.at(self._x[0], y), self.at(self._x[1], y)], _GRID, _SCALE)
            self._text(self.at(self._x[0], y), f"{y:.3g}", "rm", right=-6)
        unit = "" if goal is None else f" ({goal.unit})"
        middle = (self._x[0] + self._x[1]) / 2
        self._text(self.at(middle, self._y[0]), f"mean {front.goals[0]}{unit}", "ma", down=34)
        scored = front.kind == "scores"
        label = "mean score (higher is better)" if scored else "mean loss (lower is better)"
        self._text((_SCALE * 10, _SCALE * 10), f"{label}, {front.prompts} prompts", "la")

    def line(self, points: Points, colour: str) -> None:
        """Draw points as a line, by value."""
        order = np.argsort(points.values[:, 0])
        x, y = points.values[order, 0], self._front.quality(points)[order]
        pixels = [self.at(float(a), float(b)) for a, b in zip(x, y, strict=True)]
        for start, end in itertools.pairwise(pixels):
            self._draw.line([start, end], colour, 2 * _SCALE)

    def point(self, name: str, x: float, y: float) -> None:
        """Draw a single expert."""
        (a, b), r = self.at(x, y), 4 * _SCALE
        self._draw.ellipse([a - r, b - r, a + r, b + r], fill=_INK)
        far_right = a > _SCALE * _WIDTH * 0.7
        self._text((a, b), name, "rs" if far_right else "ls", right=-7 if far_right else 7, down=-4)

    def key(self, name: str, colour: str) -> None:
        """Name a line above the picture."""
        left = _SCALE * (_LEFT + 360 + 110 * self._keys)
        self._keys += 1
        self._draw.line([left, _SCALE * 18, left + _SCALE * 20, _SCALE * 18], colour, 3 * _SCALE)
        self._text((left + _SCALE * 26, _SCALE * 18), name, "lm")

    def _text(
        self, at: tuple[float, float], text: str, anchor: str, *, right: int = 0, down: int = 0
    ) -> None:
        place = (at[0] + right * _SCALE, at[1] + down * _SCALE)
        self._draw.text(place, text, fill=_INK, font=self._font, anchor=anchor)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers between two."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(next(power * f for f in (1, 2, 5, 10) if power * f >= rough))
    first = np.ceil(low / step)
    return [float(step * (first + i)) for i in range(int((high / step) - first) + 1)]
