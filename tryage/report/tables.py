"""The tables of a report: captions, columns and cells, each with the number it is sorted by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tryage.drawing.names import short_names
from tryage.evaluation.doubts import few_sentence
from tryage.evaluation.measured import Counts
from tryage.evaluation.pareto import PlacedFront
from tryage.evaluation.report import BOUNDS, Evaluation
from tryage.goals import find_goal
from tryage.report.values import Separation, TaskValues


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it shows.
        value: what it is sorted by; None sorts it by its text.
        explanation: text that is shown when the reader opens it; None has none.
    """

    text: str = field(repr=False)
    value: float | None = None
    explanation: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Table:
    """A table with a caption.

    Attributes:
        name: short, for ids.
        caption: what it shows.
        columns: heads; those of numbers end in "#", which is not shown.
        rows: cells, the first of each row being its head.
        marks: for each row what filters go by: positions of its group and expert; may be empty.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    marks: tuple[tuple[int, int], ...] = ()


def summary(values: TaskValues) -> Table:
    """Return the rows of the evaluation, best first as they are in `Evaluation.table`."""
    evaluation, measure = values.evaluation, values.measure
    priced = "mean_cost" in evaluation.router
    rows = []
    for name, row in {"router": evaluation.router, **evaluation.references}.items():
        if row is None:
            continue
        cells = [
            Cell(name.replace("_", " ") + (" *" if name in BOUNDS else "")),
            _figure(values, row[measure]),
            _interval(values, row[f"{measure}_ci95"]),
            _figure(values, row["regret"]),
            _interval(values, row["regret_ci95"]),
            _percent(row["selection_accuracy"]),
            _percent(row["strict_selection_accuracy"]),
            _percent(row["measured"]),
            Cell(f"{row['cells']:,}", row["cells"]),
        ]
        if priced:
            cost = row["mean_cost"]
            cells.append(Cell("–") if cost is None else Cell(f"{1000 * cost:.4g}", cost))
        rows.append(tuple(cells))
    better = "higher is better" if values.scored else "lower is better"
    over = f"mean over {len(values.groups)} groups" if values.grouped else "mean over all prompts"
    return Table(
        "summary",
        f"The router beside reference rows: {evaluation.prompts:,} prompts, {over}. {measure}: "
        f"{better}. Regret: distance to the best choice, lower is better. Intervals: 95 %, "
        "bootstrap over prompts. Best chosen: prompts on which no other expert is better; sole "
        "best: of those on which all others are worse. * chosen with these results known: "
        f"an upper bound, not a router.{_uncounted(evaluation.one_expert)}"
        f"{_rest(evaluation)}",
        (
            "",
            f"{measure}{_unit(values)}#",
            "95 %",
            f"regret{_unit(values)}#",
            "95 %",
            "best chosen, %#",
            "sole best, %#",
            "measured, %#",
            "cells#",
            *(["USD per 1,000#"] if priced else []),
        ),
        tuple(rows),
    )


def paired(values: TaskValues) -> Table | None:
    """Return the paired differences, positive where the router is better."""
    rows = [
        (
            Cell(name.replace("_", " ")),
            _figure(values, pair["difference"], signed=True),
            _interval(values, pair["ci95"], signed=True),
        )
        for name, pair in values.evaluation.paired.items()
        if pair is not None and pair["difference"] is not None
    ]
    if not rows:
        return None
    return Table(
        "paired",
        f"The router's {values.measure} against that of other rows, prompt by prompt; positive: "
        "the router is better.",
        ("against", f"difference{_unit(values)}#", "95 %"),
        tuple(rows),
    )


def by_group(values: TaskValues) -> Table | None:
    """Return the router's figures on each group."""
    if not values.grouped:
        return None
    measure, names = values.measure, short_names(values.experts)
    rows = []
    for name, row in values.evaluation.groups.items():
        column = values.groups.index(name)
        mean = values.by_group.mean[column]
        best = int(np.nanargmin(-mean if values.scored else mean))
        rows.append(
            (
                Cell(name),
                Cell(f"{row['prompts']:,}", row["prompts"]),
                _figure(values, row[measure]),
                _figure(values, row["regret"]),
                _percent(row["selection_accuracy"]),
                Cell(names[best]),
                _figure(values, float(mean[best])),
            )
        )
    return Table(
        "groups",
        "The router on each group, and the expert with the best mean there.",
        (
            "group",
            "prompts#",
            f"{measure}{_unit(values)}#",
            f"regret{_unit(values)}#",
            "best chosen, %#",
            "best expert there",
            f"its {measure}{_unit(values)}#",
        ),
        tuple(rows),
    )


def experts(values: TaskValues) -> Table:
    """Return how often each expert is chosen, is among the best, and was measured."""
    choices = values.evaluation.choices
    n = len(values.prompts)
    rows = []
    for column, name in enumerate(values.experts):
        cells = int(values.measured[column])
        rows.append(
            (
                Cell(name),
                _percent(choices.chosen.get(name, 0.0)),
                _percent(choices.among_best.get(name)),
                Cell(f"{cells:,}", cells),
                _percent(cells / n if n else None),
            )
        )
    return Table(
        "experts",
        "How often each expert is chosen, how often no other is better, and how many measured "
        "cells its figures rest on.",
        ("expert", "chosen, %#", "among the best, %#", "measured cells#", "of the prompts, %#"),
        tuple(rows),
    )


def worst(values: TaskValues) -> Table | None:
    """Return the choices with the highest regret, with what the router saw."""
    if not values.worst:
        return None
    prompts, rows, marks = values.prompts, [], []
    names, groups = [*short_names(values.experts), "nobody"], short_names(values.groups)
    for choice in values.worst:
        row = choice.row
        group, chosen, best = int(prompts.group[row]), int(prompts.chosen[row]), prompts.best[row]
        text = "(left out)" if prompts.beginning is None else prompts.beginning[row]
        rows.append(
            (
                Cell(text, explanation=choice.explanation),
                Cell(groups[group]),
                Cell(names[chosen]),
                Cell(names[int(best)]),
                Cell(f"{prompts.regret[row]:.3f}", float(prompts.regret[row])),
                Cell("yes" if prompts.ood[row] else "no"),
            )
        )
        marks.append((group, chosen))
    return Table(
        "worst",
        f"The {len(rows)} choices with the highest regret.",
        ("prompt", "group", "chosen", "best measured", "regret#", "out of distribution"),
        tuple(rows),
        tuple(marks),
    )


def separation(figures: Sequence[Separation]) -> Table | None:
    """Return cluster purity and silhouette beside their shuffled controls."""
    if not figures:
        return None
    meaning = {
        "purity": "purity: share of prompts in clusters where their group is the largest",
        "silhouette": "silhouette of the groups, −1 to 1",
    }
    return Table(
        "separation",
        "How far the groups separate in the router's view, which was never told them; the control "
        "shuffles the groups among the prompts.",
        ("", "value#", "95 %", "shuffled#", "95 % of shuffles"),
        tuple(
            (
                Cell(meaning[one.measure]),
                Cell(f"{one.value:.3f}", one.value),
                Cell(f"{one.ci95[0]:.3f} to {one.ci95[1]:.3f}", one.ci95[0]),
                Cell(f"{one.shuffled:.3f}", one.shuffled),
                Cell(f"{one.shuffled_ci95[0]:.3f} to {one.shuffled_ci95[1]:.3f}"),
            )
            for one in figures
        ),
    )


def front(values: TaskValues, placed: PlacedFront) -> Table:
    """Return single experts and this router, as points of a front."""
    goal_name = placed.front.goals[0]
    goal = find_goal(goal_name)

    def value(amount: float) -> Cell:
        return Cell(f"{amount:.4g}" if goal is None else goal.format(amount), amount)

    singles = placed.front.singles
    rows = [
        (
            Cell(f"this router, with the weight {goal_name}={placed.weight:g}"),
            _figure(values, 1.0 - placed.loss if values.scored else placed.loss),
            value(placed.value),
        )
    ]
    for name, quality, (amount,) in zip(
        placed.front.experts,
        placed.front.quality(singles).tolist(),
        singles.values.tolist(),
        strict=True,
    ):
        rows.append((Cell(f"always {name}"), _figure(values, quality), value(amount)))
    return Table(
        f"front-{goal_name}",
        f"Mean {values.measure} and mean {goal_name} on {placed.front.prompts:,} prompts; "
        f"{placed.front.cells}{_estimated(placed.front.cells)}.",
        ("", f"{values.measure}{_unit(values)}#", f"{goal_name}#"),
        tuple(rows),
    )


def plans(values: TaskValues) -> Table | None:
    """Return what plans with a check attain, beside the reference rows."""
    figures: Any = values.plans
    if figures is None:
        return None
    rows = []
    for name, row in {"router": figures["router"], **figures["references"]}.items():
        experts_shown = row.get("experts", "")
        plan = " > ".join(experts_shown) if isinstance(experts_shown, list) else experts_shown
        rows.append(
            (
                Cell(name.replace("_", " ")),
                _figure(values, row["score"]),
                _interval(values, row["score_ci95"]),
                Cell(f"{1000 * row['mean_cost']:.4g}", row["mean_cost"]),
                Cell(str(plan)),
            )
        )
    check = figures["check"]
    return Table(
        "plans",
        f"Plans: experts are tried until the check accepts an answer; it accepts "
        f"{check['accepts_right']:.0%} of right and {check['accepts_wrong']:.0%} of wrong answers. "
        f"{figures['prompts']:,} prompts, {figures['attempts']:.2f} attempts each on average; "
        "exact expected values.",
        ("", "score, %#", "95 %", "USD per 1,000#", "experts"),
        tuple(rows),
    )


def _estimated(cells: Counts) -> str:
    return "" if cells.complete else ", the others estimated from them"


def _rest(evaluation: Evaluation) -> str:
    """Return how many cells the figures rest on, and what was measured too seldom."""
    if evaluation.cells is None or evaluation.cells.complete:
        return ""
    few = f" Warning: {few_sentence(evaluation.few)}." if evaluation.few else ""
    return (
        f" {evaluation.cells}{_estimated(evaluation.cells)}; cells: how many a row rests on. The "
        f"oracle, best chosen and sole best are of the measured experts.{few}"
    )


def _uncounted(prompts: int) -> str:
    if not prompts:
        return ""
    return (
        f" {prompts:,} of the prompts have one measured expert, so there was nothing to choose: "
        "regret and choices do not count them."
    )


def _unit(values: TaskValues) -> str:
    return ", %" if values.scored else ""


def _written(values: TaskValues, value: float, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{100 * value:{sign}.2f}" if values.scored else f"{value:{sign}.4f}"


def _figure(values: TaskValues, value: float | None, *, signed: bool = False) -> Cell:
    if value is None or not np.isfinite(value):
        return Cell("–")
    return Cell(_written(values, value, signed), value)


def _interval(values: TaskValues, interval: Any, *, signed: bool = False) -> Cell:
    if interval is None:
        return Cell("–")
    low, high = interval
    text = f"{_written(values, low, signed)} to {_written(values, high, signed)}"
    return Cell(text, low)


def _percent(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(f"{100 * value:.1f}", value)
