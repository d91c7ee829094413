"""Long-form rows, one per prompt and expert, become a `ScoreTable` and the other way round."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tryage.errors import ScoreTableError
from tryage.prompts import short
from tryage.scores.building import TableBuilder
from tryage.scores.fields import TARGETS, TEXT_FIELDS, Field, Kind, measure_of
from tryage.scores.table import Array, ScoreTable


class LongFormBuilder:
    """Long-form rows, one per prompt and expert, gathered into a table.

    Args:
        source: what error messages call the place that the rows came from.
        unit: what they call one row of it.
        columns: the names of the columns there are.
        repeats: whether a cell may be measured twice, the first time counting (shards of two
            runs), instead of being an error.
    """

    def __init__(
        self, source: str, *, unit: str, columns: Iterable[str], repeats: bool = False
    ) -> None:
        self.builder = TableBuilder(source, unit=unit, long_form=True)
        self._offset = 0
        self._repeats = repeats
        self._rows: dict[tuple[str | None, str], int] = {}
        self._first: list[tuple[int, dict[str, Any]]] = []
        self._done: dict[tuple[int, str], int] = {}
        self._kind: Kind = "losses"
        self._fields: list[Field] = []
        self._read_header(source, columns)

    def start_part(self, source: str, columns: Iterable[str], rows: int) -> None:
        """Go on with another file.

        Args:
            source: what error messages call it.
            columns: the names of its columns.
            rows: the number of rows of the file before it.
        """
        self._offset += rows
        self.builder.start_part(source, self._offset)
        self._read_header(source, columns)

    def _read_header(self, source: str, columns: Iterable[str]) -> None:
        names = set(columns)
        needed = [name for name in ("prompt", "expert") if name not in names]
        if needed or not names & {"score", "loss"}:
            what = " and ".join(needed) or "score or loss"
            raise ScoreTableError(
                f"{source}: no column {what}; found {', '.join(sorted(names)) or 'none'}. The long "
                "form is prompt_id, prompt, group, task, reference, expert, score or loss, ..."
            )
        if {"score", "loss"} <= names:
            raise ScoreTableError(f"{source}: has both columns score and loss; keep one of the two")
        self._kind = "scores" if "score" in names else "losses"
        measure = measure_of(self._kind)
        self._fields = [field for field in (measure, *TARGETS) if field.name in names]

    def add_row(self, number: int, entry: Mapping[str, Any]) -> None:
        """Take one row.

        Args:
            number: its number in its file, from 1 (a CSV file: the line that it starts on).
            entry: column → value, None where the cell is empty. A row whose `error` is not empty
                is a failed cell: its prompt is kept, nothing counts as measured.

        Raises:
            ScoreTableError: a field of the row is wrong, or contradicts an earlier row.
        """
        line = self._offset + number
        self.builder.set_kind(line, self._kind)
        row = self._row(line, entry)
        measured = [field for field in self._fields if entry.get(field.name) is not None]
        expert = entry.get("expert")
        if entry.get("error"):
            return
        if not expert:
            if measured:
                raise self.builder.error(line, "expert", "missing; name the expert measured")
            return
        if not measured:
            raise self.builder.error(
                line,
                self._fields[0].name,
                f"expert {expert!r}: empty; leave out rows where nothing was measured",
            )
        first = self._done.setdefault((row, expert), line)
        if first != line:
            if self._repeats:
                return
            raise self.builder.error(
                line,
                "expert",
                f"{expert!r} was measured on this prompt on {self.builder.place(first, line)} "
                "already; keep one of the two, or give the prompts ids of their own",
            )
        for field_ in measured:
            self.builder.add_cell(line, row, field_, expert, entry[field_.name])

    def table(self) -> ScoreTable:
        """The table of all rows; raises ScoreTableError as `TableBuilder.table` does."""
        return self.builder.table()

    def _row(self, line: int, entry: Mapping[str, Any]) -> int:
        """The table row that this long-form row belongs to; a new one at first sight."""
        name = entry.get("prompt_id")
        texts = {key: entry.get(key) or None for key in TEXT_FIELDS}
        given = {"prompt": entry.get("prompt"), **texts}
        # Without ids, rows of the same prompt belong together.
        key = (texts["task"], str(name) if name not in (None, "") else f"\0{given['prompt']}")
        row = self._rows.get(key)
        if row is None:
            extras = self._extras(line, entry.get("extras"))
            row = self.builder.add_prompt(line, {"id": name, **given}, extras)
            self._rows[key] = row
            self._first.append((line, given))
            return row
        first, earlier = self._first[row]
        for column, value in given.items():
            # A later run of `label` may name a prompt's group anew.
            if value != earlier[column] and not (self._repeats and column == "group"):
                raise self.builder.error(
                    line,
                    column,
                    f"{short(value)}, but {self.builder.place(first, line)} has "
                    f"{short(earlier[column])} for the same prompt_id; make them agree",
                )
        return row

    def _extras(self, line: int, text: Any) -> dict[str, Any]:
        """The unknown keys that `ScoreTable.write` kept as JSON in a column."""
        if not text:
            return {}
        try:
            extras = json.loads(text)
        except (TypeError, ValueError):
            extras = None
        if not isinstance(extras, dict):
            raise self.builder.error(line, "extras", f"{short(text)} is not a JSON object")
        return extras


def long_form_columns(table: ScoreTable) -> list[str]:
    """The columns that `long_form_rows` gives, in order."""
    columns = ["prompt_id", "prompt", *TEXT_FIELDS, "expert", measure_of(table.kind).name]
    columns += [field.name for field in TARGETS if field.name in table.targets]
    return [*columns, "extras"] if table.extras else columns


def long_form_rows(table: ScoreTable) -> Iterator[list[Any]]:
    """One row per measured cell, None where a column is empty.

    A prompt on which nothing was measured gets one row without expert, so that it is not lost.
    """
    arrays = [measured_values(table), *(table.targets[f.name] for f in _targets(table))]
    stack = np.stack(arrays)  # (number columns, n, m)
    measured = ~np.isnan(stack)
    for row, prompt in enumerate(table.prompts):
        texts = [table.ids[row], prompt, table.groups[row], table.tasks[row]]
        texts.append(table.references[row])
        last = [json.dumps(table.extras[row])] if table.extras and table.extras[row] else [None]
        last = last if table.extras else []
        columns = np.flatnonzero(measured[:, row].any(axis=0)).tolist()
        for column in columns:
            values = stack[:, row, column].tolist()
            numbers = [None if value != value else value for value in values]
            yield [*texts, table.experts[column], *numbers, *last]
        if not columns:
            yield [*texts, None, *[None] * len(arrays), *last]


def measured_values(table: ScoreTable) -> Array:
    """The scores or losses to write, such that reading them gives the table's losses again."""
    if table.kind == "losses":
        return table.losses
    scores = 1.0 - table.losses
    # 0.3 read as a score comes back as 0.30000000000000004; write 0.3 where that is the same loss.
    tidy = np.round(scores, 15)
    return np.where(1.0 - tidy == table.losses, tidy, scores)


def _targets(table: ScoreTable) -> list[Field]:
    return [field for field in TARGETS if field.name in table.targets]
