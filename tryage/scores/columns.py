"""The plain value that builders, files and joining exchange: the columns of a score table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tryage.scores.fields import Kind

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of a score table, unchecked; `ScoreTable` checks them and says what each holds.

    Attributes:
        prompts: the n prompts.
        ids, groups, tasks, references: one entry per prompt.
        experts: the m experts, in column order.
        losses: shape (n, m), lower is better, NaN where not measured.
        kind: "scores" or "losses", whichever was measured.
        targets: name → shape (n, m), NaN where not measured.
        extras: unknown keys of each prompt's line; empty where there are none.
    """

    prompts: tuple[str, ...] = field(repr=False)
    ids: tuple[str, ...] = field(repr=False)
    groups: tuple[str | None, ...] = field(repr=False)
    tasks: tuple[str | None, ...] = field(repr=False)
    references: tuple[str | None, ...] = field(repr=False)
    experts: tuple[str, ...]
    losses: Array = field(repr=False)
    kind: Kind = "losses"
    targets: Mapping[str, Array] = field(default_factory=dict, repr=False)
    extras: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: ArrayLike) -> Self:
        """Return the rows of some prompts, in the order of `rows`.

        Args:
            rows: indices, or a boolean mask over the prompts.

        Returns:
            A new table with the same experts.
        """
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.intp)
        chosen = index.tolist()
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in chosen),
            ids=tuple(self.ids[i] for i in chosen),
            groups=tuple(self.groups[i] for i in chosen),
            tasks=tuple(self.tasks[i] for i in chosen),
            references=tuple(self.references[i] for i in chosen),
            losses=self.losses[index],
            targets={name: values[index] for name, values in self.targets.items()},
            extras=tuple(self.extras[i] for i in chosen) if self.extras else (),
        )
