"""Detects a router that has collapsed onto one expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.evaluation.metrics import Indices, Measured, measured_cells
from tryage.scores import ScoreTable

NEARLY_ALL = 0.9
"""Share of the prompts from which a router may have collapsed."""

FAR_FEWER = 0.75
"""The router has collapsed if the expert is among the best on less than this times its share."""

SHOWN = 10
"""Experts in a printed table."""


@dataclass(frozen=True)
class Choices:
    """Each expert's share of the prompts, beside the share on which it is among the best.

    Attributes:
        chosen: expert → share of the prompts it is chosen for, in library order.
        among_best: expert → share of measured prompts on which no expert is better, ties counting
            for all of them; without the experts of which it is not known.
    """

    chosen: Mapping[str, float]
    among_best: Mapping[str, float]

    @classmethod
    def of(
        cls, experts: Sequence[str], columns: Indices, among_best: Mapping[str, float]
    ) -> Choices:
        """Count choices: (n,) columns of the m experts; negative ones count for no expert."""
        counts = np.bincount(columns[columns >= 0], minlength=len(experts))
        shares = counts / max(len(columns), 1)
        return cls(dict(zip(experts, shares.tolist(), strict=True)), dict(among_best))

    @classmethod
    def of_counts(
        cls,
        experts: Sequence[str],
        counts: NDArray[np.floating[Any]],
        among_best: Mapping[str, float],
    ) -> Choices:
        """Return choices from how often each of the m experts was chosen, (m,)."""
        shares = counts / max(float(counts.sum()), 1.0)
        return cls(dict(zip(experts, shares.tolist(), strict=True)), dict(among_best))

    @property
    def entropy(self) -> float:
        """How evenly the prompts are spread: 0 is one expert for all, 1 the same for each."""
        shares = np.array([share for share in self.chosen.values() if share > 0])
        if len(shares) < 2:
            return 0.0
        shares /= shares.sum()
        return float(-(shares * np.log(shares)).sum() / np.log(len(self.chosen)))

    @property
    def collapsed(self) -> str | None:
        """The expert that takes nearly all prompts though it is best on far fewer, if one does."""
        name = max(self.chosen, key=self.chosen.__getitem__)
        share = self.chosen[name]
        best = self.among_best.get(name)
        if len(self.chosen) < 2 or share < NEARLY_ALL or best is None:
            return None
        return name if best < FAR_FEWER * share else None

    def to_dict(self) -> dict[str, Any]:
        """The object that `tryage evaluate --json` holds as `choices`."""
        return {
            "chosen": dict(self.chosen),
            "among_best": dict(self.among_best),
            "entropy": self.entropy,
            "collapsed": self.collapsed,
        }

    def lines(self) -> list[str]:
        """The shares in one printable line, and the warning if there is one."""
        ranked = sorted(self.chosen, key=lambda name: (-self.chosen[name], name))
        best = self.among_best
        parts = [
            f"{name} {self.chosen[name]:.1%}"
            + (f" (among the best on {best[name]:.1%})" if name in best else "")
            for name in ranked[:SHOWN]
        ]
        hidden = len(ranked) - len(parts)
        more = [f"{hidden} more"] if hidden > 0 else []
        spread = f"evenness (entropy, 0 to 1) {self.entropy:.2f}"
        return [f"chosen: {', '.join([*parts, *more])}; {spread}", *self.warning()]

    def warning(self) -> list[str]:
        """One line where the router has collapsed, else none."""
        name = self.collapsed
        if name is None:
            return []
        return [
            f"warning: {name} takes {self.chosen[name]:.1%} of the prompts, but is among the best "
            f"on {self.among_best[name]:.1%}; the router hardly tells prompts apart"
        ]


def among_best(cells: Measured, experts: Sequence[str]) -> dict[str, float]:
    """Return expert → share of its measured prompts on which no other expert is better.

    Prompts on which it alone was measured do not count; without others it is left out.
    """
    measured = cells.measured[cells.several].sum(axis=0)
    best = cells.is_best[cells.several].sum(axis=0)
    shares = zip(experts, best.tolist(), measured.tolist(), strict=True)
    return {name: good / of for name, good, of in shares if of}


def among_best_of(table: ScoreTable) -> dict[str, float]:
    """Return `among_best` of a table by its losses, without penalties."""
    return among_best(measured_cells(table, None)[0], table.experts)
