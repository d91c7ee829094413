"""One figure of `benchmarks/scale.py` each, measured in a process of its own.

::

    python benchmarks/scale_cells.py experts '{"router": "FOLDER", "data": "FOLDER"}'

prints a JSON object. A fresh process for each, so that no memory of one counts for another.
"""

from __future__ import annotations

import os

os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import csv
import itertools
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from data import read_jsonl

from tryage import Expert, Goals, Library, Router, ScoreTable
from tryage.encoders import StaticEncoder
from tryage.objective import Objective
from tryage.predictors import ClustersPredictor

TASK = "text-generation"
WEIGHTS = Goals(size=0.3, recency=0.1)
LIMITS = Goals(limits={"parameters": "<=8B", "released": ">=2024-01-01"})
CLUSTERS = 16
"""Clusters near a prompt, at most; the floor of a decision reads their cells."""


def resident_mb() -> float:
    """Return how much memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def peak_mb() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def median_ms(way: Callable[[str], Any], prompts: list[str]) -> float:
    """Return the median time of one call, in milliseconds; the first ten calls are not counted."""
    seconds = []
    for prompt in prompts:
        start = time.perf_counter()
        way(prompt)
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds[10:]))


def short_prompts(data: Path, count: int) -> list[str]:
    """Return prompts of open7's test file, of at most 1,000 characters."""
    lines = read_jsonl(data / "routing" / "open7_test.jsonl.gz")
    prompts = [line["prompt"] for line in lines if len(line["prompt"]) <= 1000]
    return [prompts[place * len(prompts) // count] for place in range(count)]


def build(experts: int, router: str, data: str, alike: bool) -> dict[str, Any]:
    """Fit a router over so many experts, copies of open7's with noise, and save it.

    Alike, copies differ by a constant up to 0.01. Otherwise by one up to 0.4, and on every prompt
    by another number up to 0.3.
    """
    train = ScoreTable.read(Path(data) / "routing" / "open7_train.jsonl.gz")
    some = train.select(np.linspace(0, len(train) - 1, 400).astype(int))
    names = tuple(f"org-{number % 997}/model-{number}" for number in range(experts))
    columns = np.arange(experts) % len(some.experts)
    rng = np.random.default_rng(0)
    losses = some.losses[:, columns]
    losses += rng.uniform(0.0, 0.01 if alike else 0.4, size=(1, experts))
    if not alike:
        losses += rng.uniform(0.0, 0.3, size=losses.shape)
    text = (some.prompts, some.ids, some.groups, some.tasks, some.references)
    table = ScoreTable(*text, names, losses)
    library = Library(
        [
            Expert(
                name=name,
                model=name,
                parameters=10**9 * (1 + number % 70),
                released=f"{2020 + number % 6}-{1 + number % 9:02}-01",
                context_length=8192,
            )
            for number, name in enumerate(names)
        ],
        name="many",
    )
    predictor = ClustersPredictor(StaticEncoder.bundled()).fit(table.prompts, table)
    objective = Objective.fit(library, {TASK: 1.0})
    start = time.perf_counter()
    Router(library, {TASK: predictor}, objective=objective).save_pretrained(router)
    return {"save_s": time.perf_counter() - start}


def experts(router: str, data: str) -> dict[str, Any]:
    """Load a router and decide, with and without goals; the record that adapters write."""
    prompts = short_prompts(Path(data), 60)
    start = time.perf_counter()
    loaded = Router.from_pretrained(router)
    load = time.perf_counter() - start
    count = len(loaded.library)
    row = {
        "load_s": load,
        "plain_ms": median_ms(loaded.route, prompts),
        "weights_ms": median_ms(lambda text: loaded.route(text, goals=WEIGHTS), prompts),
        "limits_ms": median_ms(lambda text: loaded.route(text, goals=LIMITS), prompts),
    }
    decisions = {text: loaded.route(text, goals=LIMITS) for text in prompts}
    row["to_dict_ms"] = median_ms(lambda text: decisions[text].to_dict(top=5), prompts)
    record = json.dumps(decisions[prompts[0]].to_dict(top=5))
    row |= {"record_bytes": len(record.encode()), "resident_mb": resident_mb()}
    cells = np.ones((CLUSTERS, count), dtype=np.float32)
    share = np.full(CLUSTERS, 1 / CLUSTERS, dtype=np.float32)
    tokenizer = StaticEncoder.bundled()._tokenizer

    def floor(text: str) -> None:
        tokenizer.encode_batch_fast([text], add_special_tokens=False)
        (share @ cells).argmin()

    return row | {"floor_ms": median_ms(floor, prompts)}


def length(characters: int) -> dict[str, Any]:
    """Decide over `open7` for a text of so many characters; the floor reads the text once.

    Its experts state no context length here, which would exclude them.
    """
    open7 = Router.from_pretrained("open7")
    library = Library([Expert(name=one.name, model=one.model) for one in open7.library])
    objective = Objective.fit(library, {TASK: 1.0})
    router = Router(library, open7.predictors, objective=objective)
    text = "All work and no play makes Jack a dull boy, they say in 1659. " * (characters // 60 + 1)
    texts = [text[number : number + characters] for number in range(60)]
    return {
        "plain_ms": median_ms(router.route, texts),
        "floor_ms": median_ms(lambda one: one.encode(), texts),
    }


def many_prompts(data: Path) -> Iterator[str]:
    """Yield open7's different test prompts again and again, each time with a number before them."""
    lines = read_jsonl(data / "routing" / "open7_test.jsonl.gz")
    prompts = list(dict.fromkeys(line["prompt"] for line in lines))
    for number in itertools.count():
        yield from (f"{number}. {prompt}" if number else prompt for prompt in prompts)


COLUMNS = 11


def write_table(rows: int, folder: str, data: str) -> dict[str, Any]:
    """Write tables of eleven experts: wide and long CSV, JSONL and Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    prompts = list(itertools.islice(many_prompts(Path(data)), rows))
    scores = np.random.default_rng(0).random((rows, COLUMNS)).round(4)
    names = [f"expert-{number}" for number in range(COLUMNS)]
    place = Path(folder)
    with (place / "wide.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", *names])
        writer.writerows([text, *row] for text, row in zip(prompts, scores.tolist(), strict=True))
    with (place / "long.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "model", "score"])
        for text, row in zip(prompts, scores.tolist(), strict=True):
            writer.writerows([text, name, score] for name, score in zip(names, row, strict=True))
    with (place / "table.jsonl").open("w", encoding="utf-8") as file:
        for text, row in zip(prompts, scores.tolist(), strict=True):
            line = {"prompt": text, "scores": dict(zip(names, row, strict=True))}
            file.write(json.dumps(line) + "\n")
    columns = {"prompt": prompts} | {name: scores[:, at] for at, name in enumerate(names)}
    pq.write_table(pa.table(columns), place / "wide.parquet")
    return {}


def read(path: str) -> dict[str, Any]:
    """Read a table; the floor parses the same file with Python's csv and json, or pyarrow."""
    source = Path(path)
    start = time.perf_counter()
    table = ScoreTable.read(source)
    seconds = time.perf_counter() - start
    figures = {"seconds": seconds, "peak_mb": peak_mb(), "cells": int(table.losses.size)}
    start = time.perf_counter()
    if source.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.read_table(source)
    else:
        with source.open(newline="", encoding="utf-8") as file:
            parsed = csv.reader(file) if source.suffix == ".csv" else map(json.loads, file)
            for _ in parsed:
                pass
    return figures | {"floor_s": time.perf_counter() - start}


def fit(path: str, predictor: str) -> dict[str, Any]:
    """Fit a router on a table; the floor encodes its prompts."""
    table = ScoreTable.read(path)
    library = Library([Expert(name=name, model=name) for name in table.experts])
    start, processor = time.perf_counter(), time.process_time()
    Router.fit(table, library=library, predictor=predictor, encoder="static", seed=0)
    row = {
        "seconds": time.perf_counter() - start,
        "processor_s": time.process_time() - processor,
        "peak_mb": peak_mb(),
    }
    start = time.perf_counter()
    StaticEncoder.bundled().encode(table.prompts)
    return row | {"floor_s": time.perf_counter() - start}


CELLS = {cell.__name__: cell for cell in (build, experts, length, write_table, read, fit)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(CELLS[sys.argv[1]](**json.loads(sys.argv[2]))) + "\n")
