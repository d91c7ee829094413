"""Two score tables become one: old cells and newer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tryage.errors import ScoreTableError
from tryage.experts import asked_task
from tryage.scores.table import Array, ScoreTable


def join(old: ScoreTable, new: ScoreTable) -> ScoreTable:
    """Return a table of the prompts and experts of both; see `ScoreTable.join`."""
    if old.kind != new.kind:
        raise ScoreTableError(
            f"the one table holds {old.kind}, the other {new.kind}; measure both in the same way"
        )
    places, added, references = _placed(old, new)
    experts = tuple(dict.fromkeys([*old.experts, *new.experts]))
    names = dict.fromkeys([*old.targets, *new.targets])
    shape = (len(old) + len(added), len(experts))
    columns = np.array([experts.index(name) for name in new.experts], dtype=np.intp)

    def joined(one: Array | None, other: Array | None) -> Array:
        values = np.full(shape, np.nan)
        if one is not None:
            values[: len(old), : len(old.experts)] = one
        if other is not None:
            cells = np.ix_(places, columns)
            values[cells] = np.where(np.isnan(other), values[cells], other)
        return values

    rest = new.select(np.array(added, dtype=np.intp))
    return replace(
        old,
        prompts=old.prompts + rest.prompts,
        ids=old.ids + rest.ids,
        groups=old.groups + rest.groups,
        tasks=old.tasks + rest.tasks,
        references=tuple(references) + rest.references,
        experts=experts,
        losses=joined(old.losses, new.losses),
        targets={n: joined(old.targets.get(n), new.targets.get(n)) for n in names},
        extras=_extras(old) + _extras(rest) if old.extras or rest.extras else (),
    )


def _placed(
    old: ScoreTable, new: ScoreTable
) -> tuple[NDArray[np.intp], list[int], list[str | None]]:
    """Find where the rows of the newer table stand in the joined one.

    Returns:
        The place of each, the newer rows that the old table lacks, and the references of the old
        rows, those among them that only the newer table holds.

    Raises:
        ScoreTableError: an id stands in both with other texts.
    """
    rows = {key: row for row, key in enumerate(_keys(old))}
    references = list(old.references)
    added: list[int] = []
    places = np.empty(len(new), dtype=np.intp)
    for row, key in enumerate(_keys(new)):
        place = rows.get(key)
        if place is None:
            place = len(old) + len(added)
            added.append(row)
        else:
            # A reference left out is no other one.
            told = {old.references[place], new.references[row]} - {None}
            if old.prompts[place] != new.prompts[row] or len(told) > 1:
                raise ScoreTableError(
                    f"prompt id {key[1]!r} ({key[0]}) stands in both tables with other texts; give "
                    "one of the two another id"
                )
            references[place] = next(iter(told), None)
        places[row] = place
    return places, added, references


def _keys(table: ScoreTable) -> Sequence[tuple[str, str]]:
    """Name every row by its task and id."""
    tasks = (t or asked_task(p) for t, p in zip(table.tasks, table.prompts, strict=True))
    return list(zip(tasks, table.ids, strict=True))


def _extras(table: ScoreTable) -> tuple[dict[str, object], ...]:
    return tuple(dict(one) for one in table.extras) or ({},) * len(table)
