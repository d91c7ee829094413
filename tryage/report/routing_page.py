"""The page of a file of decisions."""

from __future__ import annotations

from typing import Any

from tryage.drawing.beginnings import beginning
from tryage.drawing.names import short_names
from tryage.report.page import Figure, common, page_spec, template
from tryage.report.plots import routing as plots
from tryage.report.routing import RoutingValues
from tryage.report.tables import Cell, Table


def render_routing(values: RoutingValues) -> str:
    """Return a report on decisions as an HTML page."""
    specs = {"shares": page_spec(plots.shares(values)), "strange": page_spec(plots.strange(values))}
    if any(period.cost is not None for period in values.periods):
        specs["costs"] = page_spec(plots.costs(values))
    figures = {
        "shares": Figure("shares", "Who gets the prompts", "Share of the decisions, over time."),
        "strange": Figure(
            "strange", "Prompts unlike the training prompts", "With 95 % intervals, over time."
        ),
        "costs": Figure("costs", "Predicted cost", "Mean of the decisions, over time."),
    }
    return template("routing.html").render(
        title=f"{values.decisions:,} decisions: {beginning(values.source, 120)}",
        values=values,
        span=None if values.span is None else [f"{time:%Y-%m-%d %H:%M}" for time in values.span],
        figures={name: figure for name, figure in figures.items() if name in specs},
        tables={
            "experts": experts_table(values),
            "alone": alone_table(values),
            "kinds": kinds_table(values),
        },
        **common({"tasks": [{"specs": specs}]}),
    )


def experts_table(values: RoutingValues) -> Table:
    """Return how often each expert was chosen, and what was predicted there."""
    with_answers = any(one.answered is not None for one in values.experts)
    rows = []
    for one in values.experts:
        cells = [
            Cell(one.expert),
            Cell(f"{one.count:,}", one.count),
            Cell(f"{100 * one.share:.1f}", one.share),
            _number(one.loss, "{:.4f}"),
            _number(None if one.cost is None else 1000 * one.cost, "{:.4g}"),
        ]
        if with_answers:
            cells.append(_number(one.answered, "{:,}"))
        rows.append(tuple(cells))
    heads = ("expert", "decisions#", "share, %#", "predicted loss#", "USD per 1,000#")
    return Table(
        "experts",
        "How often each expert was chosen, with the mean predicted loss and cost of those "
        "decisions.",
        (*heads, *(["answered#"] if with_answers else [])),
        tuple(rows),
    )


def alone_table(values: RoutingValues) -> Table | None:
    """Return what always asking one expert would have come to."""
    if not values.alone:
        return None
    rows = []
    for one in values.alone:
        rows.append(
            (
                Cell(f"always {one.expert}"),
                Cell(f"{one.compared:,}", one.compared),
                _number(None if one.loss is None else -one.loss, "{:+.4f}"),
                _number(None if one.saved is None else 1000 * one.saved, "{:+.4g}"),
                _number(None if one.saved_share is None else 100 * one.saved_share, "{:+.1f}"),
            )
        )
    return Table(
        "alone",
        "What the decisions gained over always asking one expert, by the predictions: less "
        "predicted loss, and USD saved. Only decisions whose line names the expert in its ranking "
        "are compared; logs keep the first five.",
        ("", "compared#", "less loss#", "saved, USD per 1,000#", "saved, %#"),
        tuple(rows),
    )


def kinds_table(values: RoutingValues) -> Table | None:
    """Return the kinds of prompts, with their typical words and who gets them."""
    if not values.kinds:
        return None
    rows = []
    for kind in values.kinds:
        names = short_names(list(kind.chosen))
        chosen = ", ".join(
            f"{name} {share:.0%}"
            for name, share in list(zip(names, kind.chosen.values(), strict=True))[:3]
        )
        rows.append(
            (
                Cell(", ".join(kind.words) or "(no word occurs in five prompts)"),
                Cell(f"{kind.prompts:,}", kind.prompts),
                Cell(f"{100 * kind.share:.1f}", kind.share),
                Cell(chosen),
                Cell(f"{100 * kind.strange:.1f}", kind.strange),
            )
        )
    return Table(
        "kinds",
        "Clusters of similar prompts, with words that are typical of each.",
        ("typical words", "different prompts#", "share, %#", "chosen", "out of distribution, %#"),
        tuple(rows),
    )


def _number(value: Any, form: str) -> Cell:
    return Cell("–") if value is None else Cell(form.format(value), float(value))
