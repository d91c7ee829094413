"""How far figures of a table with deleted results are from those of the whole table.

A router is fitted on half of a table's prompts and judged on the other half, whose results are
complete. Then results are deleted at random, more of some experts than of others, and the same
choices are judged again: by the estimate, and by the prompts that every expert is left on. Needs
the benchmark data.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder, provenance
from numpy.typing import NDArray
from publishing import publish

from tryage import Expert, Library, Router, ScoreTable
from tryage.evaluation import evaluate

PAGE = Path(__file__).parents[1] / "docs" / "incomplete-tables.md"
MARKS = ("<!-- incomplete: begin -->", "<!-- incomplete: end -->")
DELETED = (0.1, 0.3, 0.5)
TIMES = 200
MOST = 800
"""Prompts that a table is cut to, so that chance has its part."""

Choices = NDArray[np.intp]


def tables(folder: Path) -> Iterator[tuple[str, ScoreTable]]:
    """Return complete tables; of coding34 the experts that answered nearly all prompts."""
    for name in ("open7", "routerbench11", "coding34"):
        whole = ScoreTable.read(folder / "routing" / f"{name}_train.jsonl.gz")
        often = (~np.isnan(whole.losses)).mean(axis=0) >= 0.98
        part = whole.reorder([whole.experts[column] for column in np.flatnonzero(often).tolist()])
        rows = np.flatnonzero(~np.isnan(part.losses).any(axis=1))
        order = np.random.default_rng(0).permutation(len(rows))[:MOST]
        yield name, part.select(np.sort(rows[order]))


def halves(table: ScoreTable) -> tuple[ScoreTable, Choices]:
    """Return one half of a table, and the choices for it of a router fitted on the other."""
    order = np.random.default_rng(1).permutation(len(table))
    train, test = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    library = Library([Expert(name=name, model=name) for name in table.experts])
    router = Router.fit(table.select(train), library=library, predictor="clusters")
    part = table.select(test)
    names = [decision.expert for decision in router.route_batch(part.prompts, flags=False)]
    return part, np.array([part.experts.index(name) for name in names])


def deleted(table: ScoreTable, share: float, rng: np.random.Generator) -> ScoreTable:
    """Delete a share of the results, of the experts between half of the share and 1.5 of it."""
    rates = share * np.linspace(0.5, 1.5, len(table.experts))
    holes = rng.random(table.losses.shape) < rng.permutation(rates)
    return replace(table, losses=np.where(holes, np.nan, table.losses))


def score(table: ScoreTable, choices: Choices) -> dict[str, float]:
    """Return scores of the router and of reference rows, without intervals."""
    result = evaluate(table, choices, resamples=0)
    rows = {"router": result.router, **result.references}
    names = ("router", "best_single", "random", "oracle")
    return {name: float((rows[name] or {})["score"]) for name in names}


def measure_table(table: ScoreTable) -> dict[str, Any]:
    """Return errors and coverage at each share of deleted results."""
    part, choices = halves(table)
    whole = score(part, choices)
    groups = np.array([group or "" for group in part.groups])
    rows: dict[str, Any] = {}
    for share in DELETED:
        rng = np.random.default_rng([int(100 * share), 2])
        errors: dict[str, list[float]] = {name: [] for name in (*whole, "complete_prompts")}
        inside = 0
        for seed in range(TIMES):
            thinned = deleted(part, share, rng)
            for name, value in score(thinned, choices).items():
                errors[name].append(value - whole[name])
            left = np.flatnonzero(~np.isnan(thinned.losses).any(axis=1))
            if len(left):
                value = score(thinned.select(left), choices[left])["router"]
                errors["complete_prompts"].append(value - whole["router"])
            # The judged half stands for all prompts: draw from it, delete, and look for its mean.
            drawn = np.concatenate(
                [
                    rng.choice(np.flatnonzero(groups == group), (groups == group).sum())
                    for group in np.unique(groups)
                ]
            )
            again = evaluate(
                deleted(part.select(drawn), share, rng), choices[drawn], resamples=300, seed=seed
            )
            low, high = again.router["score_ci95"]
            inside += low <= whole["router"] <= high
        rows[str(share)] = {
            "coverage": inside / TIMES,
            **{name: _summary(values) for name, values in errors.items()},
        }
    return {"prompts": len(part), "experts": len(part.experts), "whole": whole, "deleted": rows}


def _summary(errors: list[float]) -> dict[str, float | int | None]:
    """Return mean and root mean square of errors, and of how many tables there was a figure."""
    if not errors:
        return {"tables": 0, "bias": None, "bias_error": None, "rms": None}
    values = np.array(errors)
    return {
        "tables": len(errors),
        "bias": float(values.mean()),
        "bias_error": float(values.std() / np.sqrt(len(values))),
        "rms": float(np.sqrt(np.square(values).mean())),
    }


def measure(_: argparse.Namespace) -> dict[str, Any]:
    """Measure all tables."""
    parts = {name: measure_table(table) for name, table in tables(data_folder())}
    return provenance("make bench-incomplete") | {"times": TIMES, "tables": parts}


def table_of(results: dict[str, Any]) -> str:
    """Return the Markdown table."""
    lines = [
        "| table | deleted | router's score: bias | error | of complete prompts alone: error | "
        "interval holds the mean | best single: bias | oracle: bias |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, part in results["tables"].items():
        for share, row in part["deleted"].items():
            alone = row["complete_prompts"]
            rms = "none left" if alone["rms"] is None else f"{100 * alone['rms']:.2f}"
            if 0 < alone["tables"] < results["times"]:
                rms += f" ({alone['tables']} of {results['times']})"
            router = row["router"]
            cells = [
                name,
                f"{float(share):.0%}",
                f"{100 * router['bias']:+.2f} ± {196 * router['bias_error']:.2f}",
                f"{100 * router['rms']:.2f}",
                rms,
                f"{row['coverage']:.1%}",
                f"{100 * row['best_single']['bias']:+.2f}",
                f"{100 * row['oracle']['bias']:+.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    sizes = ", ".join(
        f"{name} {part['prompts']} prompts and {part['experts']} experts"
        for name, part in results["tables"].items()
    )
    return "\n".join(
        [
            *lines,
            "",
            f"Points of score, {results['times']} deletions each; bias ± its 95 % interval. Judged "
            f"halves: {sizes}. Error: root mean square distance to the whole half; in brackets how "
            "often a complete prompt was left at all.",
        ]
    )


if __name__ == "__main__":
    publish(
        measure,
        table_of,
        results=Path(__file__).parent / "results" / "incomplete.json",
        page=PAGE,
        marks=MARKS,
        parser=argparse.ArgumentParser(description=__doc__),
    )
