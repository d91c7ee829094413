"""Cells in Parquet: the columns of a shard, written and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tryage.errors import OutputFolderError, missing_extra
from tryage.labeling.record import CONDITIONS, NUMBERS, Cell
from tryage.scores.fields import Kind


def write_shard(path: Path, cells: Sequence[Cell], kind: Kind) -> None:
    """Write cells as a Parquet file.

    Args:
        path: the file.
        cells: what was measured.
        kind: whether quality is kept as a column `loss`, or as `score` = 1 − loss.

    Raises:
        OSError: it cannot be written.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = _parquet()
    import pyarrow

    rows = [cell.row for cell in cells]
    found = [cell.measurement for cell in cells]
    text, number, flag = pyarrow.string(), pyarrow.float64(), pyarrow.bool_()
    losses = [one.loss for one in found]
    # 1 - 0.7 is 0.30000000000000004; a score of 0.3 was meant.
    quality = losses if kind == "losses" else [round(1.0 - loss, 15) for loss in losses]
    columns = {
        "prompt_id": pyarrow.array([row.id for row in rows], text),
        "prompt": pyarrow.array([row.prompt for row in rows], text),
        "group": pyarrow.array([row.group for row in rows], text),
        "task": pyarrow.array([row.task for row in rows], text),
        "reference": pyarrow.array([row.reference for row in rows], text),
        "expert": pyarrow.array([cell.expert for cell in cells], text),
        "loss" if kind == "losses" else "score": _numbers(quality, number),
    }
    for name in NUMBERS:
        columns[name] = _numbers([getattr(one, name) for one in found], number)
    for name in CONDITIONS:
        columns[name] = pyarrow.array([getattr(one, name) for one in found], flag)
    columns["error"] = pyarrow.array([one.error for one in found], text)
    columns["answer"] = pyarrow.array([one.answer for one in found], text)
    parquet.write_table(pyarrow.table(columns), path, compression="zstd")


def read_columns(shard: Path, names: Sequence[str]) -> list[list[Any]]:
    """Read columns of a shard.

    Raises:
        OutputFolderError: it was cut or changed; names it, and the way out.
    """
    parquet = _parquet()
    import pyarrow

    try:
        table = parquet.ParquetFile(shard).read(columns=list(names))
        return [table.column(name).to_pylist() for name in names]
    except (pyarrow.ArrowException, OSError, KeyError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise OutputFolderError(
            f"{shard}: not a whole shard: {reason}; delete this file, and its cells are measured "
            "again, or give a new folder"
        ) from error


def _numbers(values: Sequence[float], kind: Any) -> Any:
    import pyarrow

    # A number that is not there is null in a file, never NaN.
    return pyarrow.array([None if value != value else value for value in values], kind)


def _parquet() -> Any:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise missing_extra("parquet", "keeping measured losses (Parquet)") from error
    return parquet
