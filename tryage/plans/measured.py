"""Expected score and cost of plans on measured results, computed exactly.

Where the truth is measured, only the check's verdict is uncertain, so the expected score and cost
of a plan on a prompt are closed sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def realised(
    plans: Sequence[Sequence[int]],
    scores: Array,
    costs: Array,
    losses: Array,
    accepts_right: Array,
    accepts_wrong: Array,
) -> tuple[Array, Array]:
    """Return the expected score and cost of one plan a prompt.

    Args:
        plans: n plans, each the columns of its experts in the order in which they are tried.
        scores: (n, m) measured scores in [0, 1]; NaN where not measured, and then the plan's
            values are NaN.
        costs: (n, m) measured costs; NaN as for scores.
        losses: (n, m) predicted losses: if no answer is accepted, that of the expert with the
            least predicted loss goes out.
        accepts_right: (m,) or (n, m) chance that the check accepts a right answer.
        accepts_wrong: the same of a wrong one. Where verdicts are known, both are 0 or 1.

    Returns:
        Expected scores and costs, (n,) each. A score between 0 and 1 counts as the chance that
        the answer is right.
    """
    n = len(plans)
    score, cost = np.zeros(n), np.zeros(n)
    reached = np.ones(n)
    fallback, least = np.zeros(n), np.full(n, np.inf)
    rows = np.arange(n)
    accepts_right = np.broadcast_to(accepts_right, scores.shape)
    accepts_wrong = np.broadcast_to(accepts_wrong, scores.shape)
    for place in range(max(map(len, plans), default=0)):
        active = np.array([len(plan) > place for plan in plans])
        columns = np.array([plan[place] if len(plan) > place else 0 for plan in plans])
        right = scores[rows, columns]
        yes, no = accepts_right[rows, columns], accepts_wrong[rows, columns]
        accepted = yes * right + no * (1.0 - right)
        cost += np.where(active, reached * costs[rows, columns], 0.0)
        score += np.where(active, reached * yes * right, 0.0)
        is_new = active & (losses[rows, columns] < least)
        becomes = reached * (1.0 - yes) * right
        fallback = np.where(
            is_new, becomes, np.where(active, fallback * (1.0 - accepted), fallback)
        )
        least = np.where(is_new, losses[rows, columns], least)
        reached = np.where(active, reached * (1.0 - accepted), reached)
    return score + fallback, cost
