"""The tables and the picture of `docs/cotraining.md`, from `benchmarks/cotraining.py`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from data import fill_in

from tryage.drawing.charts import PALETTE, alt, inline
from tryage.drawing.charts import write as write_chart

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "cotraining.md"
PICTURE = ROOT / "docs" / "cotraining.png"
MARKS = ("<!-- cotraining: begin -->", "<!-- cotraining: end -->")

STARTS = {
    "equal": "four equal experts",
    "mixtures": "four experts, each of two random domains",
    "paper": "six of the paper's experts",
}
"""Starts, as the page names them."""

ARMS = {
    "frozen": "experts frozen",
    "router": "**router assigns**",
    "joint": "**by gradient**",
    "random": "random assignment",
    "labels": "domain labels assign",
    "single": "one model of their total size",
}
"""Arms, as the page names them."""

_QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""97.5 % quantile of Student's t for a number of seeds."""

Cell = Mapping[str, Any]


def mean_and_interval(values: Sequence[float]) -> str:
    """Return the mean over seeds with its 95 % interval by Student's t; one seed has none."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:+.3f}"
    half = _QUANTILES[len(values)] * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


def losses(cell: Cell) -> list[float]:
    """Return the held-out loss after each round, from 0."""
    return [one["held_out_loss"] for one in cell["rounds"]]


def changes(cell: Cell) -> list[float]:
    """Return the difference of each round's held-out loss to that of round 0."""
    return [loss - losses(cell)[0] for loss in losses(cell)]


def of(cells: Iterable[Cell], start: str, arm: str) -> list[Cell]:
    """Return the cells of a start and an arm."""
    return [cell for cell in cells if (cell["start"], cell["arm"]) == (start, arm)]


def loss_table(cells: Sequence[Cell]) -> str:
    """Return the table of losses; what stands against random is paired by seed."""
    lines = [
        "| start | arm | seeds | before | after | change | against random assignment |",
        "|---|---|---|---|---|---|---|",
    ]
    for start, arm in ((start, arm) for start in STARTS for arm in ARMS):
        own = of(cells, start, arm)
        if not own:
            continue
        first = [losses(cell)[0] for cell in own]
        last = [losses(cell)[-1] for cell in own]
        change = [b - a for a, b in zip(first, last, strict=True)]
        by_chance = {cell["seed"]: losses(cell)[-1] for cell in of(cells, start, "random")}
        gaps = [
            losses(cell)[-1] - by_chance[cell["seed"]] for cell in own if cell["seed"] in by_chance
        ]
        row = [
            STARTS[start],
            ARMS[arm],
            str(len(own)),
            f"{np.mean(first):.3f}",
            f"{np.mean(last):.3f}",
            mean_and_interval(change),
            mean_and_interval(gaps) if gaps and arm != "random" else "-",
        ]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def specialising_table(cells: Sequence[Cell]) -> str:
    """Return what the choice tells of the domain, in bits, before and after."""
    lines = [
        "| start | arm | bits before | bits after | largest share after | updates rolled back |",
        "|---|---|---|---|---|---|",
    ]
    for start, arm in ((start, arm) for start in STARTS for arm in ARMS):
        own = [cell for cell in of(cells, start, arm) if "shares" in cell["rounds"][0]]
        if not own:
            continue
        before = np.mean([cell["rounds"][0]["mutual_information"] for cell in own])
        after = np.mean([cell["rounds"][-1]["mutual_information"] for cell in own])
        share = np.mean([max(cell["rounds"][-1]["shares"].values()) for cell in own])
        undone = sum(len(one["rolled_back"]) for cell in own for one in cell["rounds"])
        row = [STARTS[start], ARMS[arm], f"{before:.2f}", f"{after:.2f}", f"{share:.0%}"]
        lines.append(f"| {' | '.join([*row, str(undone)])} |")
    return "\n".join(lines)


def matrix(cell: Cell) -> str:
    """Return the losses of one run by domain and expert, before → after."""
    first, last = cell["rounds"][0]["matrix"], cell["rounds"][-1]["matrix"]
    names = list(cell["mixtures"])
    lines = [f"| domain | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for domain in first:
        values = [f"{first[domain][name]:.2f} → {last[domain][name]:.2f}" for name in names]
        lines.append(f"| {domain} | {' | '.join(values)} |")
    return "\n".join(lines)


def text(results: Mapping[str, Any]) -> str:
    """Return all that the page says of the results."""
    cells = results["cells"]
    parts = [
        "![Change of the routed held-out loss after each round, by start and arm](cotraining.png)",
        loss_table(cells),
        "What the chosen expert tells of the domain, of "
        f"{math.log2(len(results['domains'])):.2f} bits at most:",
        specialising_table(cells),
    ]
    for start in ("equal", "mixtures"):
        shown = [cell for cell in of(cells, start, "router") if cell["seed"] == 0]
        for cell in shown:
            parts += [f"Loss by domain and expert, {STARTS[start]}, seed 0:", matrix(cell)]
    if results["missing"]:
        missing, everything = len(results["missing"]), len(results["missing"]) + len(cells)
        parts.append(
            f"{missing} of {everything} runs are missing: "
            "the rows with fewer than three seeds, and arms without a row. "
            "`make bench-cotraining` goes on where it stopped."
        )
    return "\n\n".join(parts)


def draw(cells: Sequence[Cell]) -> Any:
    """Return the chart of the rounds: mean change over seeds, a panel for each start."""
    names = {arm: name.strip("*") for arm, name in ARMS.items()}
    panels = []
    for start, title in STARTS.items():
        rows = [
            {"round": number, "loss": float(np.mean(values)), "arm": names[arm]}
            for arm in ARMS
            if (own := of(cells, start, arm))
            for number, values in enumerate(zip(*map(changes, own), strict=True))
        ]
        scale = alt.Scale(domain=list(names.values()), range=list(PALETTE[: len(names)]))
        chart = alt.Chart(inline(rows), title=title, width=230, height=240)
        panels.append(
            chart.mark_line(point=True).encode(
                x=alt.X("round:O", title="round", axis=alt.Axis(labelAngle=0)),
                y=alt.Y("loss:Q", title="change of held-out bits per byte"),
                color=alt.Color("arm:N", title=None, scale=scale),
            )
        )
    return alt.hconcat(*panels)


def write(results: Mapping[str, Any]) -> None:
    """Fill in the page, and draw its picture."""
    write_chart(draw(results["cells"]), PICTURE)
    fill_in(PAGE, text(results), MARKS)
