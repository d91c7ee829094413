"""Where the benchmarks' data lies, and how to read it."""

from __future__ import annotations

import gzip
import json
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any


def data_folder() -> Path:
    """Return the folder of the benchmark data: TRYAGE_DATA, else ../shared/data."""
    named = os.environ.get("TRYAGE_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        raise SystemExit(f"no data folder at {folder}; name one with TRYAGE_DATA")
    return folder


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file, gzipped or not."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def provenance(command: str) -> dict[str, Any]:
    """Return what every file of results says of how it came about."""
    return {
        "command": command,
        "versions": {name: version(name) for name in ("tryage", "numpy", "tokenizers")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


BEGIN, END = "<!-- routing: begin -->", "<!-- routing: end -->"
"""Marks between which `benchmarks/routing.py` writes its table."""


def fill_in(path: Path, text: str, marks: tuple[str, str]) -> bool:
    """Put text between two marks of a file; return whether it has them."""
    begin, end = marks
    if not path.is_file():
        return False
    old = path.read_text(encoding="utf-8")
    if begin not in old or end not in old:
        return False
    head, rest = old.split(begin, 1)
    tail = rest.split(end, 1)[1]
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
    return True
