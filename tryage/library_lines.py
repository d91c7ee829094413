"""Libraries of many experts as JSONL, an expert a line, or as Parquet, an expert a row.

Each has the keys that an expert has in a YAML file; the library is called after the file. In
Parquet, lists and mappings stand as JSON text.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tryage.errors import LibraryError
from tryage.experts import Expert
from tryage.files import replacing, write_text
from tryage.json_lines import JsonLineError, json_lines
from tryage.parquet_files import ParquetError, ParquetRows, import_pyarrow
from tryage.paths import opened, shown

SUFFIXES = (".jsonl", ".parquet")

Place = Callable[[Sequence[str | int]], str]
"""Tells where the value at a path of keys stands; the first are "experts" and a number."""

_NESTED = frozenset({"endpoint", "languages", "modalities", "security", "price"})


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the search for cycles: many objects are made here, and none of them is in one."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_rows(path: Path) -> tuple[list[Any], Place]:
    """Return the rows of a file, and where each stands.

    Raises:
        LibraryError: it does not exist, or is no JSONL or Parquet; names file and line.
        MissingExtraError: Parquet without pyarrow.
    """
    try:
        return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_jsonl(path)
    except FileNotFoundError as error:
        raise LibraryError(f"library file {str(path)!r} does not exist") from error
    except OSError as error:
        raise LibraryError(f"library file {str(path)!r}: {error.strerror or error}") from error


def _read_jsonl(path: Path) -> tuple[list[Any], Place]:
    rows, lines = [], []
    try:
        with opened(path) as file:
            for line, row in json_lines(file):
                rows.append(row)
                lines.append(line)
    except JsonLineError as error:
        key = "" if error.key is None else f"{error.key}: "
        raise LibraryError(f"{shown(path)}, line {error.number}: {key}{error.problem}") from error
    return rows, lambda keys: f"line {lines[int(keys[1])] if len(keys) > 1 else 1}"


def _read_parquet(path: Path) -> tuple[list[Any], Place]:
    rows = []
    try:
        names = tuple(Expert.model_fields)
        parquet = ParquetRows(path, names, "reading a library from Parquet")
        unknown = [name for name in parquet.columns if name not in names]
        # Most experts share their languages, modalities and security.
        parsed = functools.lru_cache(maxsize=4096)(_parsed)
        # Column by column, so that an unknown one is an error as an unknown key is.
        for number, row in enumerate(parquet, 1):
            stated = {name: value for name, value in row.items() if value is not None}
            stated |= dict.fromkeys(unknown, "")
            for name in _NESTED & stated.keys():
                try:
                    stated[name] = parsed(stated[name])
                except (ValueError, RecursionError) as error:
                    raise LibraryError(
                        f"{path}, row {number}: {name}: lists and mappings stand as JSON text: "
                        f"{error}"
                    ) from error
            rows.append(stated)
    except ParquetError as error:
        raise LibraryError(f"{path}: not a Parquet file that is read here: {error}") from error
    return rows, lambda keys: f"row {int(keys[1]) + 1 if len(keys) > 1 else 1}"


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the rows of a library, whole or not at all.

    Raises:
        MissingExtraError: Parquet without pyarrow.
    """
    if path.suffix.lower() != ".parquet":
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_text(path, "".join(lines))
        return
    arrow = import_pyarrow("writing a library as Parquet")
    columns = {
        name: [_packed(row.get(name)) for row in rows]
        for name in Expert.model_fields
        if any(name in row for row in rows)
    }
    with replacing(path) as temporary:
        arrow.parquet.write_table(arrow.table(columns), temporary)


def _packed(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
