"""Plots of a file of decisions: shares, prompts out of distribution and costs over time."""

from __future__ import annotations

from typing import Any

from tryage.drawing.charts import OTHER, PALETTE, Chart, alt, inline, number
from tryage.drawing.names import short_names
from tryage.report.routing import RoutingValues

_OTHER_COLOUR = "#999999"


def shares(values: RoutingValues) -> Chart:
    """Draw which share of the decisions each expert gets, period by period."""
    chosen = [one.expert for one in values.experts if one.count]
    shown = short_names(chosen)
    own = len(chosen) if len(chosen) <= len(PALETTE) else len(PALETTE) - 1
    names = shown[:own]
    rows = []
    for period in values.periods:
        rest = 0.0
        for place, expert in enumerate(chosen):
            share = period.shares.get(expert, 0.0)
            if place < own:
                rows.append(_row(period.name, shown[place], share, period.decisions))
            else:
                rest += share
        if own < len(chosen):
            rows.append(_row(period.name, OTHER, rest, period.decisions))
    domain = names if own == len(chosen) else [*names, OTHER]
    colours = [_OTHER_COLOUR if name == OTHER else PALETTE[i] for i, name in enumerate(domain)]
    return (
        alt.Chart(inline(rows))
        .mark_bar()
        .encode(
            x=_periods(values),
            y=alt.Y(
                "share:Q",
                title="share of the decisions",
                axis=alt.Axis(format="%"),
                scale=alt.Scale(domain=[0, 1], clamp=True),
            ),
            color=alt.Color(
                "expert:N",
                title=None,
                scale=alt.Scale(domain=domain, range=colours),
                legend=alt.Legend(orient="top", columns=3, labelLimit=220),
            ),
            tooltip=[
                alt.Tooltip("period:N"),
                alt.Tooltip("expert:N"),
                alt.Tooltip("share:Q", format=".1%"),
                alt.Tooltip("decisions:Q", format=","),
            ],
        )
        .properties(
            width=600,
            height=280,
            description="Share of the decisions that each expert gets, over time.",
        )
    )


def strange(values: RoutingValues) -> Chart:
    """Draw the share of prompts out of distribution, period by period, with 95 % intervals."""
    rows = [
        {
            "period": period.name,
            "share": number(period.strange),
            "low": number(period.strange_ci95[0]),
            "high": number(period.strange_ci95[1]),
            "decisions": period.decisions,
        }
        for period in values.periods
    ]
    base = alt.Chart(inline(rows)).encode(x=_periods(values))
    title = "out of distribution"
    axis = alt.Axis(format="%")
    points = base.mark_point(filled=True, size=70, color=PALETTE[4], opacity=1).encode(
        y=alt.Y("share:Q", title=title, axis=axis),
        tooltip=[
            alt.Tooltip("period:N"),
            alt.Tooltip("share:Q", format=".1%"),
            alt.Tooltip("decisions:Q", format=","),
        ],
    )
    intervals = base.mark_rule(color=PALETTE[4], strokeWidth=2).encode(
        y=alt.Y("low:Q", title=title, axis=axis), y2="high:Q"
    )
    return (intervals + points).properties(
        width=600,
        height=200,
        description="Share of the prompts unlike all training prompts, over time.",
    )


def costs(values: RoutingValues) -> Chart:
    """Draw the mean predicted cost of the decisions, period by period."""
    rows = [
        {
            "period": period.name,
            "cost": number(1000 * period.cost),
            "decisions": period.decisions,
        }
        for period in values.periods
        if period.cost is not None
    ]
    return (
        alt.Chart(inline(rows))
        .mark_bar(color=PALETTE[0])
        .encode(
            x=_periods(values),
            y=alt.Y("cost:Q", title="predicted USD per 1,000 prompts"),
            tooltip=[
                alt.Tooltip("period:N"),
                alt.Tooltip("cost:Q", title="USD per 1,000", format=".4~g"),
                alt.Tooltip("decisions:Q", format=","),
            ],
        )
        .properties(
            width=600, height=200, description="Mean predicted cost of a decision, over time."
        )
    )


def _periods(values: RoutingValues) -> Any:
    title = "lines" if values.span is None else "time (UTC)"
    names = [period.name for period in values.periods]
    return alt.X(
        "period:N",
        sort=names,
        title=title,
        axis=alt.Axis(labelAngle=-40, labelOverlap="greedy", labelLimit=120),
    )


def _row(period: str, expert: str, share: float, decisions: int) -> dict[str, Any]:
    return {"period": period, "expert": expert, "share": number(share), "decisions": decisions}
