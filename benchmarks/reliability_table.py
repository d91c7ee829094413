"""The table of `docs/security.md` on reliability, from `benchmarks/reliability_run.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "security.md"
MARKS = ("<!-- reliability: begin -->", "<!-- reliability: end -->")


def table(results: dict[str, Any]) -> str:
    """Return a row for every file of tests: what was tried, how often, and what failed."""
    rows = [
        "| what was tried | cases | tests | failed |",
        "|---|---|---|---|",
        *(
            f"| {row['part']} | {row['cases']:,} | {row['tests']:,} | {row['failed']} |"
            for row in results["parts"]
        ),
    ]
    cases = sum(row["cases"] for row in results["parts"])
    failed = sum(row["failed"] for row in results["parts"])
    return "\n".join(
        [
            *rows,
            "",
            f"{cases:,} cases, `--cases {results['times']:g}` (1 is what the tests try); {failed} "
            "tests failed. A test ends at its first case that fails. "
            f"{results['minutes']:g} minutes on {results['machine']}.",
        ]
    )
