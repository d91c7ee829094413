"""Collects lines into the columns of a score table; names every bad line by place and field."""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.errors import ScoreTableError
from tryage.near_misses import warn_of_near_misses
from tryage.prompts import prompt_id, short
from tryage.scores.columns import Array, Columns
from tryage.scores.fields import (
    FIELDS,
    PROMPT_KEYS,
    SCORE,
    TARGETS,
    TEXT_FIELDS,
    Field,
    Kind,
    measure_of,
)

_KNOWN_KEYS = frozenset(PROMPT_KEYS) | {field.key for field in FIELDS.values()}


@dataclass
class _Cells:
    """The measured cells of one field, with the line that each came from."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    columns: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    lines: array[int] = field(default_factory=lambda: array("q"))


class TableBuilder:
    """Collects prompts and cells, then checks the numbers all at once.

    Args:
        source: what error messages call the place that the lines came from.
        unit: what they call one entry of it: "line" or "row".
        long_form: whether messages name numbers by their column ("score"), not key ("scores").
        names: what messages call fields that have other names in the source.
    """

    def __init__(
        self,
        source: str,
        *,
        unit: str = "line",
        long_form: bool = False,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.source = source
        self._names = names or {}
        self.unit = unit
        self._long_form = long_form
        self._parts = [(0, source)]
        self.kind: Kind | None = None
        self._kind_line = 0
        self._columns: dict[str, int] = {}
        self._prompts: list[str] = []
        self._texts: dict[str, list[str | None]] = {name: [] for name in TEXT_FIELDS}
        self._ids: list[str] = []
        self._first_lines: dict[tuple[str | None, str], int] = {}
        self._occurrences: dict[str, int] = {}
        self._extras: dict[int, Mapping[str, Any]] = {}
        self._shared: dict[str, str] = {}
        self._keys: dict[str, None] = {}
        self._cells = {name: _Cells() for name in FIELDS}

    def start_part(self, source: str, offset: int) -> None:
        """Start another file, whose first line is line `offset` + 1."""
        self._parts.append((offset, source))

    def place(self, line: int, other: int | None = None) -> str:
        """Return file and number of a line; the number alone where `other` is in that file."""
        offset, source = self._part(line)
        number = f"{self.unit} {line - offset}"
        same = other is not None and self._part(other) == (offset, source)
        return number if same else f"{source}, {number}"

    def _part(self, line: int) -> tuple[int, str]:
        return self._parts[bisect.bisect_left(self._parts, line, key=lambda part: part[0]) - 1]

    def error(self, line: int, name: str, problem: str) -> ScoreTableError:
        """Return the error for one field of one line."""
        return ScoreTableError(f"{self.place(line)}: {self._names.get(name, name)}: {problem}")

    def add_line(self, line: int, entry: Mapping[str, Any]) -> None:
        """Add one JSONL line: a prompt and its measurements.

        Args:
            line: its number in the source, from 1.
            entry: the decoded object.

        Raises:
            ScoreTableError: the line is not an object, or one of its fields is wrong.
        """
        if not isinstance(entry, Mapping):
            raise self.error(line, "line", f"{short(entry)} is not an object {{...}}")
        scores, losses = "scores" in entry, "losses" in entry
        if scores and losses:
            raise self.error(line, "scores", "given next to 'losses'; keep one of the two")
        if not scores and not losses:
            raise self.error(line, "scores", "missing, and so is 'losses'; give one of the two")
        self.set_kind(line, "scores" if scores else "losses")
        extras = {key: entry[key] for key in entry if key not in _KNOWN_KEYS}
        self._keys.update(dict.fromkeys(entry))
        row = self.add_prompt(line, entry, extras)
        for target in FIELDS.values():
            if target.key in entry:
                self._add_mapping(line, row, target, entry[target.key])

    def set_kind(self, line: int, kind: Kind) -> None:
        """Record whether a line holds scores or losses; all lines must agree."""
        if self.kind is None:
            self.kind, self._kind_line = kind, line
        elif kind != self.kind:
            raise self.error(
                line,
                kind,
                f"{self.place(self._kind_line, line)} has {self.kind!r}; use the same everywhere",
            )

    def add_prompt(
        self, line: int, entry: Mapping[str, Any], extras: Mapping[str, Any] | None = None
    ) -> int:
        """Add a prompt and its texts.

        Args:
            line: the number of its line.
            entry: mapping with `prompt` and, optionally, `id`, `group`, `task`, `reference`.
            extras: unknown keys of the line, kept as they are.

        Returns:
            The row of the prompt in the table.
        """
        prompt = entry.get("prompt")
        if not isinstance(prompt, str):
            problem = f"{short(prompt)} is not text" if "prompt" in entry else "missing"
            raise self.error(line, "prompt", f"{problem}; give the prompt as a string")
        if not prompt or prompt.isspace():
            raise self.error(line, "prompt", f"{short(prompt)} is empty; remove the line")
        texts = {name: self._text(line, entry, name) for name in TEXT_FIELDS}
        name = self._id(line, entry, prompt)
        first = self._first_lines.setdefault((texts["task"], name), line)
        if first != line:
            raise self.error(
                line,
                "id",
                f"{name!r} is also the id on {self.place(first, line)}; make ids unique in a task",
            )
        self._ids.append(name)
        self._prompts.append(prompt)
        for key, text in texts.items():
            self._texts[key].append(text and self._shared.setdefault(text, text))
        row = len(self._prompts) - 1
        if extras:
            self._extras[row] = extras
        return row

    def column(self, line: int, expert: Any) -> int:
        """Return the column of an expert, a new one at its first occurrence."""
        if not isinstance(expert, str) or not expert:
            raise self.error(line, "expert", f"{short(expert)} is not a name; give a string")
        return self._columns.setdefault(expert, len(self._columns))

    def add_cell(self, line: int, row: int, target: Field, expert: str, value: Any) -> None:
        """Add one measured number; `build` checks its range."""
        cells = self._cells[target.name]
        cells.columns.append(self.column(line, expert))
        is_float = type(value) is float
        cells.values.append(value if is_float else self._number(line, target, expert, value))
        cells.rows.append(row)
        cells.lines.append(line)

    def add_cells(
        self,
        target: Field,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: Array,
        lines: NDArray[np.int64],
    ) -> None:
        """Add measured numbers of one field, as `add_cell` adds one.

        Args:
            target: the field.
            rows: as `add_prompt` returned them, shape (k,).
            columns: as `column` returned them, shape (k,).
            values: the numbers, shape (k,); `build` checks their range.
            lines: where they stand, shape (k,).
        """
        cells = self._cells[target.name]
        cells.rows.frombytes(rows.astype(np.int64).tobytes())
        cells.columns.frombytes(columns.astype(np.int64).tobytes())
        cells.values.frombytes(values.astype(np.float64).tobytes())
        cells.lines.frombytes(lines.astype(np.int64).tobytes())

    def texts_of(self, row: int) -> dict[str, str | None]:
        """Return the prompt of a row and what describes it, by field."""
        texts = {name: texts[row] for name, texts in self._texts.items()}
        return {"prompt": self._prompts[row], **texts}

    def texts_at(self, name: str, rows: Sequence[int]) -> list[str | None]:
        """Return one of these texts of some rows."""
        texts = self._prompts if name == "prompt" else self._texts[name]
        return [texts[row] for row in rows]

    def line_of(self, row: int, column: int) -> int:
        """Return the first line that measures a cell.

        Raises:
            KeyError: no line does.
        """
        lines = []
        for cells in self._cells.values():
            places = (np.asarray(cells.rows) == row) & (np.asarray(cells.columns) == column)
            lines += np.asarray(cells.lines)[places].tolist()
        if not lines:
            raise KeyError((row, column))
        return int(min(lines))

    def numbers(self, name: str) -> Array:
        """Return the numbers of a field that were added so far."""
        return np.array(self._cells[name].values)

    def divide(self, name: str, divisor: float) -> None:
        """Divide the numbers of a field that were added so far."""
        cells = self._cells[name]
        if divisor != 1.0:
            cells.values = array("d", (np.asarray(cells.values) / divisor).tobytes())

    def build(self) -> Columns:
        """Check the numbers and return the columns.

        Raises:
            ScoreTableError: no prompts, or a number outside its range.
        """
        if not self._prompts or self.kind is None:
            raise ScoreTableError(
                f"{self.source} holds no prompts; give at least one {self.unit} with a prompt"
            )
        measure, rows = measure_of(self.kind), range(len(self._prompts))
        names = sorted(_KNOWN_KEYS - {"scores", "losses"} | {measure.key})
        warn_of_near_misses(self._keys, names, self._parts[0][1], stacklevel=3)
        losses = self._matrix(measure)
        targets = {t.name: self._matrix(t) for t in TARGETS if self._cells[t.name].rows}
        return Columns(
            prompts=tuple(self._prompts),
            ids=tuple(self._ids),
            groups=tuple(self._texts["group"]),
            tasks=tuple(self._texts["task"]),
            references=tuple(self._texts["reference"]),
            experts=tuple(self._columns),
            losses=1.0 - losses if measure is SCORE else losses,
            kind=self.kind,
            targets=targets,
            extras=tuple(self._extras.get(row, {}) for row in rows) if self._extras else (),
        )

    def _add_mapping(self, line: int, row: int, target: Field, values: Any) -> None:
        """Add the numbers of one key of a JSONL line."""
        if not isinstance(values, Mapping):
            raise self.error(
                line, target.key, f'{short(values)} is not an object {{"expert": number}}'
            )
        for expert, value in values.items():
            self.add_cell(line, row, target, expert, value)

    def _matrix(self, target: Field) -> Array:
        """Check the cells of one field and return them as a matrix, NaN where not measured."""
        cells = self._cells[target.name]
        values = np.asarray(cells.values)
        wrong = ~(np.isfinite(values) & (values >= target.low) & (values <= target.high))
        if wrong.any():
            self._refuse(target, cells, int(wrong.argmax()))
        matrix = np.full((len(self._prompts), len(self._columns)), np.nan)
        # Adding zero turns a negative zero into a plain one.
        matrix[np.asarray(cells.rows), np.asarray(cells.columns)] = values + 0.0
        return matrix

    def _refuse(self, target: Field, cells: _Cells, position: int) -> None:
        value = cells.values[position]
        expert = list(self._columns)[cells.columns[position]]
        if math.isnan(value):
            problem = "NaN is not a measurement; leave the expert out where nothing was measured"
        else:
            problem = f"{value:g} is outside {target.interval}; {target.advice}"
        name = self.name_of(target)
        raise self.error(cells.lines[position], name, f"expert {expert!r}: {problem}")

    def name_of(self, target: Field) -> str:
        """Return the name of a field in the file."""
        return target.name if self._long_form else target.key

    def _number(self, line: int, target: Field, expert: str, value: Any) -> float:
        """Convert a number to float; text, null and booleans are refused."""
        if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                return math.inf if value > 0 else -math.inf
        if value is None:
            problem = "null is not a measurement; leave the expert out where nothing was measured"
        else:
            problem = f"{short(value)} is not a number"
        raise self.error(line, self.name_of(target), f"expert {expert!r}: {problem}")

    def _text(self, line: int, entry: Mapping[str, Any], name: str) -> str | None:
        value = entry.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise self.error(line, name, f"{short(value)} is not text; write it as a string")
        return value

    def _id(self, line: int, entry: Mapping[str, Any], prompt: str) -> str:
        """Return the stated id, else a hash of the prompt and the number of its occurrence."""
        value = entry.get("id")
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None and value != "":
            if not isinstance(value, str):
                raise self.error(line, "id", f"{short(value)} is neither text nor a whole number")
            return value
        occurrence = self._occurrences.get(prompt, 0) + 1
        self._occurrences[prompt] = occurrence
        return prompt_id(prompt, occurrence)
