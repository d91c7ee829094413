"""Score tables in files: JSONL (plain or gzipped), CSV, Parquet, and label folders."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tryage.errors import ScoreTableError
from tryage.files import repeated, replacing
from tryage.json_lines import JsonLineError, json_lines
from tryage.parquet_files import ParquetError, import_pyarrow
from tryage.paths import STANDARD
from tryage.prompts import short
from tryage.scores.blocks import check_text, in_blocks
from tryage.scores.building import TableBuilder
from tryage.scores.columns import Columns
from tryage.scores.feedback_lines import whole_lines
from tryage.scores.fields import FIELDS, TARGETS, TEXT_FIELDS, measure_of
from tryage.scores.longform import (
    LongFormBuilder,
    long_form_columns,
    long_form_rows,
    measured_values,
)
from tryage.scores.shards import is_pattern, open_shard, open_shards, shard_files

FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".parquet")
LABEL_FILE = "label.json"

_UNPACKED = 2**26
_UNPACKED_OF_A_BYTE = 100
"""A gzip file of n bytes may hold so many bytes, plus so many per byte."""


def read_table(path: Path) -> Columns:
    """Read a score table from a file or a label folder; see `ScoreTable.read`."""
    if path.is_dir():
        return _read_folder(path)
    if is_pattern(path):
        return _read_parquet(shard_files(path), labelled=False)
    if not path.exists():
        raise ScoreTableError(f"score table {str(path)!r} does not exist")
    readers: dict[str, Callable[[Path], Columns]] = {
        ".jsonl": _read_jsonl,
        ".jsonl.gz": _read_jsonl,
        ".csv": _read_csv,
        ".parquet": lambda file: _read_parquet(
            [file], labelled=(path.parent / LABEL_FILE).is_file()
        ),
    }
    reader = readers[check_ending(path)]
    try:
        return reader(path)
    except OSError as error:
        raise ScoreTableError(f"{path}: cannot be read: {error.strerror or error}") from error


def write_table(table: Columns, path: Path) -> None:
    """Write a score table to a file, whole or not at all; see `ScoreTable.write`."""
    writers: dict[str, Callable[[Columns, Path], None]] = {
        ".jsonl": lambda table, file: _write_bytes(file, _jsonl(table)),
        ".jsonl.gz": lambda table, file: _write_bytes(file, gzip.compress(_jsonl(table), mtime=0)),
        ".csv": lambda table, file: _write_bytes(file, _csv(table)),
        ".parquet": _write_parquet,
    }
    writer = writers[check_ending(path)]
    if not len(table):
        raise ScoreTableError(f"{path}: the table has no prompts; nothing was written")
    try:
        with replacing(path) as temporary:
            writer(table, temporary)
    except UnicodeEncodeError as error:
        raise ScoreTableError(
            f"{path}: {short(error.object)} holds a lone surrogate, which only .jsonl can store"
        ) from error
    except (TypeError, RecursionError) as error:
        raise ScoreTableError(f"{path}: an unknown key holds no JSON value: {error}") from error


def check_ending(path: Path) -> str:
    """Return the ending of a file that names its format; standard output gets JSON lines.

    Raises:
        ScoreTableError: the ending is unknown.
    """
    if path == STANDARD:
        return ".jsonl"
    for ending in FORMATS:
        if path.name.lower().endswith(ending):
            return ending
    raise ScoreTableError(
        f"{path}: unknown kind of score table; known endings are {', '.join(FORMATS)} "
        "(and .tsv, .json to read), or the folder that tryage label wrote"
    )


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


# JSONL


def _read_jsonl(path: Path) -> Columns:
    builder = TableBuilder(str(path))
    with _opened_lines(path) as lines:
        try:
            for number, entry in json_lines(lines):
                builder.add_line(number, entry)
            return builder.build()
        except (JsonLineError, ScoreTableError) as error:
            lines.seek(0)
            table = whole_lines(lines.read(), str(path))
            if table is not None:
                return table
            if isinstance(error, ScoreTableError):
                raise
            raise builder.error(error.number, error.key or "line", error.problem) from error


def _opened_lines(path: Path) -> BinaryIO:
    if not path.name.lower().endswith(".gz"):
        return path.open("rb")
    data = path.read_bytes()
    try:
        return io.BytesIO(_unpacked(data))
    except (EOFError, zlib.error, OSError) as error:
        raise ScoreTableError(f"{path}: damaged gzip file: {error}; write it again") from error


def _unpacked(data: bytes) -> bytes:
    """Return what a gzip file holds.

    Raises:
        OSError, EOFError, zlib.error: it is damaged, or holds far more than its size suggests.
    """
    most = _UNPACKED + _UNPACKED_OF_A_BYTE * len(data)
    parts: list[bytes] = []
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        while part := file.read(2**20):
            parts.append(part)
            most -= len(part)
            if most < 0:
                raise OSError(f"{len(data)} bytes hold more than any honest file of this size")
    return b"".join(parts)


def _jsonl(table: Columns) -> bytes:
    return b"".join(_json_lines(table))


def _json_lines(table: Columns) -> Iterator[bytes]:
    """Yield one line per prompt: the known keys, then the unknown ones as they were read."""
    numbers = {measure_of(table.kind).key: measured_values(table)}
    numbers |= {
        field.key: table.targets[field.name] for field in TARGETS if field.name in table.targets
    }
    rows = {key: values.tolist() for key, values in numbers.items()}
    required = measure_of(table.kind).key
    for row, prompt in enumerate(table.prompts):
        texts = (table.groups[row], table.tasks[row], table.references[row])
        entry: dict[str, Any] = {"id": table.ids[row], "prompt": prompt}
        entry |= {k: v for k, v in zip(TEXT_FIELDS, texts, strict=True) if v is not None}
        for key, values in rows.items():
            cells = {
                expert: value
                for expert, value in zip(table.experts, values[row], strict=True)
                if value == value
            }
            if cells or key == required:
                entry[key] = cells
        if table.extras:
            entry |= table.extras[row]
        yield json_line(entry).encode("utf-8") + b"\n"


def json_line(entry: dict[str, Any]) -> str:
    """Write an object as a line of a JSONL table, without its end."""
    text = json.dumps(entry, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(entry)  # lone surrogates survive as escapes
    return text


# CSV


def _read_csv(path: Path) -> Columns:
    check_text(
        path,
        "utf-8-sig",
        lambda line: ScoreTableError(f"{path}, line {line}: line: not UTF-8; save it as UTF-8"),
    )
    limit = csv.field_size_limit(
        min(sys.maxsize, 2**31 - 1)
    )  # prompts may pass the 128 KiB default
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse_csv(path, csv.reader(file, strict=True))
    except csv.Error as error:
        raise ScoreTableError(f"{path}: not CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _parse_csv(path: Path, reader: Any) -> Columns:
    header: list[str] = next(reader, [])
    twice = repeated(header)
    if twice is not None:
        name, first, second = twice
        values: list[str] = next(reader, [])
        example = ""
        if len(values) == len(header):
            example = f", on line 2 {short(values[first])} and {short(values[second])}"
        raise ScoreTableError(
            f"{path}, line 1: column {name!r} stands twice; keep one of columns {first + 1} "
            f"and {second + 1}{example}"
        )
    builder = LongFormBuilder(str(path), unit="line", columns=header)

    def rows() -> Iterator[tuple[int, list[str]]]:
        line = reader.line_num + 1
        for values in reader:
            if values:
                if len(values) != len(header):
                    problem = (
                        f"{len(values)} values for {len(header)} columns; quote commas in texts"
                    )
                    raise builder.builder.error(line, "line", problem)
                yield line, values
            line = reader.line_num + 1

    for lines, columns in in_blocks(rows()):
        texts = dict(zip(header, columns, strict=True))
        builder.add_rows(lines, {k: _csv_values(k, texts[k]) for k in texts if k in _READ})
    return builder.build()


def _csv_values(column: str, texts: Sequence[str]) -> list[Any]:
    """Return the values of a column."""
    if column not in FIELDS:
        return [text or None for text in texts]
    try:
        return list(map(float, texts))
    except ValueError:
        return [_csv_value(column, text) for text in texts]


def _csv_value(column: str, text: str) -> str | float | None:
    """Return None for an empty cell, a number in a column of numbers, else the text."""
    if not text:
        return None
    if column not in FIELDS:
        return text
    try:
        return float(text)
    except ValueError:
        return text


def _csv(table: Columns) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(long_form_columns(table))
    writer.writerows(long_form_rows(table))
    return file.getvalue().encode("utf-8")


# Parquet and label folders


def _read_folder(folder: Path) -> Columns:
    """Read a label folder, leaving out failed cells, or a folder of Parquet shards."""
    labelled = (folder / LABEL_FILE).is_file()
    files = shard_files(folder)
    if not files and labelled:
        raise ScoreTableError(
            f"{str(folder)!r} holds no measured cells yet; run tryage label again"
        )
    if not files:
        raise ScoreTableError(
            f"{str(folder)!r} is a folder without {LABEL_FILE}, so tryage label did not write it, "
            f"and without Parquet shards; give such a folder, or a file ({', '.join(FORMATS)})"
        )
    return _read_parquet(files, labelled=labelled)


def _read_parquet(files: Sequence[Path], *, labelled: bool) -> Columns:
    """Read Parquet files: shards that `label` wrote, or files of any origin."""
    if not labelled and len(files) > 1:
        open_shards(files)
    builder: LongFormBuilder | None = None
    rows = 0
    for file in files:
        try:
            table = open_shard(file, _READ)
            if builder is None:
                builder = LongFormBuilder(
                    str(file), unit="row", columns=table.columns, labelled=labelled
                )
            else:
                builder.start_part(str(file), table.columns, rows)
            rows = table.count
            first = 1
            for columns in table.blocks():
                count = len(columns["prompt"])
                builder.add_rows(range(first, first + count), columns)
                first += count
        except ParquetError as error:
            raise ScoreTableError(f"{file}: not a whole Parquet file: {error}") from error
    if builder is None:
        raise ScoreTableError("no Parquet file is named")
    return builder.build()


_READ = frozenset({*FIELDS, *TEXT_FIELDS, "prompt_id", "prompt", "expert", "error", "extras"})
"""Columns that are read."""


def _write_parquet(table: Columns, path: Path) -> None:
    arrow = import_pyarrow("writing Parquet")
    names = long_form_columns(table)
    columns = zip(*long_form_rows(table), strict=True)
    arrays = {}
    for name, values in zip(names, columns, strict=True):
        kind = arrow.float64() if name in FIELDS else arrow.string()
        arrays[name] = arrow.array(values, type=kind)
    arrow.parquet.write_table(arrow.table(arrays), path)
