"""The tables of `docs/speed.md` about growth, from the results of `benchmarks/scale.py`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
MARKS = ("<!-- scale: begin -->", "<!-- scale: end -->")

Rows = dict[str, dict[str, Any]]

FORMATS = {
    "wide.csv": "CSV, a column for each expert",
    "long.csv": "CSV, a line for each score",
    "table.jsonl": "JSON lines",
    "wide.parquet": "Parquet",
}


def slope(rows: Rows, key: str) -> float:
    """Return with which power of the size a figure grows, between the two largest sizes."""
    (small, before), (large, after) = sorted((int(size), row[key]) for size, row in rows.items())[
        -2:
    ]
    return math.log(after / before) / math.log(large / small)


def table(results: dict[str, Any]) -> str:
    """Return the figures as tables."""
    blocks = [
        "Experts of which many are alike, as fine-tuned copies of a few models are:",
        _experts(results["experts"]),
        "Experts that all differ, on every prompt in another way:",
        _experts(results["unlike"]),
        _characters(results["characters"]),
        _tables(results["tables"]),
        _fits(results["fits"]),
        f"{results['machine']}, Python {results['python']}, one run, each figure from a process of "
        "its own.",
    ]
    return "\n\n".join(blocks)


def _grid(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _experts(rows: Rows) -> str:
    times = ("plain_ms", "weights_ms", "limits_ms", "to_dict_ms", "floor_ms")
    head = ["experts", "plain, ms", "two weights, ms", "two limits, ms", "`to_dict(top=5)`, ms"]
    head += ["floor, ms", "record, bytes", "memory, MB", "loading, s"]
    body = [
        [
            f"{int(count):,}",
            *(f"{row[key]:.3f}" for key in times),
            f"{row['record_bytes']:,}",
            f"{row['resident_mb']:,.0f}",
            f"{row['load_s']:.2f}",
        ]
        for count, row in rows.items()
    ]
    grows = ["slope", *(f"{slope(rows, key):.2f}" for key in times), ""]
    grows += [f"{slope(rows, key):.2f}" for key in ("resident_mb", "load_s")]
    return _grid(head, [*body, grows])


def _characters(rows: Rows) -> str:
    head = ["characters of the prompt", "decision, ms", "floor, ms"]
    body = [
        [f"{int(count):,}", f"{row['plain_ms']:.3f}", f"{row['floor_ms']:.4f}"]
        for count, row in rows.items()
    ]
    slopes = (slope(rows, key) for key in ("plain_ms", "floor_ms"))
    return _grid(head, [*body, ["slope", *(f"{power:.2f}" for power in slopes)]])


def _tables(formats: dict[str, Rows]) -> str:
    head = ["a table's file", "rows", "cells", "seconds", "floor, s", "memory, MB"]
    body = []
    for name, rows in formats.items():
        for count, row in rows.items():
            body.append(
                [
                    FORMATS[name],
                    f"{int(count):,}",
                    f"{row['cells']:,}",
                    f"{row['seconds']:.2f}",
                    f"{row['floor_s']:.2f}",
                    f"{row['peak_mb']:,.0f}",
                ]
            )
        powers = [f"{slope(rows, key):.2f}" for key in ("seconds", "floor_s", "peak_mb")]
        body.append([FORMATS[name], "slope", "", *powers])
    return _grid(head, body)


def _fits(predictors: dict[str, Rows]) -> str:
    head = ["`tryage fit --predictor`", "rows", "seconds", "processor, s", "floor, s", "memory, MB"]
    body = []
    for name, rows in predictors.items():
        for count, row in rows.items():
            body.append(
                [
                    f"`{name}`",
                    f"{int(count):,}",
                    f"{row['seconds']:.1f}",
                    f"{row['processor_s']:.1f}",
                    f"{row['floor_s']:.2f}",
                    f"{row['peak_mb']:,.0f}",
                ]
            )
        keys = ("seconds", "processor_s", "floor_s", "peak_mb")
        body.append([f"`{name}`", "slope", *(f"{slope(rows, key):.2f}" for key in keys)])
    return _grid(head, body)


def missed(results: dict[str, Any]) -> list[str]:
    """Return the aims that the figures miss, each with its figure."""
    most = results["unlike"]["200000"]
    aims = [
        *(
            (f"a decision among 200,000 experts ({way}), ms", most[f"{way}_ms"], 2.0)
            for way in ("plain", "weights", "limits")
        ),
        ("to_dict(top=5) among 200,000 experts, ms", most["to_dict_ms"], 0.1),
        ("memory with 200,000 experts, MB", most["resident_mb"], 1000.0),
    ]
    auto = results["fits"]["auto"]["200000"]
    aims += [
        ("seconds of `auto` on 200,000 rows", auto["seconds"], 900.0),
        ("memory of `auto` on 200,000 rows, MB", auto["peak_mb"], 3000.0),
    ]
    for name, rows in results["tables"].items():
        aims.append((f"seconds to read a million cells of {name}", rows["100000"]["seconds"], 10.0))
        aims.append(
            (f"memory to read a million cells of {name}", rows["100000"]["peak_mb"], 1000.0)
        )
    return [
        f"{what} is {figure:,.2f}, aim {aim:,.2f}" for what, figure, aim in aims if figure > aim
    ]
