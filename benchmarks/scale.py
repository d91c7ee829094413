"""Measure how time and memory grow with experts, a prompt's length and a table's rows.

::

    make bench-scale                            # everything, and streaming.py
    python benchmarks/scale.py --only experts   # a part; the others keep their figures
    python benchmarks/scale.py --render         # fill in docs/speed.md from the results

Every figure comes from a process of its own (`benchmarks/scale_cells.py`), one after the other.
Beside each stands the floor: the least that must be done, by the fastest plain means. Needs the
benchmark data.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from data import data_folder, provenance
from publishing import publish
from scale_table import MARKS, PAGE, missed, table

logger = logging.getLogger("benchmark")

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "scale.json"
PARTS = ("experts", "unlike", "characters", "tables", "fits")
EXPERTS = (10, 100, 1_000, 10_000, 100_000, 200_000)
CHARACTERS = (100, 1_000, 10_000, 100_000, 1_000_000)
ROWS = (1_000, 10_000, 100_000)
FITS = (2_000, 20_000, 200_000)

Figures = dict[str, Any]


def cell(name: str, **arguments: Any) -> Figures:
    """Return what a cell measures in a process of its own."""
    command = [sys.executable, str(HERE / "scale_cells.py"), name, json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout)
    logger.info("%s %s: %s", name, arguments, figures)
    return figures


def experts(work: Path, data: str, *, alike: bool = True) -> Figures:
    """Deciding against the number of experts."""
    rows: Figures = {}
    for count in EXPERTS:
        router = str(work / f"router-{count}")
        built = cell("build", experts=count, router=router, data=data, alike=alike)
        rows[str(count)] = built | cell("experts", router=router, data=data)
    return rows


def unlike(work: Path, data: str) -> Figures:
    """The same where every expert is different."""
    return experts(work, data, alike=False)


def characters(_work: Path, _data: str) -> Figures:
    """Deciding against the length of the prompt."""
    return {str(count): cell("length", characters=count) for count in CHARACTERS}


def tables(work: Path, data: str) -> Figures:
    """Reading tables of eleven experts against their rows."""
    rows: Figures = {}
    for count in ROWS:
        folder = work / f"table-{count}"
        folder.mkdir()
        cell("write_table", rows=count, folder=str(folder), data=data)
        for name in ("wide.csv", "long.csv", "table.jsonl", "wide.parquet"):
            rows.setdefault(name, {})[str(count)] = cell("read", path=str(folder / name))
    return rows


def fits(work: Path, data: str) -> Figures:
    """Fitting against a table's rows: `clusters`, and `auto`, which also chooses."""
    rows: Figures = {}
    for count in FITS:
        folder = work / f"fit-{count}"
        folder.mkdir()
        cell("write_table", rows=count, folder=str(folder), data=data)
        for predictor in ("clusters", "auto"):
            fitted = cell("fit", path=str(folder / "wide.parquet"), predictor=predictor)
            rows.setdefault(predictor, {})[str(count)] = fitted
    return rows


MEASURES = {measure.__name__: measure for measure in (experts, unlike, characters, tables, fits)}


def run(args: argparse.Namespace) -> Figures:
    """Measure the parts that are asked for; the others keep their figures."""
    parts = args.only or PARTS
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results = before | provenance("python benchmarks/scale.py")
    for part in parts:
        with tempfile.TemporaryDirectory(dir=args.work) as work:
            results[part] = MEASURES[part](Path(work), str(data_folder()))
    return results


def main() -> int:
    """Read the arguments; measure, or only fill in the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this part only")
    parser.add_argument("--work", help="a folder with 5 GB of room for files; else a temporary one")
    return publish(
        run, table, results=RESULTS, page=PAGE, marks=MARKS, parser=parser, missed=missed
    )


if __name__ == "__main__":
    raise SystemExit(main())
