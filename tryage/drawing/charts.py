"""What all plots share: Altair, colours that the colour-blind can tell apart, names, numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tryage.errors import OptionError, missing_extra
from tryage.files import replacing
from tryage.paths import check_writable, user_path

try:
    import altair as alt
except ImportError as error:
    raise missing_extra("report", "drawing plots") from error

__all__ = ["OTHER", "PALETTE", "SHAPES", "Chart", "alt", "check", "inline", "number", "write"]

Chart = Any
"""An Altair chart: ``save("plot.svg")`` or ``save("plot.png", scale_factor=2)`` draws it."""

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#9A8700", "#7A5195")
"""Okabe and Ito's colours, the yellow darkened so that it shows on white, and a violet."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "wedge", "stroke")

OTHER = "other"
"""Name and place of what has no colour of its own."""


def inline(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Return rows as the data of a chart."""
    return alt.Data(values=list(rows))


def number(value: float) -> float | None:
    """Return a number for JSON: None where it is not finite, else five significant digits."""
    return float(f"{value:.5g}") if np.isfinite(value) else None


def check(path: str | Path) -> None:
    """See that a plot may be written, before work is done for it.

    Raises:
        OptionError: the file's name ends neither in .png nor in .svg.
        OSError: the file may not be written.
    """
    _kind(user_path(path))
    check_writable(user_path(path))


def write(chart: Chart, path: str | Path) -> None:
    """Write a chart to a file, whole or not at all; PNG at twice its size.

    Raises:
        OptionError: the file's name ends neither in .png nor in .svg.
        OSError: the file cannot be written.
    """
    path = user_path(path)
    kind = _kind(path)
    with replacing(path) as temporary:
        chart.save(str(temporary), format=kind, scale_factor=2 if kind == "png" else 1)


def _kind(path: Path) -> str:
    """Return "png" or "svg"; PNG where the name has no ending, such as ``-`` or a pipe's."""
    kind = path.suffix.lower().removeprefix(".") or "png"
    if kind not in ("png", "svg"):
        raise OptionError(f"{str(path)!r}: a plot is written as .png or .svg")
    return kind
