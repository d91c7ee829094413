"""A table in several Parquet files: a folder of these shards, or a pattern, as `t/*.parquet`."""

from __future__ import annotations

import glob
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tryage.errors import ScoreTableError
from tryage.parquet_files import ParquetError, ParquetRows

_SHOWN = 3
"""Shards that an error describes at most."""


@dataclass(frozen=True)
class Shards:
    """Parquet files with the same columns, in the order of their names.

    Attributes:
        files: the files, at least one.
        starts: the number of rows in the shards before each.
        columns: names of their columns.
    """

    files: tuple[Path, ...]
    starts: tuple[int, ...]
    columns: tuple[str, ...]


def shard_files(path: Path) -> list[Path]:
    """Return the Parquet files in a folder, or those that a pattern matches, by name.

    Hidden files, and those that begin with an underscore as other programs' notes do, are left out.

    Args:
        path: a folder, or a pattern with ``*``, ``?`` or ``[...]`` that is no file itself.

    Raises:
        ScoreTableError: a pattern matches nothing, or a file of another kind.
    """
    if path.is_dir():
        inside = [(file, file.relative_to(path)) for file in path.rglob("*.parquet")]
        return sorted(
            file
            for file, name in inside
            if file.is_file() and not any(part.startswith((".", "_")) for part in name.parts)
        )
    if not is_pattern(path):
        return []
    files = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    if not files:
        raise ScoreTableError(f"no file matches {str(path)!r}; give a folder, or another pattern")
    for file in files:
        if file.suffix.lower() != ".parquet" or not file.is_file():
            raise ScoreTableError(
                f"{str(path)!r} matches {file}; only .parquet files are read together, so narrow "
                "the pattern or convert the others (tryage table convert)"
            )
    return files


def is_pattern(path: Path) -> bool:
    """Tell whether a path is a pattern for the names of files, and not itself one of a file."""
    return glob.has_magic(str(path)) and not path.exists()


def open_shards(files: Sequence[Path]) -> Shards:
    """Look at the columns and the number of rows of each shard.

    Raises:
        ScoreTableError: a file is no Parquet, or the columns of the shards differ.
    """
    starts, rows = [], 0
    first: dict[str, str] = {}
    differences = []
    for file in files:
        opened = open_shard(file, ())
        first = first or opened.kinds
        starts.append(rows)
        rows += opened.count
        difference = _difference(first, opened.kinds)
        if difference:
            differences.append(f"{file} {difference}")
    if differences:
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise ScoreTableError(
            f"{len(differences)} of {len(files)} shards differ from {files[0]} in their columns: "
            f"{'; '.join(differences[:_SHOWN])}{more}. Write all shards with the same columns"
        )
    return Shards(tuple(files), tuple(starts), tuple(first))


def open_shard(file: Path, names: Collection[str]) -> ParquetRows:
    """Open a Parquet file to read some of its columns.

    Raises:
        ScoreTableError: it cannot be read, or is no Parquet that is read here; names it.
    """
    try:
        return ParquetRows(file, names, "reading Parquet")
    except ParquetError as error:
        raise ScoreTableError(f"{file}: not a whole Parquet file: {error}") from error
    except OSError as error:
        raise ScoreTableError(f"{file}: cannot be read: {error.strerror or error}") from error


def _difference(first: dict[str, str], other: dict[str, str]) -> str:
    """Return how the columns of a shard differ from those of the first; empty where they do not.

    A column in which nothing stands has no kind, and agrees with all.
    """
    parts = []
    missing = [name for name in first if name not in other]
    new = [name for name in other if name not in first]
    if missing:
        parts.append(f"lacks {', '.join(missing)}")
    if new:
        parts.append(f"also has {', '.join(new)}")
    for name, kind in first.items():
        if kind and other.get(name) and other[name] != kind:
            parts.append(f"has {name} as {other[name]}, not {kind}")
    return ", ".join(parts)
