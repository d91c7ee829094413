"""The table of `docs/llama-index.md`, from the results of `benchmarks/adapters_llama_index.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "llama-index.md"
MARKS = ("<!-- adapters: begin -->", "<!-- adapters: end -->")

WAYS = {
    "chat": "`chat`",
    "complete": "`complete`",
    "stream_chat": "`stream_chat`, one chunk",
    "achat": "`achat`",
    "select": "`TryageSelector.select`, 7 tools",
}


def table(results: dict[str, Any]) -> str:
    """Return the figures as tables."""
    lines = ["| one call | direct, ms | routed, ms | added, ms |", "|---|---|---|---|"]
    for way, label in WAYS.items():
        row = results[way]
        direct = "" if way == "select" else f"{row['direct_ms']:.3f}"
        low, high = row["added_ms_ci95"]
        lines.append(
            f"| {label} | {direct} | {row['routed_ms']:.3f} "
            f"| {row['added_ms']:.3f} ({low:.3f} to {high:.3f}) |"
        )
    count, each = results["at_once"], 1e3 * results["seconds_each"]
    lines += [
        "",
        f"| `achat` of an LLM that takes {each:.0f} ms | one, ms | {count} at once, ms "
        "| times one | worst round | event loop stood still, ms |",
        "|---|---|---|---|---|---|",
    ]
    for way in ("direct", "routed"):
        row = results["concurrent"][way]
        low, high = row["fifty_over_one_ci95"]
        lines.append(
            f"| {way} | {row['one_ms']:.1f} | {row['fifty_ms']:.1f} "
            f"| {row['fifty_over_one']:.2f} ({low:.2f} to {high:.2f}) "
            f"| {row['worst_round_over_one']:.2f} | {row['loop_stood_still_ms']:.1f} |"
        )
    versions = results["versions"]
    return "\n".join(
        [
            *lines,
            "",
            f"Medians of {results['calls']} calls, each with a prompt of its own, and of "
            f"{results['rounds']} rounds, direct and routed in turns; in brackets 95 % intervals "
            f"by bootstrap. Router `{results['router']}`, llama-index-core "
            f"{versions['llama-index-core']}, Python {results['python']}, {results['machine']}, "
            f"load average {results['load_average_at_start']:.1f} at the start.",
        ]
    )
