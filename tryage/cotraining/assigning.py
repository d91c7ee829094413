"""Which expert is trained on which prompt: router, chance or groups; guard and exploration.

Losses are bits per byte, (n prompts, m experts), lower is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tryage.errors import OptionError

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Assigned:
    """The experts of n prompts.

    Attributes:
        chosen: (n,) column of the expert that was wanted, before guard and exploration.
        expert: (n,) column of the expert that is trained on the prompt.
        probability: (n,) chance with which that expert was drawn.
        explored: (n,) whether exploration sent the prompt elsewhere.
    """

    chosen: Numbers
    expert: Numbers
    probability: Floats
    explored: NDArray[np.bool_]


def best(losses: Floats) -> Numbers:
    """Return the column of the lowest loss of each row, (n,); NaN counts as the highest."""
    columns: Numbers = np.where(np.isnan(losses), np.inf, losses).argmin(axis=1).astype(np.int64)
    return columns


def by_chance(n: int, experts: int, rng: np.random.Generator) -> Assigned:
    """Assign each prompt to any expert, each with the same probability."""
    drawn = rng.integers(experts, size=n)
    even = np.full(n, 1 / experts)
    return Assigned(drawn, drawn, even, np.zeros(n, dtype=bool))


def by_group(
    groups: Sequence[str | None], names: Sequence[str], experts: Mapping[str, str]
) -> Numbers:
    """Return the column of the expert that each prompt's group names, (n,).

    Raises:
        OptionError: a group has no expert, or names one that is not there.
    """
    for group in dict.fromkeys(groups):
        if group is None or group not in experts:
            raise OptionError(
                f"groups names no expert for the group {group!r}; it has "
                f"{', '.join(map(repr, experts))}"
            )
        if experts[group] not in names:
            raise OptionError(
                f"groups: {group!r} has the expert {experts[group]!r}, which is not one of "
                f"{', '.join(names)}"
            )
    columns = [names.index(experts[group]) for group in groups if group is not None]
    return np.array(columns, dtype=np.int64)


def within_shares(losses: Floats, *, least: float, most: float) -> Numbers:
    """Assign each prompt to its best expert, within bounds on each expert's share.

    First prompts leave experts above the bound, then prompts come to experts below it; those move
    first that lose least by it. The guard against collapse: an expert without prompts never
    improves, so the router would never send it any.

    Args:
        losses: (n, m) predicted losses; NaN counts as the highest.
        least: share that each expert gets at least; lowered to 1/m where it is above.
        most: share that one expert gets at most; raised to 1/m where it is below.

    Returns:
        (n,) columns.
    """
    n, m = losses.shape
    filled = np.where(np.isnan(losses), np.nanmax(losses, initial=0.0) + 1.0, losses)
    columns = best(filled)
    ceiling = math.ceil(n * max(most, 1 / m))
    floor = math.floor(n * min(least, 1 / m))
    counts = np.bincount(columns, minlength=m)
    while counts.max() > ceiling:
        crowded = int(counts.argmax())
        room = counts < ceiling
        rows = np.flatnonzero(columns == crowded)
        price = np.where(room, filled[rows], np.inf) - filled[rows, crowded][:, None]
        spare = int(counts[crowded]) - ceiling
        _move(columns, counts, rows, price, spare, least=ceiling, most=ceiling)
    while counts.min() < floor:
        poor = int(counts.argmin())
        rows = np.flatnonzero(counts[columns] > floor)
        price = np.full((len(rows), m), np.inf)
        price[:, poor] = filled[rows, poor] - filled[rows, columns[rows]]
        lacking = floor - int(counts[poor])
        _move(columns, counts, rows, price, lacking, least=floor, most=ceiling)
    return columns


def _move(
    columns: Numbers,
    counts: NDArray[np.intp],
    rows: Numbers,
    price: Floats,
    number: int,
    *,
    least: int,
    most: int,
) -> None:
    """Move up to `number` rows, the cheapest first, to their cheapest column.

    None goes to a column of `most` rows, and none leaves a column of `least` rows.
    """
    targets = price.argmin(axis=1)
    cheapest = price[np.arange(len(rows)), targets]
    for at in np.argsort(cheapest, kind="stable").tolist():
        source, target = int(columns[rows[at]]), int(targets[at])
        if number == 0 or counts[target] >= most:
            return
        if counts[source] > least:
            counts[source] -= 1
            counts[target] += 1
            columns[rows[at]] = target
            number -= 1


def explored(chosen: Numbers, experts: int, share: float, rng: np.random.Generator) -> Assigned:
    """Send a share of the prompts to another expert, each other one with the same probability.

    Args:
        chosen: (n,) columns.
        experts: how many there are.
        share: probability that a prompt goes elsewhere; 0 with a single expert.
        rng: draws.

    Returns:
        Experts with the probabilities ``1 - share`` of staying and ``share / (experts - 1)`` of
        each other expert.
    """
    n = len(chosen)
    share = share if experts > 1 else 0.0
    elsewhere = rng.random(n) < share
    step = rng.integers(1, max(experts, 2), size=n)
    expert = np.where(elsewhere, (chosen + step) % experts, chosen)
    probability = np.where(elsewhere, share / max(experts - 1, 1), 1 - share)
    return Assigned(chosen, expert, probability, elsewhere)


def mutual_information(groups: Sequence[str], choices: Numbers) -> float:
    """Return the mutual information of group and chosen expert, in bits.

    ``I = sum p(g, e) log2(p(g, e) / (p(g) p(e)))`` over the counts: 0 where the choice tells
    nothing of the group, the entropy of the groups at most.
    """
    names = sorted(set(groups))
    joint = np.zeros((len(names), int(choices.max(initial=0)) + 1))
    for group, choice in zip(groups, choices.tolist(), strict=True):
        joint[names.index(group), choice] += 1
    joint /= max(joint.sum(), 1)
    outer = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    positive = joint > 0
    return float((joint[positive] * np.log2(joint[positive] / outer[positive])).sum())
