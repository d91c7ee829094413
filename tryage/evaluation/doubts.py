"""What makes the figures of a table doubtful: repeated texts, and prompts with one expert."""

from __future__ import annotations

import numpy as np

from tryage.scores import ScoreTable

REPEATED = 1 / 3
"""Share of the rows that repeat a text from which a table is doubtful."""

ONE_EXPERT = 0.5
"""Share of the measured prompts with one measured expert from which a table is doubtful."""


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
