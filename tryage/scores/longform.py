"""Converts long-form rows, one per prompt and expert, to columns of a score table and back."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.errors import ScoreTableError
from tryage.json_lines import RepeatedKeyError, without_repeats
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
        self._rows: dict[tuple[str | None, bool], dict[str, int]] = {}
        self._first_lines = array("q")
        self._measured = np.zeros((0, 0), dtype=np.bool_)
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
        if set(columns) != self._header:
            self._read_header(source, columns)

    def _read_header(self, source: str, columns: Iterable[str]) -> None:
        self._header = names = set(columns)
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
        column = self.builder.column(line, expert)
        self._make_room(row, column)
        if self._measured[row, column]:
            if self._labelled:
                return
            first = self.builder.place(self.builder.line_of(row, column), line)
            raise self.builder.error(
                line,
                "expert",
                f"{expert!r} is measured on this prompt on {first} too; "
                "keep one of the two, or give the prompts ids of their own",
            )
        self._measured[row, column] = True
        for field_ in measured:
            self.builder.add_cell(line, row, field_, expert, entry[field_.name])

    def add_rows(self, numbers: Sequence[int], columns: Mapping[str, Sequence[Any]]) -> None:
        """Add some rows as `add_row` does; those in which nothing is unusual all at once.

        Args:
            numbers: the number of each row.
            columns: column → the value of each row.

        Raises:
            ScoreTableError: as `add_row`.
        """
        if len(numbers) and not self._add_usual(numbers, columns):
            for number, values in zip(numbers, zip(*columns.values(), strict=True), strict=True):
                self.add_row(number, dict(zip(columns, values, strict=True)))

    def _add_usual(self, numbers: Sequence[int], columns: Mapping[str, Sequence[Any]]) -> bool:
        """Add rows, unless any of them has to be looked at alone."""
        count = len(numbers)
        nothing = (None,) * count
        lines = np.asarray(numbers, dtype=np.int64) + self._offset
        experts = columns.get("expert", nothing)
        fields = [field for field in self._fields if field.name in columns]
        parsed = [_number_column(columns[field.name]) for field in fields]
        if not set(map(type, experts)) <= {str, NoneType} or any(p is None for p in parsed):
            return False
        values = np.array(parsed, dtype=np.float64).reshape(len(fields), count)
        measured = ~np.isnan(values)
        named = np.fromiter(map(bool, experts), np.bool_, count)
        failed = np.zeros(count, np.bool_)
        if self._labelled and "error" in columns:
            failed = np.fromiter(map(bool, columns["error"]), np.bool_, count)
        if ((named != measured.any(axis=0)) & ~failed).any():
            return False
        try:
            self.builder.set_kind(int(lines[0]), self._kind)
            rows = self._rows_of(lines, columns)
        except ScoreTableError:
            return False
        return self._add_cells(lines, rows, experts, named & ~failed, fields, values)

    def _add_cells(
        self,
        lines: NDArray[np.int64],
        rows: NDArray[np.int64],
        experts: Sequence[str],
        cells: NDArray[np.bool_],
        fields: Sequence[Field],
        values: Array,
    ) -> bool:
        """Add cells, unless one is measured twice where that is an error."""
        places = np.flatnonzero(cells)
        names = [experts[place] for place in places.tolist()]
        code = {name: self.builder.column(0, name) for name in dict.fromkeys(names)}
        columns = np.fromiter(map(code.__getitem__, names), np.int64, len(names))
        rows = rows[places]
        if not len(places):
            return True
        self._make_room(int(rows.max()), int(columns.max()))
        _, first = np.unique(rows * self._measured.shape[1] + columns, return_index=True)
        again = self._measured[rows, columns]
        if again.any() or len(first) < len(places):
            if not self._labelled:
                return False
            first = np.sort(first)
            first = first[~again[first]]
            rows, columns, places = rows[first], columns[first], places[first]
        self._measured[rows, columns] = True
        for field, numbers in zip(fields, values, strict=True):
            there = ~np.isnan(numbers[places])
            self.builder.add_cells(
                field, rows[there], columns[there], numbers[places[there]], lines[places[there]]
            )
        return True

    def _make_room(self, row: int, column: int) -> None:
        """Enlarge the table of measured cells, where it lacks a row or column."""
        height, width = self._measured.shape
        if row >= height or column >= width:
            height = height if row < height else max(2 * height, row + 1)
            width = width if column < width else max(2 * width, column + 1)
            larger = np.zeros((height, width), dtype=np.bool_)
            larger[: self._measured.shape[0], : self._measured.shape[1]] = self._measured
            self._measured = larger

    def _rows_of(
        self, lines: NDArray[np.int64], columns: Mapping[str, Sequence[Any]]
    ) -> NDArray[np.int64]:
        """Return the table rows of long-form rows, as `_row` does for one."""
        nothing = (None,) * len(lines)
        names, prompts = columns.get("prompt_id", nothing), columns.get("prompt", nothing)
        texts = {key: [text or None for text in columns.get(key, nothing)] for key in TEXT_FIELDS}
        types = set(map(type, names))
        named = types == {str} and "" not in names
        tasks = set(texts["task"])
        alike = len(tasks) == 1 and (named or types == {NoneType})
        keys = names if named else prompts
        if not alike or set(map(type, keys)) != {str}:
            return np.array(
                [
                    self._row(line, dict(zip(columns, values, strict=True)))
                    for line, values in zip(
                        lines.tolist(), zip(*columns.values(), strict=True), strict=True
                    )
                ],
                dtype=np.int64,
            )
        index = self._rows.setdefault((tasks.pop(), named), {})
        for place, key in enumerate(keys):
            if key not in index:
                self._row(
                    int(lines[place]), {name: values[place] for name, values in columns.items()}
                )
        rows = list(map(index.__getitem__, keys))
        for name, values in {"prompt": list(prompts), **texts}.items():
            if self.builder.texts_at(name, rows) != values and not self._may_differ(name):
                raise ScoreTableError(f"{name}: contradicts an earlier row")
        return np.array(rows, dtype=np.int64)

    def _may_differ(self, column: str) -> bool:
        """Whether rows of one prompt may differ: a later run of `label` may rename its group."""
        return self._labelled and column == "group"

    def build(self) -> Columns:
        """Return the columns of all rows; raises ScoreTableError as `TableBuilder.build` does."""
        return self.builder.build()

    def _row(self, line: int, entry: Mapping[str, Any]) -> int:
        """Return the table row of a long-form row, a new one at its first occurrence."""
        name = entry.get("prompt_id")
        texts = {key: entry.get(key) or None for key in TEXT_FIELDS}
        contents = {"prompt": entry.get("prompt"), **texts}
        # Without ids, rows of the same prompt belong together.
        named = name is not None and name != ""
        key = str(name if named else contents["prompt"])
        index = self._rows.setdefault((texts["task"] and str(texts["task"]), named), {})
        row = index.get(key)
        if row is None:
            extras = self._extras(line, entry.get("extras"))
            row = self.builder.add_prompt(line, {"id": name, **contents}, extras)
            index[key] = row
            self._first_lines.append(line)
            return row
        earlier = self.builder.texts_of(row)
        for column, value in contents.items():
            if value != earlier[column] and not self._may_differ(column):
                raise self.builder.error(
                    line,
                    column,
                    f"{short(value)}, but {self.builder.place(self._first_lines[row], line)} has "
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


def _number_column(values: Sequence[Any]) -> Array | None:
    """Return the numbers of a column, NaN where None stands; None where a value is unusual."""
    types = set(map(type, values))
    if not types <= {float, int, NoneType}:
        return None
    try:
        numbers = np.array(values, dtype=np.float64)
    except OverflowError:
        return None
    empty = sum(value is None for value in values) if NoneType in types else 0
    return numbers if int(np.isnan(numbers).sum()) == empty else None


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
