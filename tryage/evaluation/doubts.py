"""What makes the figures of a table doubtful: repeated texts, and prompts with one expert."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tryage.errors import TryageWarning
from tryage.evaluation.measured import Counts, Indices, Mask, is_measured
from tryage.scores import ScoreTable

REPEATED = 1 / 3
"""Share of the rows that repeat a text from which a table is doubtful."""

ONE_EXPERT = 0.5
"""Share of the measured prompts with one measured expert from which a table is doubtful."""

FEWEST_CELLS = 10
"""Measured prompts of a group below which the missing ones are not estimated without a warning."""

SHOWN = 5
"""Experts that a sentence names."""


def doubts(table: ScoreTable) -> list[str]:
    """Return what makes a table a poor base for comparing experts, one sentence each.

    Args:
        table: of one task, n prompts under m experts.
    """
    if len(table.experts) < 2:
        return []
    sentences = []
    measured = is_measured(table.losses).sum(axis=1)
    rows, single = int((measured > 0).sum()), int((measured == 1).sum())
    different = len(set(table.prompts))
    if len(table) - different > REPEATED * len(table):
        sentences.append(
            f"{len(table)} rows hold {different} different prompts: one text stands under several "
            "ids. Where the rows are results of different experts, give them the same id, or leave "
            "the ids out"
        )
    if single > ONE_EXPERT * rows:
        sentences.append(
            f"{single} of {rows} prompts have one measured expert, so nothing can be compared on "
            "them and they count for no regret; measure several experts on each prompt"
        )
    return sentences


@dataclass(frozen=True, slots=True)
class Few:
    """An expert of which few results are there to estimate the missing ones of a group by.

    Attributes:
        expert: its name.
        group: of prompts.
        prompts: of the group, on which figures take the expert.
        measured: prompts of the group on which the expert was measured.
    """

    expert: str
    group: str
    prompts: int
    measured: int

    def to_dict(self) -> dict[str, str | int]:
        """Return JSON types."""
        return asdict(self)


def few_measured(
    measured: Mask,
    groups: Indices,
    names: Sequence[str],
    experts: Sequence[str],
    choices: Indices | None = None,
) -> list[Few]:
    """Return what was measured too seldom for its missing cells to be estimated.

    Args:
        measured: (n, m) measured cells.
        groups: (n,) group of each prompt.
        names: of the groups.
        experts: names.
        choices: (n,) columns that figures take, negative for none; None means that they take all.

    Returns:
        Those with missing cells and fewer than `FEWEST_CELLS` measured ones, the fewest first.
    """
    rows = []
    for column, expert in enumerate(experts):
        takes = np.ones(len(groups), bool) if choices is None else choices == column
        missing = takes & ~measured[:, column]
        for group in np.unique(groups[missing]).tolist():
            own = groups == group
            number = int(measured[own, column].sum())
            if number < FEWEST_CELLS:
                rows.append(Few(expert, names[group], int((own & takes).sum()), number))
    return sorted(rows, key=lambda row: (row.measured, row.expert, row.group))


def few_sentence(rows: Sequence[Few]) -> str:
    """Return one sentence about what was measured too seldom."""
    listed = [f"{row.expert} on {row.group} ({row.measured} measured)" for row in rows[:SHOWN]]
    more = [f"{len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return (
        "too few results to estimate the missing ones by: "
        f"{', '.join([*listed, *more])}; measure them, or leave these experts out"
    )


def warn_of_few(rows: Sequence[Few]) -> None:
    """Warn where figures take what was measured too seldom."""
    if rows:
        warnings.warn(few_sentence(rows), TryageWarning, stacklevel=3)


def warn_of_plans(measured_prompts: int, cells: Counts) -> None:
    """Warn where hardly a prompt has all experts of its plan measured.

    Args:
        measured_prompts: on how many prompts the experts of a plan were all measured.
        cells: of the table.
    """
    if not cells.complete and measured_prompts < FEWEST_CELLS:
        warnings.warn(
            f"every expert of a plan was measured on {measured_prompts} prompts only; what it "
            "attains rests on a model of its experts, which takes their failures as independent. "
            "Measure several experts on the same prompts",
            TryageWarning,
            stacklevel=3,
        )
