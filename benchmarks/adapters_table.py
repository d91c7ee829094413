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


def table(found: dict[str, Any]) -> str:
    """Return the figures as tables."""
    bounds = found["bounds"]
    lines = [
        "| way to a chat model that answers at once | `invoke`, ms | beyond the lambda, ms "
        f"| `batch` of {found['batch']}, ms a prompt | beyond the lambda, ms |",
        "|---|---|---|---|---|",
    ]
    for way, told in WAYS.items():
        one, many = found["invoke_ms"][way], found["batch_ms_per_prompt"][way]
        lines.append(
            f"| {told} | {one['median']:.3f} | {_added(one)} | {many['median']:.3f} "
            f"| {_added(many)} |"
        )
    lines += [
        "",
        f"| `ainvoke` of a model that takes {1e3 * found['seconds_each']:.0f} ms | one, ms "
        f"| {found['at_once']} at once, ms | times one |",
        "|---|---|---|---|",
    ]
    for way, told in WAYS.items():
        row = found["concurrent"][way]
        low, high = row["ratio_ci95"]
        lines.append(
            f"| {told} | {row['one_ms']:.1f} | {row['fifty_ms']:.1f} "
            f"| {row['ratio']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    missed = ", ".join(found["missed"]) or "none is missed"
    versions = found["versions"]
    return "\n".join(
        [
            *lines,
            "",
            f"Bounds: {bounds['invoke_ms']:g} ms and {bounds['batch_ms_per_prompt']:g} ms a prompt "
            f"beyond the lambda, {bounds['concurrent_ratio']:g} times one call for Tryage: "
            f"{missed}. Medians of {found['calls']} calls, {found['batches']} batches and "
            f"{found['rounds']} rounds, the ways in turns, after a warm-up; in brackets 95 % "
            f"intervals by bootstrap. Router `{found['router']}`, langchain-core "
            f"{versions['langchain-core']}, Python {found['python']}, {found['machine']}, load "
            f"average {found['load_average_at_start']:.1f} at the start.",
        ]
    )


def _added(row: dict[str, Any]) -> str:
    if "added" not in row:
        return ""
    low, high = row["added_ci95"]
    return f"{row['added']:.3f} ({low:.3f} to {high:.3f})"
