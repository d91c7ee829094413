"""The cells that fronts and plans are judged on: losses, and the values of goals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tryage.errors import ScoreTableError
from tryage.evaluation.doubts import Few, few_measured
from tryage.evaluation.measured import (
    Array,
    Counts,
    Indices,
    Mask,
    estimated,
    group_places,
    is_measured,
)
from tryage.evaluation.metrics import macro_shares
from tryage.scores import ScoreTable


@dataclass(frozen=True, eq=False)
class GoalCells:
    """Losses and values of goals of n prompts under m experts, estimated where not measured.

    Attributes:
        rows: (n,) rows of the table that have a cell with everything measured.
        measured: (n, m) cells of which the loss and every goal was measured.
        measured_losses: (n, m) losses, NaN where not measured.
        measured_values: (n, m, goals) values, NaN where not measured.
        losses: (n, m) estimates of all losses.
        values: (n, m, goals) estimates of all values.
        shares: (n,) what each prompt counts in a macro average, sum 1.
        groups: (n,) group of each prompt, as a position in `names`.
        names: of the groups.
        experts: names.
    """

    rows: Indices
    measured: Mask
    measured_losses: Array
    measured_values: Array
    losses: Array
    values: Array
    shares: Array
    groups: Indices
    names: tuple[str, ...]
    experts: tuple[str, ...]

    @classmethod
    def of(cls, table: ScoreTable, goals: Sequence[str], values: Sequence[Array]) -> GoalCells:
        """Take the cells of a table.

        Args:
            table: prompts under m experts.
            goals: names.
            values: for each goal its values in its unit, (m,) or (prompts, m), NaN where not
                measured.

        Raises:
            ScoreTableError: of an expert there is no prompt with the loss and the goals measured.
        """
        wide = [np.broadcast_to(array, table.losses.shape) for array in values]
        both = is_measured(table.losses, *wide)
        never = [table.experts[column] for column in np.flatnonzero(~both.any(axis=0)).tolist()]
        if never:
            raise ScoreTableError(
                f"no prompt has the loss and {' and '.join(goals)} of {', '.join(never)} "
                "measured, so there is nothing to draw or to judge plans by; measure it, or leave "
                "out what was not measured"
            )
        rows = np.flatnonzero(both.any(axis=1))
        groups, names = group_places([table.groups[row] for row in rows.tolist()])
        losses = table.losses[rows]
        measured = [array[rows] for array in wide]
        return cls(
            rows=rows,
            measured=both[rows],
            measured_losses=losses,
            measured_values=np.stack(measured, axis=-1),
            losses=estimated(losses, groups, len(names)),
            values=np.stack([estimated(v, groups, len(names)) for v in measured], axis=-1),
            shares=macro_shares([table.groups[row] for row in rows.tolist()]),
            groups=groups,
            names=names,
            experts=table.experts,
        )

    @property
    def counts(self) -> Counts:
        """How many cells were measured."""
        return Counts.of(self.measured, np.ones_like(self.measured))

    @property
    def few(self) -> list[Few]:
        """The experts of which too few results are there to estimate the missing ones by."""
        return few_measured(self.measured, self.groups, self.names, self.experts)

    def among_measured(self, array: Array) -> Array:
        """Return (n, m, …) with each missing cell a copy of a measured one of its prompt.

        So whoever chooses among all cells by what they hold chooses among the measured ones.
        """
        columns = np.arange(self.measured.shape[1])
        place = np.where(self.measured, columns, self.measured.argmax(axis=1)[:, None])
        copied: Array = array[np.arange(len(array))[:, None], place]
        return copied
