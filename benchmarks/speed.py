"""Measure how long deciding takes, beside the router's own tokenizer on the same prompts.

::

    python benchmarks/speed.py               # writes results/speed.json
    python benchmarks/speed.py --minilm DIR  # also encodes by sentence-transformers from a folder

Everything runs in one process, one call after the other, on one thread each (RAYON_NUM_THREADS=1,
OMP_NUM_THREADS=1), the ways interleaved prompt by prompt, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.update(RAYON_NUM_THREADS="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
from data import data_folder

from tryage import Expert, Library, Router, ScoreTable
from tryage.encoders import StaticEncoder

logger = logging.getLogger("speed")

RESULTS = Path(__file__).parent / "results" / "speed.json"


def timed(ways: dict[str, Callable[[Any], Any]], items: list[Any]) -> dict[str, dict[str, float]]:
    """Return median and p95 milliseconds of each way, interleaved item by item."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for item in items:
        for name, way in ways.items():
            start = time.perf_counter()
            way(item)
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {
            "median_ms": 1e3 * float(np.median(found)),
            "p95_ms": 1e3 * float(np.percentile(found, 95)),
        }
        for name, found in seconds.items()
    }


def child(code: str) -> list[float]:
    """Return what five fresh Python processes print, one number each."""
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(5)]
    return [float(run.stdout) for run in runs]


def many_experts(table: ScoreTable, count: int) -> Router:
    """Return a router over `count` experts, each a copy of one of the table's."""
    names = [f"expert-{number}" for number in range(count)]
    columns = np.arange(count) % len(table.experts)
    wide = ScoreTable(
        table.prompts,
        table.ids,
        table.groups,
        table.tasks,
        table.references,
        tuple(names),
        table.losses[:, columns],
    )
    library = Library(tuple(Expert(name=name, model=name) for name in names), name="many")
    from tryage.objective import Objective
    from tryage.predictors import ClustersPredictor

    predictor = ClustersPredictor(StaticEncoder.bundled(), k=10).fit(wide.prompts, wide)
    objective = Objective.fit(library, {"text-generation": 1.0})
    return Router(library, {"text-generation": predictor}, objective=objective)


def run(data: Path, minilm: str | None, n: int) -> dict[str, Any]:
    """Measure everything once."""
    test = ScoreTable.read(data / "routing" / "open7_test.jsonl.gz")
    order = np.random.default_rng(0).permutation(len(test))[:n]
    prompts = [test.prompts[row] for row in order.tolist()]
    router = Router.from_pretrained("open7")
    tokenizer = StaticEncoder.bundled()._tokenizer
    ways: dict[str, Callable[[Any], Any]] = {
        "tokenizer": lambda prompt: tokenizer.encode_batch_fast([prompt], add_special_tokens=False),
        "route": router.route,
    }
    timed(ways, prompts[:100])
    single = timed(ways, prompts)
    batches = [prompts[start : start + 256] for start in range(0, len(prompts) - 255, 256)]
    batch = timed(
        {
            "tokenizer": lambda part: tokenizer.encode_batch_fast(part, add_special_tokens=False),
            "route_batch": router.route_batch,
        },
        batches,
    )
    train = ScoreTable.read(data / "routing" / "open7_train.jsonl.gz")
    some = train.select(np.arange(0, len(train), 6))
    by_library = {
        count: timed({"route": many_experts(some, count).route}, prompts[:300])["route"]
        for count in (7, 100, 10_000)
    }
    megabyte = ("All work and no play makes a dull day. " * 30_000)[:1_000_000]
    found = {
        "single": single,
        "ratio_median": single["route"]["median_ms"] / single["tokenizer"]["median_ms"],
        "ratio_p95": single["route"]["p95_ms"] / single["tokenizer"]["p95_ms"],
        "batch_256": batch,
        "batch_throughput_ratio": batch["tokenizer"]["median_ms"]
        / batch["route_batch"]["median_ms"],
        "experts": {str(count): row for count, row in by_library.items()},
        "prompt_1MB": timed({"route": router.route}, [megabyte] * 20)["route"],
        "import_s": float(
            np.median(
                child(
                    "import time; s = time.perf_counter(); import tryage; "
                    "print(time.perf_counter() - s)"
                )
            )
        ),
        "load_s": float(
            np.median(
                child(
                    "import time, tryage; s = time.perf_counter(); "
                    "tryage.Router.from_pretrained('open7'); print(time.perf_counter() - s)"
                )
            )
        ),
        "resident_MB": float(
            np.median(
                child(
                    "import tryage; tryage.Router.from_pretrained('open7').route('hi'); "
                    "lines = open('/proc/self/status').read().splitlines(); "
                    "print([int(x.split()[1]) / 1024 for x in lines if x.startswith('VmRSS')][0])"
                )
            )
        ),
    }
    if minilm is not None:
        from sentence_transformers import SentenceTransformer

        network = SentenceTransformer(minilm, device="cpu")
        found["sentence_transformers_minilm"] = timed(
            {"encode": lambda prompt: network.encode([prompt], show_progress_bar=False)},
            prompts[:100],
        )["encode"]
    return found


def main() -> None:
    """Read the arguments, measure, and write the results."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--minilm", help="folder of all-MiniLM-L6-v2, to time it beside")
    parser.add_argument("--prompts", type=int, default=2048)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    facts = {
        "command": "python benchmarks/speed.py",
        "versions": {name: version(name) for name in ("tryage", "numpy", "tokenizers")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": 1,
        "prompts": args.prompts,
        "load_average_at_start": os.getloadavg()[0],
    }
    results = facts | run(data_folder(), args.minilm, args.prompts)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    logger.info("%s", json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
