"""Summary of many decisions: experts, predicted loss and cost, against each expert alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tryage.decision import Decision
from tryage.evaluation.choices import Choices

Array = NDArray[np.float64]


def summary(
    decisions: Sequence[Decision], *, scored: bool, among_best: Mapping[str, float] | None = None
) -> str:
    """Return a table of decisions of one router as plain text.

    Args:
        decisions: at least one.
        scored: whether losses are 1 - score.
        among_best: expert → share of the training prompts on which none was better, where known.
    """
    names = decisions[0].names
    columns = {name: column for column, name in enumerate(names)}
    chosen = np.array([columns[decision.expert] for decision in decisions])
    losses = np.stack([decision.losses for decision in decisions])  # (n, m)
    eligible = np.isfinite(np.stack([decision.totals for decision in decisions]))
    quality = 1.0 - losses if scored else losses
    unknown = np.full(len(names), np.nan)
    measured = all(decision.measured for decision in decisions)
    costs = 1000.0 * np.stack([decision.values.get("cost", unknown) for decision in decisions])
    priced = not np.isnan(costs).all()
    measure = "score" if scored else "loss"
    shown = [(quality, ".4f")] * measured + [(costs, ".4g")] * priced
    heads = [measure] * measured + ["USD/1000"] * priced
    rows = [["", "share", *heads, *(f"alone {name}" for name in heads)]]
    everyone = np.arange(len(decisions))
    counts = np.bincount(chosen, minlength=len(names))
    for column in sorted(range(len(names)), key=lambda c: (-counts[c], names[c])):
        mine = everyone[chosen == column]
        alone = everyone if eligible[:, column].all() else everyone[:0]
        own = _figures(shown, mine, chosen)
        if_alone = _figures(shown, alone, np.full_like(chosen, column))
        rows.append([names[column], f"{counts[column] / len(decisions):.1%}", *own, *if_alone])
    rows.append(["routed", "100.0%", *_figures(shown, everyone, chosen)])
    unmeasured = "Nothing is measured yet: goals and limits alone decided."
    caption = (
        f"{len(decisions)} prompts. Predicted means: of the prompts that an expert gets, and of "
        "all prompts were it alone (- where it may not answer them all)."
    )
    spread = Choices.of(names, chosen, among_best or {})
    strange = sum(decision.out_of_distribution for decision in decisions) / len(decisions)
    familiarity = (
        f"Out of distribution: {strange:.1%} of the prompts, unlike all training prompts, so "
        "routed by the experts' averages."
    )
    evenness = f"Evenness of the shares (entropy, 0 to 1): {spread.entropy:.2f}."
    if not measured:
        return "\n".join([*_aligned(rows), unmeasured])
    return "\n".join([*_aligned(rows), caption, familiarity, evenness, *spread.warning()])


def _figures(
    shown: Sequence[tuple[Array, str]], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> list[str]:
    if not len(rows):
        return ["-"] * len(shown)
    return [format(float(values[rows, columns[rows]].mean()), how) for values, how in shown]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [
        max(len(row[place]) for row in rows if place < len(row)) for place in range(len(rows[0]))
    ]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]
