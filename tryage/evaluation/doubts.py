"""What makes the figures of a table doubtful: repeated texts, and prompts with one expert."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from tryage.errors import TryageWarning
from tryage.scores import ScoreTable

REPEATED = 1 / 3
"""Share of the rows that repeat a text from which a table is doubtful."""

ONE_EXPERT = 0.5
"""Share of the measured prompts with one measured expert from which a table is doubtful."""

MOST = 0.9
"""Share of the prompts from which figures may rest on them without a word."""

SMALL_GROUP = 10
"""Prompts of a group below which its mean is hardly more than chance."""


def doubts(table: ScoreTable) -> list[str]:
    """Return what makes a table a poor base for comparing experts, one sentence each.

    Args:
        table: of one task, n prompts under m experts.
    """
    if len(table.experts) < 2:
        return []
    sentences = []
    measured = (~np.isnan(table.losses)).sum(axis=1)
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


def warn_of_left_out(table: ScoreTable, rows: NDArray[np.intp], what: str) -> None:
    """Warn that figures rest on a part of a table: the prompts that every expert was measured on.

    Args:
        table: all prompts.
        rows: those that count.
        what: the figures, as the beginning of a sentence.
    """
    if len(rows) > MOST * len(table):
        return
    cells = int(np.isfinite(table.losses).sum())
    sentence = (
        f"{what} on {len(rows)} of {len(table)} prompts, those with every expert measured "
        f"({len(rows) * len(table.experts)} of {cells} measured cells)"
    )
    counts = Counter(table.groups[row] for row in rows.tolist())
    small = sorted((count, str(name)) for name, count in counts.items() if count < SMALL_GROUP)
    if small and len(counts) > 1:
        listed = ", ".join(f"{name} {count}" for count, name in small[:5])
        sentence += f"; every group weighs the same, also those of few prompts: {listed}"
    warnings.warn(sentence, TryageWarning, stacklevel=3)
