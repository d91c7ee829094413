"""Plots of an evaluation: rows with intervals, heat maps, reliability, regret."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tryage.drawing.charts import PALETTE, Chart, alt, inline, number
from tryage.drawing.names import short_names
from tryage.evaluation import Evaluation
from tryage.evaluation.report import BOUNDS
from tryage.report.values import ReliabilityBins, TaskValues

MOST_EXPERTS = 50
"""Experts in a heat map at most: those chosen most, then the best."""

_FEW_EXPERTS = 10

_MOST_NUMBERS = 240
"""Cells of a heat map up to which each shows its number."""

_LOSS_TITLE, _SCORE_TITLE = "mean loss (lower is better)", "mean score (higher is better)"


def summary(evaluation: Evaluation) -> Chart:
    """Draw the router's mean and those of the reference rows, with intervals."""
    measure = "score" if evaluation.kind == "scores" else "loss"
    rows = []
    for name, row in {"router": evaluation.router, **evaluation.references}.items():
        if row is None or row[measure] is None:
            continue
        low, high = row[f"{measure}_ci95"] or (None, None)
        kind = "upper bound" if name in BOUNDS else "other rows"
        rows.append(
            {
                "row": name.replace("_", " "),
                "mean": number(row[measure]),
                "low": low,
                "high": high,
                "kind": "router" if name == "router" else kind,
            }
        )
    best_first = "descending" if measure == "score" else "ascending"
    place = alt.Y("row:N", sort=alt.EncodingSortField("mean", order=best_first), title=None)
    kinds = ["router", "upper bound", "other rows"]
    colour = alt.Color(
        "kind:N",
        title=None,
        scale=alt.Scale(domain=kinds, range=[PALETTE[4], PALETTE[2], PALETTE[0]]),
        legend=alt.Legend(orient="top"),
    )
    title = _SCORE_TITLE if measure == "score" else _LOSS_TITLE
    axis = alt.X("mean:Q", title=title, scale=alt.Scale(zero=False))
    tooltip = [alt.Tooltip(f"{name}:Q", format=".4f") for name in ("mean", "low", "high")]
    base = alt.Chart(inline(rows)).encode(y=place, color=colour)
    intervals = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q")
    means = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=axis,
        shape=alt.Shape(
            "kind:N", scale=alt.Scale(domain=kinds, range=["diamond", "circle", "square"])
        ),
        tooltip=[alt.Tooltip("row:N"), *tooltip],
    )
    return (intervals + means).properties(
        width=520,
        height=26 * len(rows),
        description=f"{title} of the router and the reference rows, with 95 % intervals.",
    )


def heat_map(values: TaskValues, show: Literal["mean", "chosen"] = "mean") -> Chart:
    """Draw groups by experts: the mean score or loss, or the share that the router chooses."""
    order = _best_first(values)
    every_name = short_names(values.experts)
    names = [every_name[column] for column in order]
    groups = short_names(values.groups)
    shown = values.by_group.mean if show == "mean" else values.by_group.chosen
    rows = [
        {
            "group": groups[row],
            "expert": every_name[column],
            "value": number(float(shown[row, column])),
            "cells": int(values.by_group.cells[row, column]),
            "prompts": int(values.by_group.prompts[row]),
        }
        for row in range(len(groups))
        for column in order
    ]
    if show == "mean":
        title = f"mean {values.measure}"
        cells = alt.Tooltip("cells:Q", title="measured cells", format=",")
        what = f"{title.capitalize()} of every expert on every group."
    else:
        title = "share chosen"
        cells = alt.Tooltip("prompts:Q", format=",")
        what = "Share of each group's prompts for which the router chooses each expert."
    scheme = "yelloworangebrown" if show == "chosen" else "blues"
    reverse = show == "mean" and not values.scored
    finite = shown[np.isfinite(shown)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if show == "chosen":
        low, high = 0.0, 1.0
    dark_from = low + 0.6 * (high - low) if not reverse else low + 0.4 * (high - low)
    base = alt.Chart(inline(rows)).encode(
        x=alt.X("expert:N", sort=names, title=None, axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("group:N", sort=groups, title=None),
    )
    squares = base.mark_rect(stroke="#ffffff", strokeWidth=1).encode(
        color=alt.Color(
            "value:Q",
            title=title,
            scale=alt.Scale(scheme=scheme, domain=[low, high], reverse=reverse),
            legend=alt.Legend(orient="top", gradientLength=160),
        ),
        tooltip=[
            alt.Tooltip("group:N"),
            alt.Tooltip("expert:N"),
            alt.Tooltip("value:Q", title=title, format=".3f"),
            cells,
        ],
    )
    dark = f"datum.value {'<' if reverse else '>'} {dark_from:.6g}"
    numbers = base.mark_text(fontSize=11).encode(
        text=alt.Text("value:Q", format=".2f" if show == "mean" else ".0%"),
        color=alt.condition(dark, alt.value("#ffffff"), alt.value("#1a1a1a")),
    )
    plot = squares + numbers if len(rows) <= _MOST_NUMBERS else squares
    return plot.properties(
        width=max(320, 46 * len(names)), height=26 * len(groups), description=what
    )


def _best_first(values: TaskValues) -> list[int]:
    """Return the columns by how often they are chosen, then by their mean, `MOST_EXPERTS` of them.

    Small libraries keep their order.
    """
    columns = range(len(values.experts))
    if len(columns) <= _FEW_EXPERTS:
        return list(columns)
    chosen = values.prompts.chosen
    counts = np.bincount(chosen[chosen >= 0], minlength=len(columns))
    sign = -1.0 if values.scored else 1.0
    means = [sign * float(np.nanmean(values.by_group.mean[:, column])) for column in columns]
    return sorted(columns, key=lambda column: (-counts[column], means[column]))[:MOST_EXPERTS]


def reliability(bins: ReliabilityBins, *, scored: bool) -> Chart:
    """Draw measured against predicted means, in bins of equally many cells, with 95 % intervals."""
    predicted = 1.0 - bins.predicted if scored else bins.predicted
    measured = 1.0 - bins.measured if scored else bins.measured
    rows = [
        {
            "predicted": number(float(at)),
            "measured": number(float(mean)),
            "low": number(float(mean - 1.96 * error)),
            "high": number(float(mean + 1.96 * error)),
            "cells": int(count),
        }
        for at, mean, error, count in zip(predicted, measured, bins.error, bins.cells, strict=True)
    ]
    ends = np.concatenate([predicted, measured])
    low, high = float(ends.min()), float(ends.max())
    if scored:
        low, high = 0.0, 1.0
    room = 0.0 if scored else 0.03 * (high - low or 1.0)
    scale = alt.Scale(domain=[low - room, high + room], nice=False, clamp=True)
    word = "score" if scored else "loss"
    corners = [{"predicted": low, "measured": low}, {"predicted": high, "measured": high}]
    x = alt.X("predicted:Q", title=f"predicted {word}", scale=scale)
    y = alt.Y("measured:Q", title=f"measured {word}", scale=scale)
    diagonal = alt.Chart(inline(corners)).mark_line(strokeDash=[5, 4], color="#888888")
    base = alt.Chart(inline(rows)).encode(x=x)
    intervals = base.mark_rule(color=PALETTE[0], strokeWidth=2).encode(
        y=alt.Y("low:Q", scale=scale, title=f"measured {word}"), y2="high:Q"
    )
    points = base.mark_point(filled=True, size=80, color=PALETTE[0], opacity=1).encode(
        y=y,
        tooltip=[
            alt.Tooltip("predicted:Q", format=".3f"),
            alt.Tooltip("measured:Q", format=".3f"),
            alt.Tooltip("cells:Q", title="measured cells", format=","),
        ],
    )
    return (diagonal.encode(x=x, y=y) + intervals + points).properties(
        width=380,
        height=300,
        description=f"Measured {word} against predicted {word}; on the dashed line predictions "
        "are right on average.",
    )


def regret(values: TaskValues) -> Chart:
    """Draw how many prompts have how much regret."""
    rows = [
        {"regret": number(float(amount)), "group": values.groups[group]}
        for amount, group in zip(values.prompts.regret, values.prompts.group, strict=True)
        if np.isfinite(amount)
    ]
    return regret_of(inline(rows))


def regret_of(data: Chart) -> Chart:
    """Draw the regrets in a data set with the field `regret`."""
    return (
        alt.Chart(data)
        .mark_bar(color=PALETTE[0])
        .encode(
            x=alt.X("regret:Q", bin=alt.Bin(maxbins=24), title="regret (0 is the best choice)"),
            y=alt.Y("count():Q", title="prompts"),
            tooltip=[
                alt.Tooltip("regret:Q", bin=alt.Bin(maxbins=24), title="regret"),
                alt.Tooltip("count():Q", title="prompts", format=","),
            ],
        )
        .properties(
            width=480,
            height=240,
            description="Number of prompts by the regret of the router's choice.",
        )
    )
