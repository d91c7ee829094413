"""Measure the runtime and dispatch: batching, the memory budget, dispatch's own time, the soak.

::

    python benchmarks/runtime.py               # all four, in one run; results/runtime.json
    python benchmarks/runtime.py --calls 500   # a shorter soak, printed and not written

Exits with 1 where a figure misses its bound. The soak runs twice, each in a process of its own: as
the system is, and with ``MALLOC_ARENA_MAX=1``, which keeps the C library from giving each thread a
heap of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data import fill_in
from runtime_table import MARKS, PAGE, table
from small_models import small_library
from soak import decision, settled

from tryage.dispatch import Breaker, DispatchOptions, Health, adispatch, dispatch
from tryage.errors import ExpertError
from tryage.files import write_text
from tryage.runtime import Runtime
from tryage.runtime.system_memory import bytes_in_use

logger = logging.getLogger("runtime")

RESULTS = Path(__file__).parent / "results" / "runtime.json"
BACK_MB = 1.0
"""Memory that may be left after the soak, of some 450 MB: what the heap splits into differently."""

THREADS = 1
"""Threads of torch: small models are fastest on one, and a shared machine disturbs one least."""


def batching(root: Path, rounds: int = 3) -> dict[str, Any]:
    """32 generate calls at once, beside the same calls one after another."""
    runtime = Runtime(small_library(root, 1, width=256, layers=4))
    pipeline = runtime.load("model-0")
    prompts = [f"prompt number {i} " * (1 + i % 4) for i in range(32)]

    def call(prompt: str) -> str:
        return pipeline.generate(prompt, max_new_tokens=32).text

    call(prompts[0])
    alone, together = [], []
    same = True
    for _ in range(rounds):
        started = time.perf_counter()
        expected = [call(prompt) for prompt in prompts]
        alone.append(time.perf_counter() - started)
        with ThreadPoolExecutor(len(prompts)) as pool:
            started = time.perf_counter()
            results = list(pool.map(call, prompts))
            together.append(time.perf_counter() - started)
        same = same and results == expected
    return {
        "calls": len(prompts),
        "tokens_each": 32,
        "one_after_another_s": statistics.median(alone),
        "at_once_s": statistics.median(together),
        "times_faster": statistics.median(alone) / statistics.median(together),
        "same_answers": same,
        "window_s": runtime.batching.window,
        "size": runtime.batching.size,
    }


class Peak:
    """The most memory that the process milliseconds while it watched, looked at every 2 ms."""

    def __enter__(self) -> Peak:
        self.bytes = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._end.wait(0.002):
            self.bytes = max(self.bytes, bytes_in_use("cpu") or 0)

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def memory(root: Path, calls: int = 1000) -> dict[str, Any]:
    """Ten models that need three times the budget, used at random."""
    library = small_library(root, 10, width=512, layers=4)
    sizes = [(root / f"model-{i}" / "model.safetensors").stat().st_size for i in range(10)]
    budget = sum(sizes) // 3
    with Runtime(library) as first:
        # The frameworks load parts of themselves at the first call; they are part of idling.
        first.run("model-0", "hello", max_new_tokens=2)
    idle = settled().memory
    runtime = Runtime(library, memory_budget=budget)
    rng = random.Random(0)
    failed, loads = 0, 0
    started = time.perf_counter()
    with Peak() as peak, runtime:
        for _ in range(calls):
            name = rng.choice(library.names)
            loads += runtime.health(name).bytes == 0
            try:
                runtime.run(name, "hello there", max_new_tokens=2)
            except ExpertError:
                failed += 1
    return {
        "models": len(sizes),
        "models_mb": sum(sizes) / 1e6,
        "budget_mb": budget / 1e6,
        "calls": calls,
        "loads": loads,
        "failed": failed,
        "idle_mb": idle / 1e6,
        "peak_above_idle_mb": (peak.bytes - idle) / 1e6,
        "peak_over_budget": (peak.bytes - idle) / budget,
        "seconds": time.perf_counter() - started,
    }


def _timed(work: Callable[[], Any], times: int) -> dict[str, float]:
    milliseconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        milliseconds.append((time.perf_counter() - started) * 1e3)
    milliseconds.sort()
    return {
        "median_ms": statistics.median(milliseconds),
        "p95_ms": milliseconds[int(len(milliseconds) * 0.95)],
    }


def overhead(times: int = 5000) -> dict[str, Any]:
    """What dispatch adds to a call that costs nothing."""
    chosen = decision(["a", "b", "c"])
    health = Health(Breaker())

    def call(name: str) -> str:
        return name

    async def acall(name: str) -> str:
        return name

    limits = DispatchOptions(timeout=10, total_timeout=20)

    async def asynchronous(options: DispatchOptions) -> dict[str, float]:
        milliseconds = []
        for _ in range(times):
            started = time.perf_counter()
            await adispatch(chosen, acall, options, health=health)
            milliseconds.append((time.perf_counter() - started) * 1e3)
        milliseconds.sort()
        return {
            "median_ms": statistics.median(milliseconds),
            "p95_ms": milliseconds[int(len(milliseconds) * 0.95)],
        }

    return {
        "call_alone": _timed(lambda: call("a"), times),
        "dispatch": _timed(lambda: dispatch(chosen, call, health=health), times),
        "dispatch_with_time_out": _timed(
            lambda: dispatch(chosen, call, limits, health=health), times
        ),
        "adispatch": asyncio.run(asynchronous(DispatchOptions())),
        "adispatch_with_time_out": asyncio.run(asynchronous(limits)),
    }


def soaked(calls: int, warm_up: int, further: int, **environment: str) -> dict[str, Any]:
    """Run the soak in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("soak.py"))]
    counts = {"--calls": calls, "--warm-up": warm_up, "--further": further}
    for option, count in counts.items():
        command += [option, str(count)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, env=os.environ | environment, check=True, text=True
    )
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def missed(results: dict[str, Any]) -> list[str]:
    """Return the bounds that figures miss."""
    soak, one_heap = results["soak"], results["soak_one_heap"]
    checks = (
        ("batching, times faster", results["batching"]["times_faster"] >= 3),
        ("peak over the memory budget", results["memory"]["peak_over_budget"] <= 1.1),
        ("calls failed within the budget", results["memory"]["failed"] == 0),
        ("dispatch", results["dispatch"]["dispatch"]["median_ms"] <= 0.1),
        ("adispatch", results["dispatch"]["adispatch"]["median_ms"] <= 0.1),
        ("calls without an end", soak["without_an_end"] + one_heap["without_an_end"] == 0),
        ("threads", soak["threads"]["after"] <= soak["threads"]["before"]),
        (
            f"memory back within {BACK_MB} MB, with one heap",
            one_heap["memory_mb"]["after"] - one_heap["memory_mb"]["before"] <= BACK_MB,
        ),
    )
    return [bound for bound, met in checks if not met]


def run(calls: int) -> dict[str, Any]:
    """Measure everything in one process, but for the soak."""
    import torch

    torch.set_num_threads(THREADS)
    results: dict[str, Any] = {
        "command": "python benchmarks/runtime.py",
        "machine": {
            "cpus": os.cpu_count(),
            "torch_threads": THREADS,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "load_average_at_start": os.getloadavg()[0],
        },
        "versions": {name: version(name) for name in ("torch", "transformers", "httpx")},
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, measure in (
            ("dispatch", overhead),
            ("batching", lambda: batching(root / "batching")),
            ("memory", lambda: memory(root / "memory")),
            ("soak", lambda: soaked(calls, calls, calls)),
            ("soak_one_heap", lambda: soaked(calls, calls, 0, MALLOC_ARENA_MAX="1")),
        ):
            results[name] = measure()
            logger.info("%s: %s", name, json.dumps(results[name]))
    return results | {"missed": missed(results)}


def main() -> int:
    """Measure, write the results and the page's table; return 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="calls of the soak")
    calls = parser.parse_args().calls
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    results = run(calls)
    if calls == 10_000:
        write_text(RESULTS, json.dumps(results, indent=2) + "\n")
        fill_in(PAGE, table(results), MARKS)
    if results["missed"]:
        logger.error("missed: %s", "; ".join(results["missed"]))
    return int(bool(results["missed"]))


if __name__ == "__main__":
    sys.exit(main())
