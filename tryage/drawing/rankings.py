"""The plot of a decision: what every expert's total is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tryage.drawing.charts import PALETTE, Chart, alt, inline, number
from tryage.drawing.names import short_names

Array = NDArray[np.float64]

MOST = 30
"""Experts in a plot at most."""

_PARTS = ("predicted loss", "goals", "predicted loss, not eligible")


def ranking(
    names: Sequence[str], losses: Array, std: Array, totals: Array, columns: Sequence[int]
) -> Chart:
    """Draw predicted losses and what goals add to them, the chosen expert first.

    Args:
        names: of m experts.
        losses: (m,) predicted losses, lower is better; NaN where there is none.
        std: (m,) their standard errors.
        totals: (m,) losses plus weighted goals, inf where an expert is not eligible.
        columns: the experts in the order in which they are drawn; `MOST` are.
    """
    shown = short_names(names)
    bars, errors = [], []
    order = [shown[column] for column in columns[:MOST]]
    for column in columns[:MOST]:
        loss, total = float(losses[column]), float(totals[column])
        eligible = np.isfinite(total)
        if np.isfinite(loss):
            part = _PARTS[0] if eligible else _PARTS[2]
            bars.append(_bar(shown[column], part, 0.0, loss))
            errors.append(
                {
                    "expert": shown[column],
                    "low": number(loss - float(std[column])),
                    "high": number(loss + float(std[column])),
                }
            )
        if eligible and abs(total - np.nan_to_num(loss)) > 1e-12:
            bars.append(_bar(shown[column], _PARTS[1], float(np.nan_to_num(loss)), total))
    place = alt.Y("expert:N", sort=order, title=None)
    parts = [part for part in _PARTS if any(bar["part"] == part for bar in bars)]
    colours = dict(zip(_PARTS, (PALETTE[0], PALETTE[1], "#9a9a9a"), strict=True))
    x = alt.X("start:Q", title="total (lower is better)")
    base = alt.Chart(inline(bars)).mark_bar(height={"band": 0.7})
    drawn = base.encode(
        y=place,
        x=x,
        x2="end:Q",
        color=alt.Color(
            "part:N",
            title=None,
            scale=alt.Scale(domain=parts, range=[colours[part] for part in parts]),
            legend=alt.Legend(orient="top"),
        ),
        tooltip=[
            alt.Tooltip("expert:N"),
            alt.Tooltip("part:N"),
            alt.Tooltip("amount:Q", format=".4f"),
        ],
    )
    intervals = (
        alt.Chart(inline(errors))
        .mark_rule(strokeWidth=1.5, color="#444444")
        .encode(y=place, x=alt.X("low:Q", title="total (lower is better)"), x2="high:Q")
    )
    return (drawn + intervals).properties(
        width=480,
        height=24 * len(order) + 10,
        description="Total of every expert: its predicted loss, with one standard error, and what "
        "goals add to it. The chosen expert comes first.",
    )


def _bar(expert: str, part: str, start: float, end: float) -> dict[str, object]:
    return {
        "expert": expert,
        "part": part,
        "start": number(start),
        "end": number(end),
        "amount": number(end - start),
    }
