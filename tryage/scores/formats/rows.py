"""Rows of a table, whatever holds them: delimited text, JSON, Parquet, a frame, a data set."""

from __future__ import annotations

import csv
import io
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from types import NoneType
from typing import Any

from tryage.errors import ScoreTableError
from tryage.files import repeated
from tryage.parquet_files import ParquetError
from tryage.prompts import short
from tryage.scores.blocks import ROWS_AT_ONCE, Block, in_blocks, in_rows
from tryage.scores.fields import FIELDS
from tryage.scores.formats.json_text import checked_encoding
from tryage.scores.formats.options import ReadOptions
from tryage.scores.formats.values import MixedDecimalsError, decimal_of
from tryage.scores.shards import open_shard, open_shards

_SAMPLE = 200
"""Rows that are looked at before a table is read."""

_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_ROWS_HELD = 512
"""Mappings that exist at a time: few enough for Python not to look for garbage among them."""
_HEAD = 2**16
"""Characters of a text file that are looked at to recognize its delimiter."""


@dataclass(frozen=True)
class Rows:
    """A table of rows, read as often as `blocks` is called.

    Attributes:
        source: what messages call it.
        unit: "line" or "row": what the numbers of rows count.
        columns: names of the columns, each once.
        blocks: returns the rows in blocks: their numbers, and the values of each column.
        decimal: what stands before the fraction in numbers that are text.
        notes: what was guessed so far.
        parts: of several files, the number of rows before each, and its name.
    """

    source: str
    unit: str
    columns: tuple[str, ...]
    blocks: Callable[[], Iterator[Block]]
    decimal: str = "."
    notes: tuple[str, ...] = ()
    parts: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        twice = repeated(self.columns)
        if twice is not None:
            name, first, second = twice
            example = ""
            for line, values in islice(self.rows(), 1):
                both = f"{short(values[first])} and {short(values[second])}"
                example = f", on {self.unit} {line} {both}"
            raise ScoreTableError(
                f"{self.source}: column {name!r} stands twice; keep one of columns {first + 1} "
                f"and {second + 1}{example}"
            )

    def rows(self) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yield the rows, each with its number and one value per column."""
        return in_rows(self.blocks())

    def place(self, number: int) -> str:
        """Return what messages call a row: its file, and its number there."""
        before = [part for part in self.parts if part[0] < number]
        start, source = before[-1] if before else (0, self.source)
        return f"{source}, {self.unit} {number - start}"

    def sample(self) -> list[Sequence[Any]]:
        """Return the first rows."""
        return [values for _, values in islice(self.rows(), _SAMPLE)]


def text_rows(path: Path, options: ReadOptions) -> Rows:
    """Open a file of delimited text whose first line names the columns.

    Raises:
        ScoreTableError: not text, not delimited, or its delimiter or decimals are ambiguous.
    """
    encoding = checked_encoding(path)
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    delimiter = options.delimiter or _delimiter(path, encoding, usual)
    notes = []
    if delimiter != usual and options.delimiter is None:
        notes.append(f"values separated by {_DELIMITERS[delimiter]}")
    header = next(_file_records(path, encoding, delimiter), (1, []))[1]
    columns = tuple(name.strip() for name in header)
    if not any(columns):
        raise ScoreTableError(f"{path} is empty; its first line names the columns")

    def rows() -> Iterator[tuple[int, Sequence[str]]]:
        for line, values in islice(_file_records(path, encoding, delimiter), 1, None):
            if len(values) != len(columns):
                raise ScoreTableError(
                    f"{path}, line {line}: {len(values)} values for {len(columns)} columns; quote "
                    f"texts that hold {_DELIMITERS.get(delimiter, repr(delimiter))}, or name "
                    "another delimiter"
                )
            yield line, values

    decimal = options.decimal
    if decimal is None:
        try:
            decimal = decimal_of(list(zip(*(v for _, v in islice(rows(), _SAMPLE)), strict=True)))
        except MixedDecimalsError as error:
            one, other = error.args
            raise ScoreTableError(
                f"{path}: {one!r} and {other!r}: does the comma stand before the fraction? Say "
                "which with decimal=',' or decimal='.' (--decimal)"
            ) from None
        if decimal == ",":
            notes.append("decimal commas")
    return Rows(str(path), "line", columns, lambda: in_blocks(rows()), decimal, tuple(notes))


def _delimiter(path: Path, encoding: str, usual: str) -> str:
    """Return the character that divides the first lines into equally many values."""
    with path.open(encoding=encoding, newline="") as file:
        head = file.read(_HEAD)
    widths = {}
    for delimiter in _DELIMITERS:
        records = _records(None, io.StringIO(head, newline=""), delimiter)
        counts = {len(values) for _, values in islice(records, 20)}
        if len(counts) == 1 and max(counts) > 1:
            widths[delimiter] = max(counts)
    if len(widths) > 1:
        listed = ", ".join(f"{count} columns by {_DELIMITERS[d]}" for d, count in widths.items())
        raise ScoreTableError(
            f"{path}: the delimiter is not clear: {listed}; say which with delimiter= (--delimiter)"
        )
    return next(iter(widths), usual)


def _file_records(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding=encoding, newline="") as file:
        yield from _records(path, file, delimiter)


def _records(
    path: Path | None, lines: Iterable[str], delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line that each record starts on, and its values; without a path stop at errors."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for values in reader:
            if values:
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        if path is not None:
            raise ScoreTableError(f"{path}, line {line}: not delimited text: {error}") from error
    finally:
        csv.field_size_limit(limit)


def entry_rows(source: str, entries: Iterable[Any], lines: Sequence[int] | None = None) -> Rows:
    """Return the rows of a list of mappings, whose keys are the columns.

    A mapping of experts, as Tryage's own lines have under "scores" or "costs", becomes a column
    for each, such as "scores.gpt-4"; also under "Cost" or "score", which the notes
    then say.

    Args:
        source: what messages call it.
        entries: the mappings.
        lines: the line of each; None counts rows from 1.

    Raises:
        ScoreTableError: an entry is not a mapping.
    """
    all_entries = list(entries)
    numbers = lines if lines is not None else range(1, len(all_entries) + 1)
    return numbered_rows(
        source, zip(numbers, all_entries, strict=True), "row" if lines is None else "line"
    )


def numbered_rows(source: str, entries: Iterable[tuple[int, Any]], unit: str) -> Rows:
    """Return the rows of mappings as `entry_rows`, each with its number.

    The mappings may come one after the other: only their values are held, equal texts once.
    """
    columns: dict[str, list[Any]] = {}
    numbers = array("q")
    renamed: dict[str, str] = {}
    shared: dict[str, str] = {}
    remaining = iter(entries)
    while block := list(islice(remaining, _ROWS_HELD)):
        for number, entry in block:
            if type(entry) is not dict and not isinstance(entry, Mapping):
                raise ScoreTableError(
                    f"{source}, {unit} {number}: {short(entry)} is not an object {{...}}"
                )
        flat = [_flat(entry, renamed) for _, entry in block]
        for name in dict.fromkeys(chain.from_iterable(flat)):
            if name not in columns:
                columns[name] = [None] * len(numbers)
        for name, values in columns.items():
            new = [entry.get(name) for entry in flat]
            if str in set(map(type, new)):
                new = [shared.setdefault(v, v) if type(v) is str else v for v in new]
            values += new
        numbers.extend(number for number, _ in block)

    def blocks() -> Iterator[Block]:
        for start in range(0, len(numbers), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            yield numbers[part], [values[part] for values in columns.values()]

    notes = tuple(f"{name} = {key}" for key, name in renamed.items())
    return Rows(source, unit, tuple(columns), blocks, notes=notes)


_NAMES = {name: field.key for field in FIELDS.values() for name in (field.name, field.key)}


_SCALARS = frozenset({str, int, float, bool, NoneType})
_STRINGS = frozenset({str})


def _flat(entry: Mapping[Any, Any], renamed: dict[str, str]) -> Mapping[str, Any]:
    """Return an entry with a key for each expert in place of mappings from experts to numbers.

    Args:
        entry: what a row holds.
        renamed: key → the name it was read by, where that is another one; added to.
    """
    if _SCALARS.issuperset(map(type, entry.values())) and _STRINGS.issuperset(map(type, entry)):
        return entry
    flat: dict[str, Any] = {}
    for key, value in entry.items():
        name = _key_of(key, entry) if isinstance(value, Mapping) else None
        if name is None:
            flat[str(key)] = value
            continue
        if name != key:
            renamed[key] = name
        flat |= {f"{name}.{expert}": number for expert, number in value.items()}
    return flat


def _key_of(key: Any, entry: Mapping[Any, Any]) -> str | None:
    """Return the key of a table's line that a key names, unless the entry has that one too."""
    name = _NAMES.get(str(key).strip().lower())
    return name if name == key or name not in entry else None


def parquet_rows(files: Sequence[Path], source: str) -> Rows:
    """Open Parquet files, which have the same columns, with all these.

    Args:
        files: one, or the shards of a table.
        source: what messages call them together.
    """
    shards = open_shards(files)
    for file in files:
        open_shard(file, shards.columns)

    def blocks() -> Iterator[Block]:
        for file, start in zip(shards.files, shards.starts, strict=True):
            first = start + 1
            try:
                for block in open_shard(file, shards.columns).blocks():
                    values = [block[name] for name in shards.columns]
                    yield range(first, first + len(values[0])), values
                    first += len(values[0])
            except ParquetError as error:
                raise ScoreTableError(f"{file}: not a whole Parquet file: {error}") from error

    parts = tuple(zip(shards.starts, map(str, shards.files), strict=True))
    return Rows(source, "row", shards.columns, blocks, parts=parts)


def frame_rows(frame: Any) -> Rows:
    """Return the rows of a pandas frame (or one like it) or of a `datasets.Dataset`.

    Raises:
        ScoreTableError: the source is neither.
    """
    if isinstance(frame, Mapping):
        raise ScoreTableError(
            f"the source holds {', '.join(map(str, list(frame)[:5]))}: choose one split of a data "
            "set, and put a single row into a list"
        )
    if hasattr(frame, "column_names") and hasattr(frame, "features"):
        if any(field.key in frame.column_names for field in FIELDS.values()):
            return entry_rows("the data set", frame)
        names = tuple(frame.column_names)
        return Rows("the data set", "row", names, lambda: in_blocks(_data_set(frame, names)))
    if hasattr(frame, "columns") and hasattr(frame, "itertuples"):
        columns = tuple(map(str, frame.columns))
        tuples = frame.itertuples
        return Rows(
            "the frame",
            "row",
            columns,
            lambda: in_blocks(enumerate(tuples(index=False, name=None), start=1)),
        )
    if isinstance(frame, Iterable):
        return entry_rows("rows", frame)
    raise ScoreTableError(
        f"{short(frame)} is no score table; give a path, a pandas frame, a datasets.Dataset or rows"
    )


def _data_set(data: Any, names: Sequence[str]) -> Iterator[tuple[int, Sequence[Any]]]:
    for number, row in enumerate(data, start=1):
        yield number, [row[name] for name in names]
