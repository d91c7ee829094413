"""Rows of a Parquet file, within bounds that follow from its size.

A file states its rows in a few bytes, and packs a text that stands in a million cells once. So
rows and columns are counted before anything is read, and texts before they are unpacked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from tryage.errors import missing_extra
from tryage.files import repeated

_CELLS = 2**20
_CELLS_OF_A_BYTE = 200
_UNPACKED = 2**26
_UNPACKED_OF_A_BYTE = 500
"""A file of n bytes may hold so many cells, and so many bytes unpacked, plus so many per byte."""

_ROWS_AT_ONCE = 4096


class ParquetError(ValueError):
    """A file is not Parquet that is read here."""


class ParquetRows:
    """A Parquet file that was opened.

    Args:
        path: the file.
        names: names of the columns to read; others are left out.
        what: what reads it, for the error where pyarrow is missing.

    Attributes:
        columns: names of all its columns.
        kinds: column → "text", "numbers", "truth values", the name of another type, or "" where
            nothing stands in it.
        count: its rows.

    Raises:
        ParquetError: it is no Parquet, has a column twice, a column of lists, or too many cells.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, names: Collection[str], what: str) -> None:
        self._arrow = import_pyarrow(what)
        size = path.stat().st_size
        try:
            schema = self._arrow.parquet.read_schema(path)
            self.columns: list[str] = list(schema.names)
            self.kinds = {field.name: _kind(self._arrow, field.type) for field in schema}
            texts = [f.name for f in schema if _is_text(self._arrow, f.type) and f.name in names]
            self._file = self._arrow.parquet.ParquetFile(path, read_dictionary=texts)
        except (self._arrow.ArrowException, ValueError) as error:
            raise ParquetError(_first_line(error)) from error
        twice = repeated(self.columns)
        if twice is not None:
            name, first, second = twice
            places = f"columns {first + 1} and {second + 1}"
            raise ParquetError(f"column {name!r} stands twice; keep one of {places}")
        self._names = [name for name in self.columns if name in names]
        for name in self._names:
            kind = schema.field(name).type
            if self._arrow.types.is_nested(kind):
                raise ParquetError(f"column {name!r} holds {kind}, not single values")
        metadata = self._file.metadata
        self.count: int = metadata.num_rows
        packed = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in packed)
        self._room = _UNPACKED + _UNPACKED_OF_A_BYTE * size
        cells = self.count * max(1, len(self._names))
        if cells > _CELLS + _CELLS_OF_A_BYTE * size or unpacked > self._room:
            raise ParquetError(
                f"{size} bytes that say they hold {self.count} rows and {unpacked} bytes unpacked; "
                "that is more than any honest file of this size"
            )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows, each as column → value.

        Raises:
            ParquetError: the file is damaged, or its texts are too long together.
        """
        if not self._names:
            yield from ({} for _ in range(self.count))
            return
        for block in self.blocks():
            for values in zip(*block.values(), strict=True):
                yield dict(zip(self._names, values, strict=True))

    def blocks(self) -> Iterator[dict[str, list[Any]]]:
        """Yield column → values of some thousand rows at a time; equal texts are one object.

        Raises:
            ParquetError: the file is damaged, or its texts are too long together.
        """
        batches = self._file.iter_batches(_ROWS_AT_ONCE, columns=self._names)
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                self._room -= sum(map(self._unpacked, batch.columns))
                if self._room < 0:
                    raise ParquetError("its texts are longer than any honest file of this size has")
                values = list(map(self._values, batch.columns))
            except (self._arrow.ArrowException, OSError, UnicodeDecodeError) as error:
                raise ParquetError(_first_line(error)) from error
            yield dict(zip(self._names, values, strict=True))

    def _values(self, column: Any) -> list[Any]:
        """Return the values of a column as Python has them, None where there is none."""
        types = self._arrow.types
        if types.is_dictionary(column.type):
            codes = column.indices
            if codes.null_count:
                codes = codes.fill_null(len(column.dictionary))
            distinct, places = np.unique(codes.to_numpy(), return_inverse=True)
            texts = np.empty(len(distinct), dtype=object)
            present = self._arrow.array(distinct[distinct < len(column.dictionary)])
            texts[: len(present)] = column.dictionary.take(present).to_pylist()
            return cast(list[Any], texts[places].tolist())
        plain = types.is_floating(column.type) or types.is_integer(column.type)
        if plain and not column.null_count:
            return cast(list[Any], column.to_numpy().tolist())
        return cast(list[Any], column.to_pylist())

    def _unpacked(self, column: Any) -> int:
        """Return the bytes of a column's values, each text counted as often as it occurs."""
        if not self._arrow.types.is_dictionary(column.type):
            return int(column.nbytes)
        import pyarrow.compute as compute

        lengths = compute.binary_length(column.dictionary)
        return int(compute.sum(compute.take(lengths, column.indices)).as_py() or 0)


def _kind(arrow: Any, kind: Any) -> str:
    """Return what the values of a type are, however they are stored."""
    types = arrow.types
    if types.is_dictionary(kind):
        return _kind(arrow, kind.value_type)
    if types.is_null(kind):
        return ""
    if _is_text(arrow, kind):
        return "text"
    if types.is_integer(kind) or types.is_floating(kind):
        return "numbers"
    return "truth values" if types.is_boolean(kind) else str(kind)


def _is_text(arrow: Any, kind: Any) -> bool:
    return bool(arrow.types.is_string(kind) or arrow.types.is_large_string(kind))


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def import_pyarrow(what: str) -> Any:
    """Import `pyarrow` with its Parquet module."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("parquet", what) from error
    return pyarrow
