"""Joins two score tables: the cells of an old one and those of a newer one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tryage.errors import ScoreTableError
from tryage.experts import task_of_prompt
from tryage.scores.columns import Array, Columns


def join(old: Columns, new: Columns) -> Columns:
    """Return the prompts and experts of both tables; see `ScoreTable.join`."""
    if old.kind != new.kind:
        raise ScoreTableError(
            f"one table holds {old.kind}, the other {new.kind}; measure both in the same way"
        )
    places, added, references = _match_rows(old, new)
    experts = tuple(dict.fromkeys([*old.experts, *new.experts]))
    names = dict.fromkeys([*old.targets, *new.targets])
    shape = (len(old) + len(added), len(experts))
    columns = np.array([experts.index(name) for name in new.experts], dtype=np.intp)

    def joined(old_values: Array | None, new_values: Array | None) -> Array:
        values = np.full(shape, np.nan)
        if old_values is not None:
            values[: len(old), : len(old.experts)] = old_values
        if new_values is not None:
            cells = np.ix_(places, columns)
            values[cells] = np.where(np.isnan(new_values), values[cells], new_values)
        return values

    added_rows = new.select(np.array(added, dtype=np.intp))
    return replace(
        old,
        prompts=old.prompts + added_rows.prompts,
        ids=old.ids + added_rows.ids,
        groups=old.groups + added_rows.groups,
        tasks=old.tasks + added_rows.tasks,
        references=tuple(references) + added_rows.references,
        experts=experts,
        losses=joined(old.losses, new.losses),
        targets={n: joined(old.targets.get(n), new.targets.get(n)) for n in names},
        extras=_extras(old) + _extras(added_rows) if old.extras or added_rows.extras else (),
    )


def _match_rows(old: Columns, new: Columns) -> tuple[NDArray[np.intp], list[int], list[str | None]]:
    """Match the rows of the newer table to those of the old one.

    Returns:
        The row of each in the joined table, the newer rows that the old table lacks, and the
        references of the old rows, completed from the newer table.

    Raises:
        ScoreTableError: an id stands for different texts in the two tables.
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
            # A missing reference contradicts none.
            stated = {old.references[place], new.references[row]} - {None}
            if old.prompts[place] != new.prompts[row] or len(stated) > 1:
                raise ScoreTableError(
                    f"prompt id {key[1]!r} ({key[0]}) has different texts in the two tables; "
                    "give one of the two another id"
                )
            references[place] = next(iter(stated), None)
        places[row] = place
    return places, added, references


def _keys(table: Columns) -> Sequence[tuple[str, str]]:
    """Return the task and id of every row."""
    tasks = (t or task_of_prompt(p) for t, p in zip(table.tasks, table.prompts, strict=True))
    return list(zip(tasks, table.ids, strict=True))


def _extras(table: Columns) -> tuple[dict[str, object], ...]:
    return tuple(dict(keys) for keys in table.extras) or ({},) * len(table)
