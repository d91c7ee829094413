"""Converts long-form rows, one per prompt and expert, to columns of a score table and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tryage.errors import ScoreTableError
from tryage.files import RepeatedKeyError, without_repeats
from tryage.near_misses import warn_of_near_misses
from tryage.prompts import short
from tryage.scores.building import TableBuilder
from tryage.scores.columns import Array, Columns
from tryage.scores.fields import TARGETS, TEXT_FIELDS, Field, Kind, measure_of

_NAMES = ("prompt_id", "prompt", *TEXT_FIELDS, "expert", *(field.name for field in TARGETS))
"""Columns that are read, beside score or loss."""


class LongFormBuilder:
    """Collects long-form rows, one per prompt and expert, into columns of a score table.

    Args:
        source: name of the rows' source in error messages.
        unit: name of one row in them.
        columns: the names of the columns there are.
        labelled: whether they are shards that `label` wrote. There a row whose `error` is not
            empty is a failed cell, which does not count as measured, and of a cell that occurs
            twice (two runs) the first counts; otherwise that is an error.
        names: what messages call columns that have other names in the source.
    """

    def __init__(
        self,
        source: str,
        *,
        unit: str,
        columns: Iterable[str],
        labelled: bool = False,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.builder = TableBuilder(source, unit=unit, long_form=True, names=names)
        self._offset = 0
        self._labelled = labelled
        self._rows: dict[tuple[str | None, str], int] = {}
        self._first: list[tuple[int, dict[str, Any]]] = []
        self._measured_on: dict[tuple[int, str], int] = {}
        self._kind: Kind = "losses"
        self._fields: list[Field] = []
        self._read_header(source, columns)

    def start_part(self, source: str, columns: Iterable[str], rows: int) -> None:
        """Start another file.

        Args:
            source: its name in error messages.
            columns: the names of its columns.
            rows: the number of rows of the file before it.
        """
        self._offset += rows
        self.builder.start_part(source, self._offset)
        self._read_header(source, columns)

    def _read_header(self, source: str, columns: Iterable[str]) -> None:
        names = set(columns)
        missing = [name for name in ("prompt", "expert") if name not in names]
        if missing or not names & {"score", "loss"}:
            needed = " and ".join(missing) or "score or loss"
            raise ScoreTableError(
                f"{source}: no column {needed}; found {', '.join(sorted(names)) or 'none'}. The "
                "long form is prompt_id, prompt, group, task, reference, expert, score or loss, ..."
            )
        if {"score", "loss"} <= names:
            raise ScoreTableError(f"{source}: has both columns score and loss; keep one of the two")
        if not self._labelled:
            warn_of_near_misses(sorted(names), _NAMES, source, stacklevel=3)
        self._kind = "scores" if "score" in names else "losses"
        measure = measure_of(self._kind)
        self._fields = [field for field in (measure, *TARGETS) if field.name in names]

    def add_row(self, number: int, entry: Mapping[str, Any]) -> None:
        """Add one row.

        Args:
            number: its number in its file, from 1 (a CSV file: the line that it starts on).
            entry: column → value, None where the cell is empty. Of a failed cell the prompt is
                kept.

        Raises:
            ScoreTableError: a field of the row is wrong, or contradicts an earlier row.
        """
        line = self._offset + number
        self.builder.set_kind(line, self._kind)
        row = self._row(line, entry)
        measured = [field for field in self._fields if entry.get(field.name) is not None]
        expert = entry.get("expert")
        if self._labelled and entry.get("error"):
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
        first = self._measured_on.setdefault((row, expert), line)
        if first != line:
            if self._labelled:
                return
            raise self.builder.error(
                line,
                "expert",
                f"{expert!r} is measured on this prompt on {self.builder.place(first, line)} too; "
                "keep one of the two, or give the prompts ids of their own",
            )
        for field_ in measured:
            self.builder.add_cell(line, row, field_, expert, entry[field_.name])

    def build(self) -> Columns:
        """Return the columns of all rows; raises ScoreTableError as `TableBuilder.build` does."""
        return self.builder.build()

    def _row(self, line: int, entry: Mapping[str, Any]) -> int:
        """Return the table row of a long-form row, a new one at its first occurrence."""
        name = entry.get("prompt_id")
        texts = {key: entry.get(key) or None for key in TEXT_FIELDS}
        contents = {"prompt": entry.get("prompt"), **texts}
        # Without ids, rows of the same prompt belong together.
        key = (texts["task"], str(name) if name not in (None, "") else f"\0{contents['prompt']}")
        row = self._rows.get(key)
        if row is None:
            extras = self._extras(line, entry.get("extras"))
            row = self.builder.add_prompt(line, {"id": name, **contents}, extras)
            self._rows[key] = row
            self._first.append((line, contents))
            return row
        first, earlier = self._first[row]
        for column, value in contents.items():
            # A later run of `label` may rename a prompt's group.
            if value != earlier[column] and not (self._labelled and column == "group"):
                raise self.builder.error(
                    line,
                    column,
                    f"{short(value)}, but {self.builder.place(first, line)} has "
                    f"{short(earlier[column])} for the same prompt_id; make them agree",
                )
        return row

    def _extras(self, line: int, text: Any) -> dict[str, Any]:
        """Decode the unknown keys, which `ScoreTable.write` stores as JSON in a column.

        Words there are a column of the user's own, which is ignored as others are.
        """
        if not isinstance(text, str) or not text.lstrip().startswith(("{", "[")):
            return {}
        try:
            extras = json.loads(text, object_pairs_hook=without_repeats)
        except RepeatedKeyError as error:
            raise self.builder.error(line, "extras", str(error)) from error
        except (ValueError, RecursionError):
            extras = None
        if not isinstance(extras, dict):
            raise self.builder.error(line, "extras", f"{short(text)} is not a JSON object")
        return extras


def long_form_columns(table: Columns) -> list[str]:
    """Return the names of the columns of `long_form_rows`, in order."""
    columns = ["prompt_id", "prompt", *TEXT_FIELDS, "expert", measure_of(table.kind).name]
    columns += [field.name for field in TARGETS if field.name in table.targets]
    return [*columns, "extras"] if table.extras else columns


def long_form_rows(table: Columns) -> Iterator[list[Any]]:
    """Yield one row per measured cell, None where a column is empty.

    A prompt without measurements gets one row without an expert, so that it is not lost.
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


def measured_values(table: Columns) -> Array:
    """Return the scores or losses to write; reading them gives exactly the table's losses."""
    if table.kind == "losses":
        return table.losses
    scores = 1.0 - table.losses
    # 0.3 read as a score comes back as 0.30000000000000004; write 0.3 where that is the same loss.
    tidy = np.round(scores, 15)
    return np.where(1.0 - tidy == table.losses, tidy, scores)


def _targets(table: Columns) -> list[Field]:
    return [field for field in TARGETS if field.name in table.targets]
