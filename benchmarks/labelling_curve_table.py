"""The learning curve of `docs/labelling.md`, from `benchmarks/labelling_curve.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data import fill_in

PAGE = Path(__file__).parents[1] / "docs" / "labelling.md"
MARKS = ("<!-- curve: begin -->", "<!-- curve: end -->")


def table(results: dict[str, Any]) -> str:
    """Return the curve as a table."""
    kinds = list(dict.fromkeys(point["predictor"] for point in results["points"]))
    sizes = list(dict.fromkeys(point["prompts"] for point in results["points"]))
    cells = {(point["predictor"], point["prompts"]): point for point in results["points"]}
    lines = [
        f"| labelled prompts | {' | '.join(f'regret, `{kind}`' for kind in kinds)} |",
        "|" + "---|" * (len(kinds) + 1),
    ]
    for size in sizes:
        lines.append(f"| {size:,} | {' | '.join(_cell(cells[kind, size]) for kind in kinds)} |")
    for key, name in (
        ("random", "a random choice"),
        ("best_single", "the best single expert"),
        ("group_best", "the best of each group, known beforehand"),
    ):
        reference = f"{results['references'][key]:.4f}"
        lines.append(f"| {name} |" + f" {reference} |" * len(kinds))
    return "\n".join(
        [
            *lines,
            "",
            f"{results['held_out']:,} held-out prompts of open7_train, "
            f"{results['experts']} experts. Means of {results['seeds']} samples, each with its own "
            "held-out prompts; 95 % intervals in brackets.",
        ]
    )


def _cell(point: dict[str, Any]) -> str:
    low, high = point["ci95"]
    return f"{point['regret']:.4f} ({low:.4f} to {high:.4f})"


def render(results: dict[str, Any]) -> None:
    """Write the table into the page."""
    fill_in(PAGE, table(results), MARKS)
