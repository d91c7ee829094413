"""The table of `docs/runtime.md`, from the results of `benchmarks/runtime.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "runtime.md"
BEGIN, END = "<!-- runtime: begin -->", "<!-- runtime: end -->"


def table(found: dict[str, Any]) -> str:
    """Return the figures as a table."""
    batching, memory, own, soak = (
        found[name] for name in ("batching", "memory", "dispatch", "soak")
    )
    ends = ", ".join(f"{count:,} {how}" for how, count in sorted(soak["ends"].items()))
    rows = (
        (
            f"{batching['calls']} generate calls at once, beside one after another",
            f"{batching['times_faster']:.1f} times faster, "
            f"{'the same answers' if batching['same_answers'] else 'other answers'}",
        ),
        (
            f"{memory['models']} models of {memory['models_mb']:.0f} MB together within "
            f"{memory['budget_mb']:.0f} MB, {memory['calls']:,} calls at random",
            f"at most {memory['peak_above_idle_mb']:.0f} MB above idle "
            f"({memory['peak_over_budget']:.0%} of the budget), {memory['loads']} loads, "
            f"{memory['failed']} calls failed",
        ),
        (
            "what dispatch adds to a call: median, 95th percentile",
            f"{own['dispatch']['median_ms']:.3f} ms, {own['dispatch']['p95_ms']:.3f} ms",
        ),
        (
            "the same with a time-out (a thread per call)",
            f"{own['dispatch_with_time_out']['median_ms']:.3f} ms, "
            f"{own['dispatch_with_time_out']['p95_ms']:.3f} ms",
        ),
        (
            "the same, asynchronous, with a time-out",
            f"{own['adispatch_with_time_out']['median_ms']:.3f} ms, "
            f"{own['adispatch_with_time_out']['p95_ms']:.3f} ms",
        ),
        (
            f"soak of {soak['calls']:,} mixed calls, {sum(soak['faults_injected'].values()):,} "
            "faults injected, and those of the server",
            f"{ends}; {soak['without_an_end']} without an end",
        ),
        (
            "threads before and after the soak",
            f"{soak['threads']['before']}, {soak['threads']['after']}",
        ),
        (
            f"memory after {soak['calls_before_it_began']:,} calls, and after the soak",
            f"{soak['memory_mb']['before']:.0f} MB, {soak['memory_mb']['after']:.0f} MB",
        ),
    )
    lines = [f"| {what} | {figure} |" for what, figure in rows]
    machine = found["machine"]
    caption = (
        f"Small GPT-2 models of random weights, {machine['cpus']} CPU cores shared with other "
        f"work, {machine['torch_threads']} thread of torch {found['versions']['torch']}."
    )
    return "\n".join(["| measured | result |", "|---|---|", *lines, "", caption])


def render(found: dict[str, Any]) -> None:
    """Write the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}", encoding="utf-8")
