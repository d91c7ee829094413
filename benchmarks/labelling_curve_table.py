"""The learning curve of `docs/labelling.md`, from `benchmarks/labelling_curve.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data import fill_in

PAGE = Path(__file__).parents[1] / "docs" / "labelling.md"
MARKS = ("<!-- curve: begin -->", "<!-- curve: end -->")


def table(found: dict[str, Any]) -> str:
    """Return the curve as a table."""
    kinds = list(dict.fromkeys(point["predictor"] for point in found["points"]))
    sizes = list(dict.fromkeys(point["prompts"] for point in found["points"]))
    cells = {(point["predictor"], point["prompts"]): point for point in found["points"]}
    lines = [
        f"| labelled prompts | {' | '.join(f'regret, `{kind}`' for kind in kinds)} |",
        "|" + "---|" * (len(kinds) + 1),
    ]
    for size in sizes:
        lines.append(f"| {size:,} | {' | '.join(_cell(cells[kind, size]) for kind in kinds)} |")
    references = found["references"]
    return "\n".join(
        [
            *lines,
            "",
            f"Held out: {found['held_out']:,} prompts of open7_train, {found['experts']} experts; "
            f"mean of {found['seeds']} samples, each with held-out prompts of its own, in brackets "
            f"its 95 % interval. On the same prompts a random choice has a regret of "
            f"{references['random']:.4f}, the best single expert "
            f"{references['best_single']:.4f}, the best of each group, known beforehand, "
            f"{references['group_best']:.4f}.",
        ]
    )


def _cell(point: dict[str, Any]) -> str:
    low, high = point["ci95"]
    return f"{point['regret']:.4f} ({low:.4f} to {high:.4f})"


def render(found: dict[str, Any]) -> None:
    """Write the table into the page."""
    fill_in(PAGE, table(found), MARKS)
