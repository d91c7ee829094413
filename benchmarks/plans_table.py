"""The tables of `docs/plans.md`, from `benchmarks/plans.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "plans.md"
MARKS = ("<!-- plans: begin -->", "<!-- plans: end -->")


def table(results: dict[str, Any]) -> str:
    """Return both tables and the times."""
    coding, times = results["coding34"], results["milliseconds"]
    lines = [
        "| check | cost | router's plans | best fixed plan | affordable single | lead over it | "
        "the same, in hindsight | lead over it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in coding["checks"].items():
        lines += [_coding(name, row, share) for share in ("0.25", "0.4", "0.5")]
    best = next(iter(coding["checks"].values()))["best_single"]
    lines += [
        "",
        f"coding34: {coding['experts']} models, {coding['prompts']} prompts, "
        f"{coding['cells']['measured']:,} of {coding['cells']['possible']:,} cells measured; mean "
        f"of {coding['splits']} random halves, intervals over these. Cost in % of the best single "
        f"model's, which scores {best:.3f}. The best affordable single model is chosen on the "
        "training prompts, as plans are, or in hindsight on the judged prompts.",
        "",
        "| AIQ | router's plans | best fixed plans | single models, mixed |",
        "|---|---|---|---|",
    ]
    for name, row in coding["checks"].items():
        lines.append(
            f"| coding34, {name} | {row['aiq']:.4f} | {row['aiq_fixed']:.4f} | "
            f"{row['aiq_singles']:.4f} |"
        )
    lines += [
        "",
        "| AIQ within a task | plans, checked by agreement | prompt alone | single models, mixed |",
        "|---|---|---|---|",
    ]
    for name, row in results["agreement"].items():
        lines.append(
            f"| {name}, {row['prompts']} prompts | {row['aiq_plans']:.4f} | "
            f"{row['aiq_prompt_only']:.4f} | {row['aiq_singles']:.4f} |"
        )
    lines += [
        "",
        "routerbench11, five folds. The check asks Yi 34B and accepts an answer with the same "
        "letter.",
        "",
        f"Choosing a plan of at most three attempts takes {times['10']:.2f} ms among ten experts "
        f"and {times['100']:.2f} ms among a hundred (medians, one core).",
    ]
    return "\n".join(lines)


def _coding(name: str, row: dict[str, Any], share: str) -> str:
    cells = [name, f"{float(share):.0%}", f"{row[f'router_{share}']:.3f}"]
    cells.append(f"{row[f'fixed_{share}']:.3f}")
    for single in ("chosen", "single"):
        lead = row[f"lead_{single}_{share}"]
        low, high = 100 * lead["low"], 100 * lead["high"]
        cells.append(f"{row[f'{single}_{share}']:.3f}")
        cells.append(f"{100 * lead['mean']:+.1f} ({low:+.1f} to {high:+.1f})")
    return f"| {' | '.join(cells)} |"
