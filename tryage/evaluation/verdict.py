"""The verdict on a router: is it better than always asking the best single model?

It is made from choices for held-out prompts, so that whatever chose had not seen their results. The
best single expert is the best of the whole table, held-out prompts included: if that favours
anybody, then the single expert.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from tryage.evaluation.intervals import bootstrap_intervals
from tryage.evaluation.measured import NO_GROUP, estimated, group_places, is_measured
from tryage.evaluation.metrics import (
    Array,
    Indices,
    Measured,
    macro_mean,
    mean_over,
    measured_cells,
)
from tryage.evaluation.references import best_single
from tryage.scores import ScoreTable
from tryage.scores.fields import Kind

HeldOut = Literal["cross-validated", "holdout"]

FEWEST = 20
"""Different prompts below which there is no verdict."""

SMALL_GROUP = 10
"""Smaller groups are drawn together: resamples of a few prompts vary too little."""

MOST_GROUPS = 50
"""Groups that a verdict stores, the largest ones."""

SHOWN = 8
"""Experts in a printed table, those with the best means."""


@dataclass(frozen=True, slots=True)
class GroupResults:
    """Mean results on one group of prompts.

    Attributes:
        prompts: how many prompts the group has, measured or not.
        router: mean of the held-out choices, of the prompts that count; None where none does.
        experts: expert → mean over its measured cells; None where it has none.
    """

    prompts: int
    router: float | None
    experts: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A router beside the best single expert and the oracle, on held-out prompts of one task.

    Figures are scores (0 to 1, higher is better) or losses (the table's unit, lower is better), as
    means over groups, of the prompts with several measured experts. Where the router's choice or
    the best single expert was not measured, its result is estimated (`tryage.evaluation.measured`).
    One text counts once.

    Attributes:
        kind: "scores" or "losses".
        held_out: "cross-validated" (each prompt by a fit on the other folds) or "holdout" (prompts
            that the router was not fitted on at all).
        prompts: how many different prompts count.
        left_out: how many held-out prompts do not: they have less than two measured experts.
        best_single: name of the best single expert.
        router: mean of the router's choices; None where no prompt counts, as the next two.
        single: mean of the best single expert.
        oracle: mean of the best measured expert of each prompt.
        difference: by how much the router is better, positive where it is.
        ci95: 95 % interval of the difference; None where no prompt counts.
        groups: group → results of every expert and of the router; one entry without groups.
        sampled_from: different prompts of the table where choices were made for a sample of them
            alone; None where they were made for all that were held out.
        measured: how many of the rows that count have results of both the router's choice and the
            best single expert; None in verdicts of earlier versions.
        estimated: how many have not, so that a result is estimated.
    """

    kind: Kind
    held_out: HeldOut
    prompts: int
    left_out: int
    best_single: str
    router: float | None
    single: float | None
    oracle: float | None
    difference: float | None
    ci95: tuple[float, float] | None
    groups: Mapping[str, GroupResults]
    sampled_from: int | None = None
    measured: int | None = None
    estimated: int | None = None

    @property
    def worth_it(self) -> bool | None:
        """Whether the whole interval lies above zero; None where there are too few prompts."""
        if self.ci95 is None or self.prompts < FEWEST:
            return None
        return self.ci95[0] > 0

    def __str__(self) -> str:
        return self.sentence()

    def sentence(self) -> str:
        """Return the verdict in one sentence."""
        if self.router is None or self.single is None or self.oracle is None:
            return (
                f"Cannot tell whether a router is worth it: no held-out prompt has results of "
                f"both its choice and {self.best_single}; measure several experts on each prompt."
            )
        better = "" if self.kind == "scores" else " (losses, lower is better)"
        sample = "" if self.sampled_from is None else f", a sample of {self.sampled_from:,}"
        guessed = f", {self.estimated} with an estimated result" if self.estimated else ""
        return (
            f"{self.prompts:,} held-out prompts ({self.held_out}{sample}{guessed}): router "
            f"{self._number(self.router)}, best single model {self._number(self.single)} "
            f"({self.best_single}), oracle {self._number(self.oracle)}{better}; "
            f"{self._judgement()}."
        )

    def _judgement(self) -> str:
        if self.ci95 is None or self.difference is None or self.worth_it is None:
            return f"too few to tell: a verdict needs {FEWEST} different prompts with results"
        low, high = (self._signed(bound) for bound in self.ci95)
        gain = f"{self._signed(self.difference)} (95 % interval {low} to {high})"
        if self.worth_it:
            return f"worth it: {gain}"
        return f"not worth it: no better than always asking {self.best_single}: {gain}"

    def _number(self, value: float) -> str:
        return f"{value:.2f}" if self.kind == "scores" else f"{value:.4g}"

    def _signed(self, value: float) -> str:
        digits = 3 if self.kind == "scores" else 4
        return f"{value:+.{digits}f}"

    def table(self) -> str:
        """Return group × expert as plain text; `*` marks the best experts of a group."""
        names = self._experts()
        shown = names[:SHOWN]
        rows = [["group", "prompts", "router", *shown]]
        for group, results in self.groups.items():
            values = {name: results.experts.get(name) for name in names}
            best = self._best(values)
            cells = [self._cell(values[name], name in best) for name in shown]
            rows.append([group, str(results.prompts), self._cell(results.router, False), *cells])
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        measure = "scores: higher is better" if self.kind == "scores" else "losses: lower is better"
        hidden = len(names) - len(shown)
        more = f"; {hidden} more experts not shown" if hidden else ""
        counted = f"; {self.left_out} held-out prompts left out" if self.left_out else ""
        if self.estimated:
            counted += f"; {self.estimated} held-out prompts estimated, {self.measured} measured"
        sample = "" if self.sampled_from is None else "; the router's on a sample of the prompts"
        ending = f"Mean {measure}; * best of its group{more}{counted}{sample}."
        return "\n".join([*lines, ending])

    def _experts(self) -> list[str]:
        """Return the experts' names, the best on average first."""
        values = {
            name: [r.experts.get(name) for r in self.groups.values()]
            for name in next(iter(self.groups.values())).experts
        }
        sign = -1.0 if self.kind == "scores" else 1.0

        def rank(name: str) -> tuple[float, str]:
            measured = [value for value in values[name] if value is not None]
            return (sign * sum(measured) / len(measured) if measured else math.inf, name)

        return sorted(values, key=rank)

    def _best(self, values: Mapping[str, float | None]) -> set[str]:
        measured = {name: value for name, value in values.items() if value is not None}
        if len(measured) < 2:
            return set()
        best = max(measured.values()) if self.kind == "scores" else min(measured.values())
        return {name for name, value in measured.items() if abs(value - best) < 1e-9}

    def _cell(self, value: float | None, marked: bool) -> str:
        return "-" if value is None else self._number(value) + ("*" if marked else "")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, `worth_it` included."""
        return {
            "worth_it": self.worth_it,
            "kind": self.kind,
            "held_out": self.held_out,
            "prompts": self.prompts,
            "left_out": self.left_out,
            "best_single": self.best_single,
            "router": self.router,
            "single": self.single,
            "oracle": self.oracle,
            "difference": self.difference,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "measured": self.measured,
            "estimated": self.estimated,
            "groups": {
                group: {
                    "prompts": results.prompts,
                    "router": results.router,
                    "experts": dict(results.experts),
                }
                for group, results in self.groups.items()
            },
            "sampled_from": self.sampled_from,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the verdict that `to_dict` wrote."""
        parts = {name: value for name, value in values.items() if name != "worth_it"}
        parts["ci95"] = None if parts["ci95"] is None else tuple(parts["ci95"])
        parts["groups"] = {name: GroupResults(**row) for name, row in parts["groups"].items()}
        return cls(**parts)


def judge(
    table: ScoreTable,
    choices: Indices,
    *,
    held_out: HeldOut,
    whole: ScoreTable | None = None,
    seed: int = 0,
    resamples: int = 2000,
    sampled_from: int | None = None,
) -> Verdict:
    """Judge choices for held-out prompts against the best single expert.

    Args:
        table: one task's held-out prompts and results; n prompts, m experts.
        choices: (n,) column chosen for each prompt by what had not seen its results; negative
            where there was none.
        held_out: how the prompts were held out.
        whole: the table that names the best single expert; None means `table`.
        seed: makes the interval reproducible.
        resamples: of the bootstrap.
        sampled_from: different prompts of the table where `choices` are those for a sample.
    """
    single = int(best_single(measured_cells(table if whole is None else whole, None)[0])[0])
    offered = choices >= 0
    measured = is_measured(table.losses)
    rows = np.flatnonzero(offered & (measured.sum(axis=1) > 1))
    figures = np.full((len(table), 3), np.nan)
    if len(rows):
        places, names = group_places([table.groups[row] for row in rows.tolist()])
        losses = estimated(table.losses[rows], places, len(names))
        chosen = losses[np.arange(len(rows)), choices[rows]]
        lowest = np.nanmin(table.losses[rows], axis=1)
        figures[rows] = np.stack([chosen, losses[:, single], lowest], axis=1)
    counts = is_measured(figures).all(axis=1)
    figures[~counts] = np.nan
    both = measured[:, single] & measured[np.arange(len(table)), choices]
    means, groups = _by_text(table, figures)  # a row per different prompt that counts
    values: list[float | None] = [None, None, None, None]
    interval = None
    if len(means):
        cells = _strata(table, groups)
        columns = [*means.T, means[:, 1] - means[:, 0]]
        (interval,) = bootstrap_intervals([columns[3]], cells, resamples=resamples, seed=seed)
        values = [macro_mean(column, cells) for column in columns]
    scored = table.kind == "scores"
    shown = [1.0 - value if scored and value is not None else value for value in values[:3]]
    return Verdict(
        kind=table.kind,
        held_out=held_out,
        prompts=len(means),
        left_out=int((offered & ~counts).sum()),
        best_single=table.experts[single],
        router=shown[0],
        single=shown[1],
        oracle=shown[2],
        difference=values[3],
        ci95=interval,
        groups=_groups(table, figures[:, 0]),
        sampled_from=sampled_from,
        measured=int((both & counts).sum()),
        estimated=int((~both & counts).sum()),
    )


def _by_text(table: ScoreTable, figures: Array) -> tuple[Array, list[str]]:
    """Return the means of each different prompt's rows, without those that do not count."""
    rows = np.flatnonzero(~np.isnan(figures[:, 0]))
    place: dict[str, int] = {}
    of_row = [place.setdefault(table.prompts[row], len(place)) for row in rows.tolist()]
    sums, numbers = np.zeros((len(place), figures.shape[1])), np.zeros(len(place))
    np.add.at(sums, of_row, figures[rows])
    np.add.at(numbers, of_row, 1.0)
    groups = [""] * len(place)
    for row, number in zip(rows.tolist(), of_row, strict=True):
        groups[number] = groups[number] or table.groups[row] or NO_GROUP
    return sums / numbers[:, None], groups


def _strata(table: ScoreTable, groups: list[str]) -> Measured:
    """Return cells that hold the groups of the means; small groups count as one."""
    sizes = {name: groups.count(name) for name in dict.fromkeys(groups)}
    names = [name if sizes[name] >= SMALL_GROUP else NO_GROUP for name in groups]
    n = len(groups)
    stratified = ScoreTable(
        prompts=("",) * n,
        ids=tuple(map(str, range(n))),
        groups=tuple(names),
        tasks=(None,) * n,
        references=(None,) * n,
        experts=("",),
        losses=np.zeros((n, 1)),
        kind=table.kind,
    )
    return measured_cells(stratified, None)[0]


def _groups(table: ScoreTable, chosen: Array) -> dict[str, GroupResults]:
    """Return the results of every group, the largest first."""
    named = any(table.groups)
    names = np.array([(group or NO_GROUP) if named else "all" for group in table.groups])
    distinct, counts = np.unique(names, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_GROUPS]
    scored = table.kind == "scores"

    def mean(values: Array) -> list[float | None]:
        means = mean_over(values, axis=0).tolist()
        return [None if x != x else 1.0 - x if scored else x for x in means]

    results = {}
    for number in order.tolist():
        rows = names == distinct[number]
        results[str(distinct[number])] = GroupResults(
            prompts=int(counts[number]),
            router=mean(chosen[rows][:, None])[0],
            experts=dict(zip(table.experts, mean(table.losses[rows]), strict=True)),
        )
    return results
