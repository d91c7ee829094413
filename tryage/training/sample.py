"""The sample of a large table's prompts on which `auto` compares kinds of predictor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tryage.errors import OptionError
from tryage.evaluation.metrics import Indices
from tryage.scores import ScoreTable

CHOOSE_ON = 20_000
"""Different prompts that `auto` compares kinds on by default. The time of a comparison grows with
them, that of `nearest` with their square."""

FEWEST_PROMPTS = 100
"""Different prompts below which a comparison says nothing."""

FEWEST_RESULTS = 100
"""Prompts of the sample that measure an expert, if the table has so many."""

FEWEST_OF_GROUP = 100
"""Prompts that the sample takes of a group before the larger ones get their share."""


def check_choose_on(most: int) -> None:
    """Check how many prompts kinds are to be compared on.

    Raises:
        OptionError: too few.
    """
    if most < FEWEST_PROMPTS:
        raise OptionError(
            f"choose_on={most}: predictors cannot be compared on so few prompts; give "
            f"{FEWEST_PROMPTS} or more, or leave it out for {CHOOSE_ON:,}"
        )


def draw_sample(table: ScoreTable, most: int, seed: int) -> Indices | None:
    """Draw the different prompts that `auto` compares kinds on, all rows of each.

    Every group gives its share of the prompts, a small one up to `FEWEST_OF_GROUP` of them: figures
    are means over groups, so a group of few prompts counts as much as a large one. Experts that few
    prompts measure get further prompts, until `FEWEST_RESULTS` measure each of them; the sample
    may be larger than `most` by these.

    Args:
        table: one task's table.
        most: different prompts.
        seed: makes the draw repeatable.

    Returns:
        The rows of the sample, ascending; None where the table has no more different prompts.
    """
    number_of = {text: number for number, text in enumerate(dict.fromkeys(table.prompts))}
    if len(number_of) <= most:
        return None
    text_of = np.array([number_of[text] for text in table.prompts], dtype=np.intp)  # of each row
    first = np.unique(text_of, return_index=True)[1]
    names = [table.groups[row] or "" for row in first.tolist()]
    group_of = np.unique(names, return_inverse=True)[1]  # of each different prompt
    order = np.random.default_rng([seed, 15]).permutation(len(first))
    drawn = np.zeros(len(first), dtype=bool)
    sizes = np.bincount(group_of)
    for group, count in enumerate(_shares(sizes, most).tolist()):
        drawn[order[group_of[order] == group][:count]] = True
    _add_results(drawn, ~np.isnan(table.losses), text_of, order)
    return np.flatnonzero(drawn[text_of])


def _shares(sizes: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """Return how many prompts of each group are drawn, (groups,), `most` together."""
    least = np.minimum(sizes, min(FEWEST_OF_GROUP, most // (2 * len(sizes))))
    rest = sizes - least
    # Rounded so that the shares sum to what is left.
    marks = np.floor(np.cumsum(rest) * ((most - least.sum()) / rest.sum()) + 1e-9)
    shares: NDArray[np.intp] = least + np.diff(marks, prepend=0.0).astype(np.intp)
    return shares


def _add_results(
    drawn: NDArray[np.bool_],
    measured: NDArray[np.bool_],
    text_of: Indices,
    order: Indices,
) -> None:
    """Draw further prompts for the experts that too few of the drawn ones measure.

    Args:
        drawn: whether each different prompt is drawn; changed.
        measured: (n, m) cells.
        text_of: (n,) number of the prompt of each row.
        order: of the different prompts, random.
    """
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    totals = measured[drawn[text_of]].sum(axis=0)
    for expert in np.flatnonzero(totals < FEWEST_RESULTS).tolist():
        texts = np.unique(text_of[measured[:, expert]])
        missing = FEWEST_RESULTS - int(drawn[texts].sum())
        others = texts[~drawn[texts]]
        drawn[others[np.argsort(place[others])][: max(missing, 0)]] = True
