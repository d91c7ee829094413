"""The table of `docs/conversations.md`, from `benchmarks/sticky.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "conversations.md"
MARKS = ("<!-- sticky: begin -->", "<!-- sticky: end -->")


def table(results: dict[str, Any]) -> str:
    """Return the table."""
    lines = [
        "| weight on cost | `sticky=` | switches | inside tool loops | USD per 1000 talks | "
        "mean score | loss + weighted cost |",
        "|---|---|---|---|---|---|---|",
    ]
    for weight, rows in results["rows"].items():
        best = min(row["loss_and_weighted_cost"] for row in rows.values())
        for name, row in rows.items():
            total = f"{row['loss_and_weighted_cost']:.3f}"
            cells = [
                weight,
                f"`{name}`",
                f"{row['switches']:.2f}",
                f"{row['inside_tools']:.2f}",
                f"{1000 * row['usd_per_conversation']:.1f}",
                f"{row['score']:.3f}",
                f"**{total}**" if row["loss_and_weighted_cost"] == best else total,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write(results: dict[str, Any]) -> None:
    """Put the table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    page = f"{before}{MARKS[0]}\n{table(results)}\n{MARKS[1]}{after}"
    PAGE.write_text(page, encoding="utf-8")
