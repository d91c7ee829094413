"""Measure size against loss on the library that the quickstart trains.

::

    tryage quickstart --out work/quickstart
    python benchmarks/size.py work/quickstart    # results/size.json, docs/goals.md, figure
    python benchmarks/size.py --render           # fill in the page from the results that are there

The router was fitted on the quickstart's label prompts, and weights are found on them; everything
told was measured on its test prompts. Settings are the defaults.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from data import provenance
from numpy.typing import NDArray
from publishing import publish

from tryage import Goals, Router, ScoreTable
from tryage.evaluation.intervals import bootstrap_intervals
from tryage.evaluation.metrics import macro_mean, measured_cells
from tryage.report import plots

Array = NDArray[np.float64]

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "size.json"
PAGE = HERE.parent / "docs" / "goals.md"
FIGURE = HERE.parent / "docs" / "size.png"
DRAWN = "fill-mask"
"""The task whose front is drawn; the other one's experts but one are of one size."""

MARKS = ("<!-- size: begin -->", "<!-- size: end -->")

FLAGS = ("small model", "smallest model")
BUDGETS = ("loss <= 80% of best", "loss <= 100% of best")


class Shown:
    """Measures choices on the test prompts of one task, each against the best single expert."""

    def __init__(self, table: ScoreTable, sizes: dict[str, int], best: str) -> None:
        self._table, self._sizes, self._best = table, sizes, best

    def row(self, chosen: list[str]) -> dict[str, Any]:
        """Return mean loss and mean size of a choice, means over groups, with 95 % intervals."""
        table = self._table
        columns = np.array([table.experts.index(name) for name in chosen])
        best = np.full(len(table), table.experts.index(self._best))
        losses = table.losses[np.arange(len(table)), columns]
        sizes = np.array([float(self._sizes[name]) for name in chosen])
        less = losses - table.losses[np.arange(len(table)), best]
        cells, _ = measured_cells(table, None)
        figures = {"loss": losses, "parameters": sizes, "difference": less}
        ranges = bootstrap_intervals(list(figures.values()), cells, resamples=2000, seed=0)
        means = {name: macro_mean(values, cells) for name, values in figures.items()}
        intervals = {
            f"{name}_ci95": interval for name, interval in zip(figures, ranges, strict=True)
        }
        return {**means, **intervals}


def of_task(router: Router, train: ScoreTable, test: ScoreTable, task: str) -> dict[str, Any]:
    """Return the rows of one task, and its front."""
    sizes = {expert.name: int(expert.parameters or 0) for expert in router.library}
    cells, _ = measured_cells(train, None)
    best = train.experts[int(np.argmin([macro_mean(column, cells) for column in train.losses.T]))]
    shown = Shown(test, sizes, best)

    def routed(prompts: Any, goals: Goals | None = None) -> dict[str, Any]:
        decisions = router.route_batch(list(prompts), goals=goals, task=task)
        return shown.row([decision.expert for decision in decisions])

    rows = {f"best single, `{best}`": shown.row([best] * len(test)), "router": routed(test.prompts)}
    for flag in FLAGS:
        flagged = [f"{prompt} [Flag: {flag}]" for prompt in test.prompts]
        rows[f"router, `[Flag: {flag}]`"] = routed(flagged)
    weights: dict[str, float] = {}
    for budget in BUDGETS:
        goals = router.calibrate(train.prompts, budget, task=task)
        weights[budget] = goals.weights["size"]
        rows[f"router, `{budget}`"] = routed(test.prompts, goals)
    front = router.pareto(test, "size")
    if task == DRAWN:
        plots.write(front.plot(), FIGURE)
    return {"prompts": len(test), "rows": rows, "weights": weights, "front": front.to_dict()}


def run(folder: Path) -> dict[str, Any]:
    """Measure every task of a quickstart's folder, and draw the figure."""
    router = Router.from_pretrained(folder / "router")
    tables = {part: ScoreTable.read(folder / "scores" / part) for part in ("label", "test")}
    parts = {part: table.by_task(router.library) for part, table in tables.items()}
    return {
        **provenance("python benchmarks/size.py QUICKSTART"),
        "seed": 0,
        "data_sha256": {part: table.hash for part, table in tables.items()},
        "experts": {expert.name: expert.parameters for expert in router.library},
        "tasks": {
            task: of_task(router, parts["label"][task], parts["test"][task], task)
            for task in router.tasks
        },
    }


def page(results: dict[str, Any]) -> str:
    """Return the Markdown table of the results."""
    lines = [
        "| task | choice | loss (95 %) | less than the best single's, % (95 %) "
        "| mean parameters (95 %) |",
        "|---|---|---|---|---|",
    ]
    for task, figures in results["tasks"].items():
        single = next(iter(figures["rows"].values()))["loss"]
        for name, row in figures["rows"].items():
            low, high = row["loss_ci95"]
            few, many = row["parameters_ci95"]
            gained = [
                -100 * value / single for value in (row["difference"], *row["difference_ci95"])
            ]
            less = f"{gained[0]:.1f} ({gained[2]:.1f} to {gained[1]:.1f})"
            lines.append(
                f"| {task} | {name} | {row['loss']:.3f} ({low:.3f} to {high:.3f}) "
                f"| {'' if name.startswith('best single') else less} "
                f"| {row['parameters']:,.0f} ({few:,.0f} to {many:,.0f}) |"
            )
    counts = " and ".join(f"{f['prompts']} prompts of {t}" for t, f in results["tasks"].items())
    fronts = "; ".join(
        f"{task}: router {-figures['front']['aiq']:.3f}, mixtures "
        f"{-figures['front']['references']['zero_router']['aiq']:.3f}, oracle "
        f"{-figures['front']['references']['oracle']['aiq']:.3f}"
        for task, figures in results["tasks"].items()
    )
    return "\n".join(
        [
            *lines,
            "",
            f"{counts}, held out from experts and router; `{results['command']}`. Losses in bits "
            "per byte, lower is better, macro average over domains.",
            "",
            f"Mean loss under the front over the range of sizes, lower is better: {fronts}.",
        ]
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the folder of a quickstart."""
    if args.folder is None:
        raise SystemExit("name the folder that `tryage quickstart --out` wrote, or say --render")
    return run(args.folder)


def main() -> None:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("folder", nargs="?", type=Path, help="what `tryage quickstart --out` wrote")
    publish(measure, page, results=RESULTS, page=PAGE, marks=MARKS, parser=parser)


if __name__ == "__main__":
    main()
