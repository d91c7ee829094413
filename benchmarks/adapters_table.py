"""The table of `docs/langchain.md`, from the results of `benchmarks/adapters.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "langchain.md"
MARKS = ("<!-- adapters: begin -->", "<!-- adapters: end -->")

WAYS = {
    "direct": "the model itself",
    "lambda": "a pass-through `RunnableLambda`",
    "ChatTryage": "`ChatTryage`",
    "TryageRouter": "`TryageRouter`",
}


def table(results: dict[str, Any]) -> str:
    """Return the figures as tables."""
    bounds = results["bounds"]
    lines = [
        "| way to a chat model that answers at once | `invoke`, ms | beyond the lambda, ms "
        f"| `batch` of {results['batch']}, ms a prompt | beyond the lambda, ms |",
        "|---|---|---|---|---|",
    ]
    for way, label in WAYS.items():
        one, many = results["invoke_ms"][way], results["batch_ms_per_prompt"][way]
        lines.append(
            f"| {label} | {one['median']:.3f} | {_added(one)} | {many['median']:.3f} "
            f"| {_added(many)} |"
        )
    lines += [
        "",
        f"| `ainvoke` of a model that takes {1e3 * results['seconds_each']:.0f} ms | one, ms "
        f"| {results['at_once']} at once, ms | times one |",
        "|---|---|---|---|",
    ]
    for way, label in WAYS.items():
        row = results["concurrent"][way]
        low, high = row["ratio_ci95"]
        lines.append(
            f"| {label} | {row['one_ms']:.1f} | {row['fifty_ms']:.1f} "
            f"| {row['ratio']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    missed = ", ".join(results["missed"]) or "none is missed"
    versions = results["versions"]
    return "\n".join(
        [
            *lines,
            "",
            f"- Bounds: {bounds['invoke_ms']:g} ms and {bounds['batch_ms_per_prompt']:g} ms a "
            f"prompt beyond the lambda, {bounds['concurrent_ratio']:g} times one call for Tryage: "
            f"{missed}.",
            f"- Medians of {results['calls']} calls, {results['batches']} batches and "
            f"{results['rounds']} rounds, the ways in turns, after a warm-up; in brackets 95 % "
            "intervals by bootstrap.",
            f"- Router `{results['router']}`, langchain-core {versions['langchain-core']}, Python "
            f"{results['python']}, {results['machine']}, load average "
            f"{results['load_average_at_start']:.1f} at the start.",
        ]
    )


def _added(row: dict[str, Any]) -> str:
    if "added" not in row:
        return ""
    low, high = row["added_ci95"]
    return f"{row['added']:.3f} ({low:.3f} to {high:.3f})"
