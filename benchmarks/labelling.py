"""Measure labelling: its speed beside plain loops, its memory, resuming, and the Ray engine.

::

    python benchmarks/labelling.py                  # all of it; writes results/labelling.json
    python benchmarks/labelling.py --prompts 1000   # a smaller one, printed and not written

The experts are the quickstart's, made first where they are not in the cache.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from labelling_table import render
from labelling_ways import fixed_batches, mixed_prompts, prompt_by_prompt

from tryage import Library, ScoreTable
from tryage.files import write_text
from tryage.labeling import label
from tryage.labeling.rows import read_rows

logger = logging.getLogger("labelling")

RESULTS = Path(__file__).parent / "results" / "labelling.json"
PROMPTS = 10_000
ROUNDS, ROUND_PROMPTS = 3, 1000
THREADS = 1
"""Threads of torch, for every way: models this small wait for each other on more."""
_T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t for a 95 % interval, by number of rounds."""


def workspace() -> Path:
    """Return the quickstart's folder; it is made where it is not there yet."""
    from rich.console import Console

    from tryage.quickstart import run

    quickstart = run(console=Console(stderr=True, quiet=True))
    return Path(quickstart["experts"][0]["model"]).parents[1]


def ratio(slow: list[float], fast: list[float]) -> dict[str, Any]:
    """Return how many times faster, from paired rounds, with a t interval of its logarithm."""
    logs = [math.log(a / b) for a, b in zip(slow, fast, strict=True)]
    middle = statistics.fmean(logs)
    half = _T95[len(logs)] * statistics.stdev(logs) / math.sqrt(len(logs))
    return {
        "times_faster": math.exp(middle),
        "ci95": [math.exp(middle - half), math.exp(middle + half)],
    }


def speed(root: Path, rounds: int, count: int) -> dict[str, Any]:
    """Time the ways on the same prompts, in turn, other prompts in every round."""
    library = Library.read(root / "library.yaml")
    ways = ("prompt_by_prompt", "batches_of_32", "label", "label_one_worker")
    took: dict[str, list[float]] = {way: [] for way in ways}
    apart = {"prompt_by_prompt": 0.0, "batches_of_32": 0.0}
    for number in range(rounds + 1):
        # The first round warms up and is not counted.
        prompts = mixed_prompts(root / "texts", count if number else 20, seed=number)
        rows = read_rows(prompts, library.tasks, mask_share=0.15)
        losses, seconds = {}, {}
        started = time.perf_counter()
        losses["prompt_by_prompt"] = prompt_by_prompt(library, rows)
        seconds["prompt_by_prompt"] = time.perf_counter() - started
        started = time.perf_counter()
        losses["batches_of_32"] = fixed_batches(library, rows)
        seconds["batches_of_32"] = time.perf_counter() - started
        with tempfile.TemporaryDirectory() as folder:
            seconds["label"] = label(library, prompts, folder).seconds
            tables = ScoreTable.read(folder).by_task(library).values()
        with tempfile.TemporaryDirectory() as folder:
            # The plain loops have one core: this tells what is not owed to the others.
            seconds["label_one_worker"] = label(library, prompts, folder, workers=1).seconds
        for way, way_losses in losses.items():
            apart[way] = max(apart[way], *(_apart(table, way_losses) for table in tables))
        for way, second in seconds.items() if number else ():
            took[way].append(second)
    cells = count * len(library)
    return {
        "rounds": rounds,
        "cells_per_round": cells,
        "cells_per_s": {way: cells * len(s) / sum(s) for way, s in took.items()},
        "seconds": took,
        "over_prompt_by_prompt": ratio(took["prompt_by_prompt"], took["label"]),
        "over_batches_of_32": ratio(took["batches_of_32"], took["label"]),
        "one_worker_over_prompt_by_prompt": ratio(
            took["prompt_by_prompt"], took["label_one_worker"]
        ),
        "largest_difference": apart,
    }


def _apart(table: ScoreTable, losses: dict[str, dict[str, float]]) -> float:
    expected = [[losses[expert][name] for expert in table.experts] for name in table.ids]
    return float(np.abs(table.losses - np.array(expected)).max())


def whole(root: Path, engine: str, count: int, out: Path) -> dict[str, Any]:
    """Label `count` prompts once; experts' finishing times, and what memory it took."""
    library = Library.read(root / "library.yaml")
    prompts = mixed_prompts(root / "texts", count, seed=100)
    started = time.perf_counter()
    ends: dict[str, float] = {}

    def note(expert: str, done: int, total: int) -> None:
        if done == total:
            ends[expert] = time.perf_counter() - started

    options = {"engine": engine} if engine == "local" else {"engine": "ray", "workers": cores()}
    summary = label(library, prompts, out, progress=note, **options)
    return {
        **summary.to_dict(),
        "start_up_s": summary.start_up,
        "ends_s": ends,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """Return the most memory that this process took; `getrusage` would count its parent's too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise SystemExit("peak memory is read from /proc, which this system lacks")


def cores() -> int:
    """Return the CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def apart_from_here(part: str, *arguments: Any) -> dict[str, Any]:
    """Run one part in a process of its own, whose memory nothing else has touched."""
    with tempfile.TemporaryDirectory() as folder:
        result_file = Path(folder) / "results.json"
        words = map(str, (__file__, "--part", part, "--results", result_file, *arguments))
        environment = os.environ | {
            "OMP_NUM_THREADS": str(THREADS),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        subprocess.run([sys.executable, *words], check=True, env=environment)
        results: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
    logger.info("%s %s: %s", part, " ".join(map(str, arguments)), json.dumps(results))
    return results


def run(prompts: int, rounds: int) -> dict[str, Any]:
    """Measure everything, one part after the other."""
    began = time.perf_counter()
    root = workspace()
    results: dict[str, Any] = {
        "command": "python benchmarks/labelling.py",
        "machine": {
            "cpus": cores(),
            "torch_threads": THREADS,
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
        "versions": {name: version(name) for name in ("torch", "transformers", "ray")},
        "experts": len(Library.read(root / "library.yaml")),
        "prompts": prompts,
    }
    results["speed"] = apart_from_here("speed", "--root", root, "--rounds", rounds)
    with tempfile.TemporaryDirectory() as folder:
        few, many, ray = (Path(folder) / name for name in ("few", "many", "ray"))

        def part(name: str, count: int, out: Path) -> dict[str, Any]:
            return apart_from_here(name, "--root", root, "--prompts", count, "--out", out)

        results["few"] = part("local", prompts // 10, few)
        results["local"] = part("local", prompts, many)
        results["again"] = [part("local", prompts, many) for _ in range(2)]
        results["ray"] = part("ray", prompts, ray)
        here, there = (ScoreTable.read(out) for out in (many, ray))
    results["compared"] = _compared(results, here, there)
    results["seconds"] = time.perf_counter() - began
    return results


def _compared(results: dict[str, Any], here: ScoreTable, there: ScoreTable) -> dict[str, Any]:
    """Return the figures that take two runs."""
    local, ray = results["local"], results["ray"]
    here, there = (
        table.select(np.argsort([f"{t} {i}" for t, i in zip(table.tasks, table.ids, strict=True)]))
        for table in (here, there)
    )
    columns = [there.experts.index(name) for name in here.experts]
    apart = np.nanmax(np.abs(here.losses - there.losses[:, columns]))
    busy = [one["seconds"] - one["start_up_s"] for one in (local, ray)]
    return {
        "memory_many_over_few": local["peak_mb"] / results["few"]["peak_mb"],
        "resume_share": max(one["seconds"] for one in results["again"]) / local["seconds"],
        "ray_over_local": busy[1] / busy[0],
        "ray_over_local_ci95": _interval(local, ray),
        "ray_largest_difference": float(apart),
    }


def _interval(local: dict[str, Any], ray: dict[str, Any]) -> list[float]:
    """Return a 95 % interval of the ratio by bootstrap over experts, each with its own time."""
    spans = []
    for one in (local, ray):
        ends = np.sort(np.array(list(one["ends_s"].values())))
        spans.append(np.diff(np.concatenate([[one["start_up_s"]], ends])))
    here, there = spans
    rng = np.random.default_rng(0)
    picks = rng.integers(len(here), size=(10_000, len(here)))
    ratios = there[picks].sum(axis=1) / here[picks].sum(axis=1)
    return [float(value) for value in np.quantile(ratios, [0.025, 0.975])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, choices=sorted(_T95))
    parser.add_argument("--part", choices=("speed", "local", "ray"), help=argparse.SUPPRESS)
    for name in ("--root", "--out", "--results"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.part is not None:
        import torch

        torch.set_num_threads(THREADS)
        results = (
            speed(arguments.root, arguments.rounds, ROUND_PROMPTS)
            if arguments.part == "speed"
            else whole(arguments.root, arguments.part, arguments.prompts, arguments.out)
        )
        write_text(arguments.results, json.dumps(results))
        return
    report = run(arguments.prompts, arguments.rounds)
    if (arguments.prompts, arguments.rounds) == (PROMPTS, ROUNDS):
        write_text(RESULTS, json.dumps(report, indent=2) + "\n")
        render(report)


if __name__ == "__main__":
    main()
