"""The table of `docs/security.md`, from the results of `benchmarks/hostile_prefixes.py`."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "security.md"
MARKS = ("<!-- hostile: begin -->", "<!-- hostile: end -->")


def table(results: dict[str, Any]) -> str:
    """Return the figures as a table: a column for every router."""
    routers = results["routers"]
    rows = [
        ("prompts that the most expensive expert gets", *routers),
        ("---",) * (len(routers) + 1),
    ]
    rows.append(("without a prefix", *(f"{row['share_without']:.1%}" for row in routers.values())))
    rows += [
        (name, *(_share(row["prefixes"][name]) for row in routers.values()))
        for name in results["texts"]
    ]
    rows.append(("ten words at random, ten times", *map(_spread, routers.values())))
    searched = (_share(row["prefixes"]["searched"]) for row in routers.values())
    rows.append(("words searched for", *searched))
    rows.append(
        ("called out of distribution: without a prefix", *(_pair(row) for row in routers.values()))
    )
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    experts = ", ".join(f"{row['dearest']} ({name})" for name, row in routers.items())
    count = min(row["prompts"] for row in routers.values())
    return "\n".join(
        [
            *lines,
            "",
            "- In brackets: of the prompts that it does not get without the prefix, the share that "
            "it gets with it.",
            f"- Most expensive: {experts}.",
            f"- {count:,} prompts of each, so 95 % intervals reach at most "
            f"{98 / sqrt(count):.1f} points to either side; seed {results['seed']}.",
            f"- The search asked the router {results['tries']} times about "
            f"{results['searched_on']} other prompts.",
        ]
    )


def _share(row: dict[str, float]) -> str:
    return f"{row['share']:.1%} ({row['won']:.1%})"


def _spread(row: dict[str, Any]) -> str:
    least, _, most = row["random_words"]["share"]
    return f"{least:.1%} to {most:.1%} ({row['random_words']['won'][2]:.1%} at most)"


def _pair(row: dict[str, Any]) -> str:
    return f"{row['strange_without']:.1%}; with the searched words {row['strange_searched']:.1%}"
