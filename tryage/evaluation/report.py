"""The result of an evaluation: an object for machines, a table for people."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tryage.drawing.notebook import escaped, html_table
from tryage.evaluation.choices import Choices
from tryage.evaluation.doubts import Few, few_sentence
from tryage.evaluation.measured import Counts
from tryage.scores.fields import Kind

Row = dict[str, Any]
"""Figures by name: numbers, intervals as [low, high], None where there is no figure."""

REFERENCES = (
    "oracle",
    "group_best",
    "best_single",
    "clusters",
    "nearest",
    "random",
    "shuffled_labels",
)
"""The reference rows, in the order of every table."""

WIDTH = 100
"""Characters of a line of the caption."""

BOUNDS = ("oracle", "group_best", "best_single")
FITTED = ("clusters", "nearest", "shuffled_labels")


@dataclass(frozen=True)
class Evaluation:
    """A router's choices on one task's table, beside the reference rows.

    Attributes:
        kind: "scores" or "losses": whether rows hold `score` (0 to 1, higher is better) or
            `loss` (the table's unit, lower is better).
        prompts: number of prompts with a measured cell.
        groups: the router's figures on each group; empty where the table has no groups.
        router: the router's row.
        references: the rows it is compared with; None for one that cannot be made.
        paired: mean of the router's score minus the reference's (of the reference's loss minus
            the router's), with its interval: positive where the router is better.
        choices: who is chosen how often, and whether the router has collapsed onto one expert.
        prediction: agreement of predicted with measured losses; None without predictions.
        out_of_distribution: share of the prompts, 0 to 1, that the router found unlike its
            training prompts, and so chose for by the experts' averages; None where it is unknown.
        one_expert: prompts on which a single expert was measured; regret and selection accuracy do
            not count them.
        cells: measured and possible cells of these prompts.
        few: chosen experts of which too few results are there to estimate the missing ones by.
    """

    kind: Kind
    prompts: int
    groups: Mapping[str, Row]
    router: Row
    references: Mapping[str, Row | None]
    paired: Mapping[str, Row | None]
    choices: Choices
    prediction: Row | None
    out_of_distribution: float | None = None
    one_expert: int = 0
    cells: Counts | None = None
    few: tuple[Few, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The object that `tryage evaluate --json` prints for one task."""
        return copy.deepcopy(
            {
                "prompts": self.prompts,
                "groups": dict(self.groups),
                "router": self.router,
                "references": dict(self.references),
                "paired": dict(self.paired),
                "choices": self.choices.to_dict(),
                "prediction": self.prediction,
                "out_of_distribution": self.out_of_distribution,
                "one_expert": self.one_expert,
                "cells": None if self.cells is None else self.cells.to_dict(),
                "few": [row.to_dict() for row in self.few],
            }
        )

    def table(self) -> str:
        """The rows as plain text, with a caption that explains them."""
        body = _aligned([self._header(), *self._lines()])
        caption = [part for line in self._caption() for part in textwrap.wrap(line, WIDTH)]
        return "\n".join([*body, "", *caption])

    def _repr_html_(self) -> str:
        return html_table("\n".join(self._caption()), self._header(), self._lines())

    @property
    def _measure(self) -> str:
        return "score" if self.kind == "scores" else "loss"

    @property
    def _rows(self) -> dict[str, Row]:
        """The rows that exist: upper bounds first, then the router, then the baselines."""
        bounds = {name: self.references.get(name) for name in BOUNDS}
        others = {name: row for name, row in self.references.items() if name not in BOUNDS}
        rows = {**bounds, "router": self.router, **others}
        return {name: row for name, row in rows.items() if row is not None}

    def _extra(self) -> tuple[bool, bool]:
        """Whether the table needs a column of costs, and one of measured shares."""
        costs = "mean_cost" in self.router
        return costs, any((row["measured"] or 0.0) < 1.0 for row in self._rows.values())

    def _header(self) -> list[str]:
        costs, shares = self._extra()
        unit = " %" if self.kind == "scores" else ""
        header = ["", f"{self._measure}{unit}", "95 % interval", "regret", "95 % interval"]
        header += ["best chosen %", "sole best %"]
        return header + ["USD per 1,000"] * costs + ["measured %", "cells"] * shares

    def _lines(self) -> list[list[str]]:
        costs, shares = self._extra()
        lines = []
        for name, row in self._rows.items():
            mark = " *" if name in BOUNDS else ""
            line = [name.replace("_", " ") + mark]
            for figure in (self._measure, "regret"):
                line += [self._number(row[figure]), self._interval(row[f"{figure}_ci95"])]
            line += [
                _percent(row["selection_accuracy"]),
                _percent(row["strict_selection_accuracy"]),
            ]
            if costs:
                cost = row["mean_cost"]
                line.append("-" if cost is None else f"{1000 * cost:.3g}")
            if shares:
                line += [_percent(row["measured"]), f"{row['cells']:,}"]
            lines.append(line)
        return lines

    def _number(self, value: float | None) -> str:
        if value is None:
            return "-"
        return f"{100 * value:.2f}" if self.kind == "scores" else f"{value:.4f}"

    def _interval(self, interval: list[float] | None) -> str:
        if interval is None:
            return "-"
        return f"[{', '.join(map(self._number, interval))}]"

    def _caption(self) -> list[str]:
        over = f"mean over {len(self.groups)} groups" if self.groups else "no groups"
        better = "higher is better" if self.kind == "scores" else "lower is better"
        lines = [
            f"{self.prompts} prompts, {over}; {self._measure}: {better}; regret: distance to the "
            "oracle, lower is better; intervals: bootstrap over prompts.",
            "best chosen: prompts on which no expert did better than the chosen one; sole best: "
            "the same, where one alone was best.",
            "* chosen on this very table with the results known: upper bounds, not routers.",
        ]
        if self.cells is not None and not self.cells.complete:
            lines.append(
                f"{self.cells}: the others are estimated from them, and cells says how many a row "
                "rests on. The oracle is the best measured expert, and so too low; best chosen and "
                "sole best are among the measured."
            )
        if self.few:
            lines.append(f"warning: {few_sentence(self.few)}")
        if any(self.references.get(name) for name in FITTED):
            lines.append("clusters, nearest and shuffled labels are fitted on the training table.")
        else:
            lines.append(
                "clusters, nearest and shuffled labels need the training table: --train, or "
                "train= in Python."
            )
        for name, pair in self.paired.items():
            if pair is not None and pair["difference"] is not None:
                lines.append(
                    f"router against {name.replace('_', ' ')}: {self._signed(pair['difference'])} "
                    f"{self._interval(pair['ci95'])} (paired, positive: the router is better)"
                )
        if self.one_expert:
            lines.append(
                f"{self.one_expert} of the prompts have one measured expert, so there was nothing "
                "to choose: regret and selection do not count them."
            )
        if self.out_of_distribution is not None:
            lines.append(
                f"Out of distribution: {self.out_of_distribution:.1%} of the prompts, unlike all "
                "training prompts, so chosen for by the experts' averages."
            )
        return lines + self.choices.lines()

    def _signed(self, value: float) -> str:
        return ("+" if value >= 0 else "") + self._number(value)


@dataclass(frozen=True)
class TaskEvaluations:
    """The evaluations of a table with several tasks.

    Attributes:
        tasks: task → its evaluation.
    """

    tasks: Mapping[str, Evaluation]

    def to_dict(self) -> dict[str, Any]:
        """The object that `tryage evaluate --json` prints for several tasks."""
        return {"tasks": {task: evaluation.to_dict() for task, evaluation in self.tasks.items()}}

    def _repr_html_(self) -> str:
        parts = (
            f"<h4>{escaped(task)}</h4>{evaluation._repr_html_()}"
            for task, evaluation in self.tasks.items()
        )
        return "".join(parts)

    def table(self) -> str:
        """One table per task, under its name."""
        return "\n\n".join(
            f"{task}\n\n{evaluation.table()}" for task, evaluation in self.tasks.items()
        )


def of_tasks(evaluations: Mapping[str, Evaluation]) -> Evaluation | TaskEvaluations:
    """The evaluation itself where there is one task, else one per task."""
    if len(evaluations) == 1:
        return next(iter(evaluations.values()))
    return TaskEvaluations(dict(evaluations))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _aligned(lines: list[list[str]]) -> list[str]:
    """Cells padded to columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
