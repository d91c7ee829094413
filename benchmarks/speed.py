"""Measure how long deciding takes, beside the router's own tokenizer on the same prompts.

::

    make bench-speed                         # writes results/speed.json, fills docs/speed.md
    python benchmarks/speed.py --minilm DIR  # the baselines too, over all-MiniLM-L6-v2 in a folder

Everything runs in one process, one call after the other, on one thread each (RAYON_NUM_THREADS=1,
OMP_NUM_THREADS=1). Ways that are compared take turns prompt by prompt, so that whatever else the
machine does falls on all of them alike. The baselines need sentence-transformers, and
semantic-router 1.x where it is installed; a baseline that is not there has no row.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.update(RAYON_NUM_THREADS="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import numpy as np
from data import data_folder, fill_in
from speed_table import MARKS, PAGE, table

import tryage
from tryage import Expert, Library, Router, ScoreTable
from tryage.deciding import Decider, Request
from tryage.encoders import StaticEncoder
from tryage.forecast import Forecast
from tryage.objective import Objective
from tryage.predictors import ClustersPredictor

logger = logging.getLogger("speed")

RESULTS = Path(__file__).parent / "results" / "speed.json"
BUNDLED = Path(tryage.__file__).parent / "pretrained" / "static"
TASK = "text-generation"
FLAG = " [Flag: small, recent, parameters <= {}B, context_length >= {}]"

PROCESS = {
    "import_s": "s = time.perf_counter(); import tryage; print(time.perf_counter() - s)",
    "load_s": "import tryage; s = time.perf_counter(); tryage.Router.from_pretrained('open7'); "
    "print(time.perf_counter() - s)",
    "resident_mb": "import tryage; tryage.Router.from_pretrained('open7').route('hi'); "
    "print([int(line.split()[1]) / 1024 for line in open('/proc/self/status') "
    "if line.startswith('VmRSS')][0])",
}
"""What a fresh process is asked for."""

Ways = dict[str, Callable[[Any], Any]]
Seconds = dict[str, list[float]]


def clocked(ways: Ways, items: list[Any]) -> Seconds:
    """Return the seconds that each way took of every item, the ways in turns."""
    seconds: Seconds = {name: [] for name in ways}
    for item in items:
        for name, way in ways.items():
            start = time.perf_counter()
            way(item)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def row(seconds: list[float]) -> dict[str, float]:
    """Return median and 95th percentile in milliseconds, and how many calls they rest on."""
    return {
        "median_ms": 1e3 * float(np.median(seconds)),
        "p95_ms": 1e3 * float(np.percentile(seconds, 95)),
        "calls": len(seconds),
    }


def rows(seconds: Seconds) -> dict[str, dict[str, float]]:
    """Return the row of every way."""
    return {name: row(samples) for name, samples in seconds.items()}


def ratio(seconds: Seconds, way: str, floor: str) -> dict[str, Any]:
    """Compare two ways at the median and the 95th percentile; 95 % intervals by bootstrap."""
    ours, theirs = np.array(seconds[way]), np.array(seconds[floor])
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(ours), (1000, len(ours)))
    ratios: dict[str, Any] = {}
    for name, share in (("median", 50), ("p95", 95)):
        many = np.percentile(ours[drawn], share, axis=1) / np.percentile(
            theirs[drawn], share, axis=1
        )
        ratios[name] = float(np.percentile(ours, share) / np.percentile(theirs, share))
        ratios[f"{name}_ci95"] = [float(np.quantile(many, q)) for q in (0.025, 0.975)]
    return ratios


def with_own_encoder() -> Router:
    """Return `open7` with an encoder of its own, which has seen no word that another way met."""
    router, encoder = Router.from_pretrained("open7"), StaticEncoder.load(BUNDLED)
    for task, predictor in router.predictors.items():
        arrays = predictor.state()
        router.predictors[task] = type(predictor).from_state(*arrays, encoder)
    return Router(router.library, router.predictors, objective=router.objective)


def deciding(prompts: list[str]) -> dict[str, Any]:
    """One prompt at a time: the tokenizer alone, a decision, and one with flags."""
    encoder, router, flagged = StaticEncoder.load(BUNDLED), with_own_encoder(), with_own_encoder()
    tokenizer = encoder._tokenizer
    ways: Ways = {
        "tokenizer": lambda text: tokenizer.encode_batch_fast([text], add_special_tokens=False),
        "encoder": lambda text: encoder.encode([text]),
        "route": router.route,
        "route_with_flags": lambda text: flagged.route(f"{text} [Flag: small, recent]"),
    }
    clocked(ways, prompts[:100])
    timings = clocked(ways, prompts[100:])
    return {"single": rows(timings), "ratio": ratio(timings, "route", "tokenizer")}


def batches(prompts: list[str], size: int = 256) -> dict[str, Any]:
    """Batches of 256 beside the tokenizer's own, one thread each; and twice and four times that."""
    router, tokenizer = with_own_encoder(), StaticEncoder.bundled()._tokenizer
    ways: Ways = {
        "tokenizer": lambda part: tokenizer.encode_batch_fast(part, add_special_tokens=False),
        "route_batch": router.route_batch,
    }
    parts = [prompts[start : start + size] for start in range(0, len(prompts) - size + 1, size)]
    figures = rows(clocked(ways, parts))
    # The same prompts in batches of each size, so that they differ in nothing else.
    grown: Seconds = {}
    whole = prompts[: len(prompts) // (4 * size) * (4 * size)]
    for _ in range(5):
        for times in (1, 2, 4):
            starts = range(0, len(whole), size * times)
            many = [whole[start : start + size * times] for start in starts]
            took = clocked({"route_batch": router.route_batch}, many)["route_batch"]
            grown.setdefault(str(size * times), []).append(sum(took) / len(took))
    throughput = figures["tokenizer"]["median_ms"] / figures["route_batch"]["median_ms"]
    return {"batch_256": figures, "batch_throughput_ratio": throughput, "batch_growth": rows(grown)}


def many_experts(table: ScoreTable, count: int, *, context_length: int | None = 8192) -> Router:
    """Return a router over `count` experts with attributes, each a copy of one of the table's."""
    names = tuple(f"expert-{number}" for number in range(count))
    columns = np.arange(count) % len(table.experts)
    wide = ScoreTable(
        table.prompts,
        table.ids,
        table.groups,
        table.tasks,
        table.references,
        names,
        table.losses[:, columns],
    )
    experts = tuple(
        Expert(
            name=name,
            model=name,
            parameters=10**9 * (1 + number % 70),
            released=f"{2020 + number % 6}-{1 + number % 9:02}-01",
            context_length=context_length,
        )
        for number, name in enumerate(names)
    )
    library = Library(experts, name="many")
    predictor = ClustersPredictor(StaticEncoder.bundled()).fit(wide.prompts, wide)
    return Router(library, {TASK: predictor}, objective=Objective.fit(library, {TASK: 1.0}))


def steering(router: Router, prompts: list[str]) -> dict[str, float]:
    """Flags, policy, objective and decision alone: two words and two limits in every prompt."""
    forecast = router.forecast(prompts[:1], task=TASK)

    class Steering(Decider):
        """A decider whose forecast costs nothing."""

        def forecast(self, prompts: Sequence[str], task: str) -> Forecast:
            return forecast

    decider = Steering(router.library, router.predictors, router.objective, router.policy)
    request = Request()

    def steer(prompt: str) -> None:
        decider.decide([prompt], request)

    flagged = [text[:300] + FLAG.format(8 + n % 20, 4096 + n % 5) for n, text in enumerate(prompts)]
    clocked({"steer": steer}, flagged[:200])
    return row(clocked({"steer": steer}, flagged[200:1200])["steer"])


def growth(data: Path, prompts: list[str]) -> dict[str, Any]:
    """How a decision, and steering alone, grow with the library, and with the prompt's length.

    Prompts of more than 10,000 characters are cut; the experts of the last part state no context
    length, which would exclude them.
    """
    train = ScoreTable.read(data / "routing" / "open7_train.jsonl.gz")
    some = train.select(np.arange(0, len(train), 6))
    experts, steered = {}, {}
    for count in (10, 100, 1_000, 10_000):
        router = many_experts(some, count)
        clocked({"route": router.route}, prompts[:100])
        experts[str(count)] = row(clocked({"route": router.route}, prompts[100:600])["route"])
        steered[str(count)] = steering(router, prompts)
    router = many_experts(some, 7, context_length=None)
    text = "All work and no play makes Jack a dull boy, they say in 1659. " * 20_000
    characters = {
        str(count): row(clocked({"route": router.route}, [text[:count]] * 50)["route"])
        for count in (100, 1_000, 10_000, 100_000, 1_000_000)
    }
    return {"experts": experts, "steering": steered, "characters": characters}


def process(what: str) -> float:
    """Return the median of what five fresh processes print."""
    command = [sys.executable, "-c", f"import time; {PROCESS[what]}"]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(5)]
    return float(np.median([float(run.stdout) for run in runs]))


def baselines(minilm: str, prompts: list[str]) -> dict[str, Any]:
    """Other ways to look at a prompt: a sentence-transformers model, and semantic-router on it."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    network = SentenceTransformer(minilm, device="cpu")
    ways: Ways = {
        "sentence-transformers": lambda text: network.encode([text], show_progress_bar=False),
    }
    if importlib.util.find_spec("semantic_router") is not None:
        ways["semantic-router"] = semantic_router(minilm, prompts)
    clocked(ways, prompts[:5])
    return rows(clocked(ways, prompts[-100:]))


def semantic_router(minilm: str, prompts: list[str]) -> Callable[[str], Any]:
    """Return a router of semantic-router over five routes of sixty utterances each."""
    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import HuggingFaceEncoder

    routes = [
        Route(name=f"route-{n}", utterances=[text[:200] for text in prompts[60 * n : 60 * n + 60]])
        for n in range(5)
    ]
    return IndexedRouter(HuggingFaceEncoder(name=minilm), routes)


def run(data: Path, minilm: str | None, n: int) -> dict[str, Any]:
    """Measure everything once."""
    test = ScoreTable.read(data / "routing" / "open7_test.jsonl.gz")
    order = np.random.default_rng(0).permutation(len(test))[:n]
    prompts = [test.prompts[number] for number in order.tolist()]
    results = deciding(prompts) | batches(prompts) | growth(data, prompts)
    results |= {what: process(what) for what in PROCESS}
    if minilm is not None:
        results["baselines"] = baselines(minilm, prompts)
    return results


def main() -> None:
    """Read the arguments, measure, write the results and the page's table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--minilm", help="folder of all-MiniLM-L6-v2, for the baselines")
    parser.add_argument("--prompts", type=int, default=2048)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    packages = ("tryage", "numpy", "tokenizers", "sentence-transformers", "semantic-router")
    provenance = {
        "command": "python benchmarks/speed.py" + (" --minilm DIR" if args.minilm else ""),
        "versions": {
            name: version(name)
            for name in packages
            if importlib.util.find_spec(name.replace("-", "_")) is not None
        },
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": 1,
        "prompts": args.prompts,
        "seed": 0,
        "load_average_at_start": os.getloadavg()[0],
    }
    results = provenance | run(data_folder(), args.minilm, args.prompts)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    fill_in(PAGE, table(results), MARKS)
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
