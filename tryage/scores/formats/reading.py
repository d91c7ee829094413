"""Recognizes the format of a source and reads it."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tryage.errors import ScoreTableError
from tryage.parquet_files import ParquetError, ParquetRows
from tryage.paths import is_stream, read_bytes, shown, user_path
from tryage.scores.columns import Columns
from tryage.scores.files import LABEL_FILE, read_table
from tryage.scores.formats.alpaca_eval import KEYS, annotation_files, read_alpaca_eval
from tryage.scores.formats.harness import read_harness, sample_files
from tryage.scores.formats.json_text import read_json, read_json_lines
from tryage.scores.formats.langsmith import experiment_files, is_langsmith, read_langsmith
from tryage.scores.formats.options import ReadOptions
from tryage.scores.formats.promptfoo import read_promptfoo, results_of
from tryage.scores.formats.roles import ALIASES, is_long
from tryage.scores.formats.rows import (
    Rows,
    entry_rows,
    frame_rows,
    numbered_rows,
    parquet_rows,
    text_rows,
)
from tryage.scores.formats.tables import read_rows
from tryage.scores.shards import is_pattern, shard_files

_PROGRAMS: Mapping[str, Callable[[Path, ReadOptions], tuple[Columns, list[str]]]] = {
    "lm-eval": read_harness,
    "alpaca-eval": read_alpaca_eval,
    "promptfoo": read_promptfoo,
    "langsmith": read_langsmith,
}
_NAMES = {
    "lm-eval": "lm-evaluation-harness samples",
    "alpaca-eval": "AlpacaEval annotations",
    "promptfoo": "promptfoo results",
    "langsmith": "LangSmith experiments",
}
_TEXT_ENDINGS = (".csv", ".tsv")
_MARKS = {b"PAR1": ".parquet", b"\x1f\x8b": ".jsonl.gz", b"[": ".json"}
"""How files of some endings begin."""

_OWN_ENDINGS = (".jsonl.gz",)


def read_source(source: Any, options: ReadOptions) -> tuple[Columns, str | None]:
    """Read a score table from a file, a folder, a frame, a data set or rows.

    Args:
        source: a path, or what `ScoreTable.read` takes besides.
        options: what the caller says about it.

    Returns:
        The columns, and one line that says what was guessed, None where nothing was.

    Raises:
        ScoreTableError: the source is ambiguous or wrong.
    """
    if not isinstance(source, str | Path):
        rows = frame_rows(source)
        return _of_rows(rows, options)
    path = user_path(source)
    if is_stream(path):
        with _spooled(path) as file:
            try:
                columns, note = _of_path(file, options)
            except ScoreTableError as error:
                raise ScoreTableError(str(error).replace(str(file), shown(path))) from error
            return columns, note and note.replace(str(file), shown(path))
    if not path.exists() and not is_pattern(path):
        raise ScoreTableError(f"score table {str(path)!r} does not exist")
    try:
        return _of_path(path, options)
    except OSError as error:
        raise ScoreTableError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def _spooled(path: Path) -> Iterator[Path]:
    """Yield a file with what a stream holds, whose ending tells its format."""
    data = read_bytes(path)
    start = data.removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith(b"{"):
        ending = ".jsonl" if _is_whole(start.split(b"\n", 1)[0]) else ".json"
    else:
        ending = next((e for mark, e in _MARKS.items() if start.startswith(mark)), ".csv")
    with tempfile.TemporaryDirectory(prefix="tryage-") as folder:
        file = Path(folder) / f"table{ending}"
        file.write_bytes(data)
        yield file


def _is_whole(line: bytes) -> bool:
    """Whether a line is a value of JSON, or will be refused as one."""
    return line.count(b"{") == line.count(b"}") or not line.rstrip().endswith((b"{", b"[", b","))


def _of_path(path: Path, options: ReadOptions) -> tuple[Columns, str | None]:
    form = options.format or (
        _folder_format(path, options) if path.is_dir() else _format(path, options)
    )
    if form == "tryage":
        return read_table(path), None
    if form in _PROGRAMS:
        columns, notes = _PROGRAMS[form](path, options)
        note = f"{path}: read as {_NAMES[form]}: {'; '.join(notes)}"
        return columns, note if notes else None
    return _of_rows(_rows(path, options), options)


def _of_rows(rows: Rows, options: ReadOptions) -> tuple[Columns, str | None]:
    columns, notes = read_rows(rows, options)
    if not notes:
        return columns, None
    form = "a row per prompt and expert" if is_long(rows, options) else "a column per expert"
    return columns, f"{rows.source}: read with {form}: {'; '.join(notes)}"


def _rows(path: Path, options: ReadOptions) -> Rows:
    """Open a file that holds rows."""
    ending = path.suffix.lower()
    if ending in (".pkl", ".pickle"):
        raise ScoreTableError(
            f"{path}: a pickle runs code when it is read; if you trust it, give the frame: "
            "ScoreTable.read(pandas.read_pickle(...))"
        )
    if ending in _TEXT_ENDINGS:
        return text_rows(path, options)
    if path.is_dir() or is_pattern(path):
        files = shard_files(path)
        return parquet_rows(files, str(path)) if files else _refuse(path)
    if ending == ".parquet":
        return parquet_rows([path], str(path))
    if ending == ".jsonl":
        return numbered_rows(str(path), read_json_lines(path), "line")
    if ending == ".json":
        entries, lines = read_json(path)
        if lines is None:
            raise ScoreTableError(
                f"{path}: an object, not a list of rows; say what wrote it with format= "
                "(--from promptfoo, langsmith)"
            )
        return entry_rows(str(path), entries, lines)
    return text_rows(path, options)


def _refuse(path: Path) -> Rows:
    raise ScoreTableError(
        f"{path}: a folder without Parquet shards, which neither tryage label nor "
        "lm-evaluation-harness nor AlpacaEval wrote; say what did with format= (--from langsmith)"
    )


def _format(path: Path, options: ReadOptions) -> str:
    """Return the format of a file or of those that a pattern matches; "rows" for any other."""
    if is_pattern(path):
        return _shards_format(shard_files(path), options)
    name = path.name.lower()
    if name.endswith(_OWN_ENDINGS):
        return "tryage"
    if name.startswith("samples_") and name.endswith(".jsonl") and sample_files(path):
        return "lm-eval"
    ending = path.suffix.lower()
    if ending == ".json":
        return _json_format(path)
    if ending == ".jsonl":
        return _line_format(path, options)
    if ending in _TEXT_ENDINGS:
        columns = _first_line(path)
        if is_langsmith(columns):
            return "langsmith"
        return "tryage" if ending == ".csv" and _is_own(columns, options) else "rows"
    if ending == ".parquet":
        return "tryage" if _is_own(_parquet_columns(path), options) else "rows"
    if ending in (".pkl", ".pickle") or not options.is_empty:
        return "rows"
    return "tryage"  # which refuses the ending


def _shards_format(files: Sequence[Path], options: ReadOptions) -> str:
    return "tryage" if _is_own(_parquet_columns(files[0]), options) else "rows"


def _folder_format(path: Path, options: ReadOptions) -> str:
    if (path / LABEL_FILE).is_file():
        return "tryage"
    if sample_files(path):
        return "lm-eval"
    if annotation_files(path):
        return "alpaca-eval"
    files = experiment_files(path)
    if files and all(f.suffix.lower() == ".csv" and is_langsmith(_first_line(f)) for f in files):
        return "langsmith"
    shards = shard_files(path)
    return _shards_format(shards, options) if shards else "tryage"  # which says what it needs


def _json_format(path: Path) -> str:
    value, _ = read_json(path)
    if results_of(value) is not None:
        return "promptfoo"
    if isinstance(value, Mapping) and "examples_with_runs" in value:
        return "langsmith"
    first = value[0] if isinstance(value, list) and value else None
    return _entry_format(first) if isinstance(first, Mapping) else "rows"


def _entry_format(entry: Mapping[str, Any]) -> str:
    """Return the format that an entry of a list has."""
    if entry.keys() >= KEYS:
        return "alpaca-eval"
    if "runs" in entry and "inputs" in entry:
        return "langsmith"
    return "rows"


def _line_format(path: Path, options: ReadOptions) -> str:
    """Return the format of a JSONL file, by its first line."""
    try:
        first = next(islice(read_json_lines(path), 1), None)
    except ScoreTableError:
        return "tryage"  # which says what is wrong with it
    entry = first[1] if first else None
    if not isinstance(entry, Mapping):
        return "tryage"
    if results_of({"results": [entry]}) is not None and isinstance(entry["prompt"], Mapping):
        return "promptfoo"
    if "runs" in entry and "inputs" in entry:
        return "langsmith"
    foreign = {"scores", "losses"}.isdisjoint(entry) and len(entry) > 1
    named = set(map(str.lower, entry)) & set(ALIASES["prompt"])
    return "rows" if (foreign and named) or not options.is_empty else "tryage"


def _is_own(columns: Iterable[str], options: ReadOptions) -> bool:
    """Whether a header is that of Tryage's own long form, or cannot be read."""
    names = set(columns)
    if not options.is_empty:
        return False
    if not names or not {"prompt", "expert"} <= names:
        return not names
    return bool(names & {"score", "loss"}) or not names & set(ALIASES["score"])


def _first_line(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file with commas."""
    with path.open("rb") as file:
        data = file.read(2**16)
    text = data.decode("utf-8-sig", errors="replace")
    try:
        return next(csv.reader(io.StringIO(text, newline="")), [])
    except csv.Error:
        return []


def _parquet_columns(path: Path) -> list[str]:
    try:
        return ParquetRows(path, (), "reading Parquet").columns
    except ParquetError:
        return []
