"""The table of `docs/runtime.md`, from the results of `benchmarks/runtime.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "runtime.md"
MARKS = ("<!-- runtime: begin -->", "<!-- runtime: end -->")


def table(results: dict[str, Any]) -> str:
    """Return the figures as a table."""
    batching, memory, own, soak = (
        results[name] for name in ("batching", "memory", "dispatch", "soak")
    )
    one_heap = results["soak_one_heap"]
    ends = ", ".join(f"{count:,} {how}" for how, count in sorted(soak["ends"].items()))
    rows = (
        (
            f"{batching['calls']} concurrent generate calls, compared with one after another",
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
            "overhead of dispatch per call: median, 95th percentile",
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
            "injected faults, and the server's own",
            f"{ends}; {soak['without_an_end']} never ended",
        ),
        (
            "threads before and after the soak",
            f"{soak['threads']['before']}, {soak['threads']['after']}",
        ),
        (
            f"memory after {soak['calls_before_it_began']:,} calls, after the soak, and after "
            f"{soak['calls_after_it_ended']:,} calls more",
            ", ".join(f"{soak['memory_mb'][when]:.1f} MB" for when in soak["memory_mb"]),
        ),
        (
            "the same with `MALLOC_ARENA_MAX=1`: memory after "
            f"{one_heap['calls_before_it_began']:,} calls, and after {one_heap['calls']:,} more",
            f"{one_heap['memory_mb']['before']:.1f} MB, {one_heap['memory_mb']['after']:.1f} MB",
        ),
    )
    lines = [f"| {what} | {figure} |" for what, figure in rows]
    machine = results["machine"]
    missed = "; ".join(results["missed"])
    caption = (
        f"- Small GPT-2 models of random weights, {machine['cpus']} CPU cores, load average "
        f"{machine['load_average_at_start']:.1f} at the start, {machine['torch_threads']} thread "
        f"of torch {results['versions']['torch']}.\n- Bounds: 3 times faster; 110% of the budget "
        "and no call failed; 0.1 ms for dispatch itself; every call ended; as many threads "
        "after as before; memory, with one heap, back within 1 MB: "
        + (f"missed {missed}." if missed else "kept.")
    )
    return "\n".join(["| measured | result |", "|---|---|", *lines, "", caption])
