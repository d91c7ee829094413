"""The table of `docs/labelling.md`, from the results of `benchmarks/labelling.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data import fill_in

PAGE = Path(__file__).parents[1] / "docs" / "labelling.md"
MARKS = ("<!-- labelling: begin -->", "<!-- labelling: end -->")


def table(results: dict[str, Any]) -> str:
    """Return the figures as a table."""
    speed, compared, prompts = results["speed"], results["compared"], results["prompts"]
    rates, apart = speed["cells_per_s"], speed["largest_difference"]
    busy = results["ray"]["seconds"] - results["ray"]["start_up_s"]
    low, high = compared["ray_over_local_ci95"]
    rows = (
        (
            "`label`, cells (a prompt under an expert) per second",
            f"{rates['label']:,.0f}",
        ),
        (
            f"against a loop prompt by prompt ({rates['prompt_by_prompt']:,.0f} cells per second)",
            f"{_times(speed['over_prompt_by_prompt'])} faster; losses differ by at most "
            f"{apart['prompt_by_prompt']:.0e}",
        ),
        (
            "against a loop with batches of 32 in the given order "
            f"({rates['batches_of_32']:,.0f} cells per second)",
            f"{_times(speed['over_batches_of_32'])} faster; losses differ by at most "
            f"{apart['batches_of_32']:.0e}",
        ),
        (
            f"peak memory with {prompts // 10:,} and with {prompts:,} prompts",
            f"{results['few']['peak_mb']:,.0f} MB and {results['local']['peak_mb']:,.0f} MB "
            f"({compared['memory_many_over_few'] - 1:+.1%})",
        ),
        (
            f"{prompts:,} prompts under all experts, local engine",
            f"{results['local']['seconds']:,.0f} s",
        ),
        (
            "resuming the finished run: nothing is measured",
            f"{max(one['seconds'] for one in results['again']):.1f} s "
            f"({compared['resume_share']:.1%} of the run)",
        ),
        (
            f"the same {prompts:,} prompts by the Ray engine on this machine",
            f"{busy:,.0f} s after {results['ray']['start_up_s']:.0f} s of start-up: "
            f"{compared['ray_over_local']:.2f} ({low:.2f} to {high:.2f}) times the local engine; "
            f"losses differ by at most {compared['ray_largest_difference']:.0e}",
        ),
    )
    alone = speed.get("one_worker_over_prompt_by_prompt")
    if alone is not None:
        what = f"`label` on one core ({rates['label_one_worker']:,.0f} cells per second)"
        one = (what, f"{_times(alone)} faster than the loop prompt by prompt")
        rows = (*rows[:3], one, *rows[3:])
    lines = [f"| {what} | {figure} |" for what, figure in rows]
    machine = results["machine"]
    caption = (
        f"The quickstart's {results['experts']} experts, {machine['cpus']} CPU cores, torch "
        f"{results['versions']['torch']}. {speed['rounds']} rounds of "
        f"{speed['cells_per_round']:,} cells; 95 % intervals in brackets, over rounds, for Ray "
        "over experts."
    )
    return "\n".join(["| measured | result |", "|---|---|", *lines, "", caption])


def _times(row: dict[str, Any]) -> str:
    low, high = row["ci95"]
    return f"{row['times_faster']:.1f} ({low:.1f} to {high:.1f}) times"


def render(results: dict[str, Any]) -> None:
    """Write the table into the page."""
    fill_in(PAGE, table(results), MARKS)
