"""The soak: thousands of mixed calls, local and served, with faults injected into all of them.

``python benchmarks/soak.py`` prints its figures as JSON; ``--help`` names the counts of calls.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from small_models import small_library

from tryage import Expert, Library
from tryage.decision import Decision, HiddenText
from tryage.dispatch import (
    Breaker,
    DispatchOptions,
    Health,
    adispatch,
    adispatch_stream,
    current_scope,
    dispatch,
    dispatch_stream,
)
from tryage.errors import DispatchError, ExpertError
from tryage.experts import Endpoint
from tryage.runtime import EndpointOptions, Runtime
from tryage.runtime.system_memory import bytes_in_use, give_back

FAULTS = ("raise", "hang", "cut", "nonsense", "memory")
SHARE = 0.15
TIMEOUT = 0.5
HANG = 2 * TIMEOUT
WORKERS = 8


class Nonsense(Exception):
    """An answer that the caller cannot use."""


def decision(order: list[str]) -> Decision:
    """Return a decision with this order."""
    zeros = np.arange(len(order), dtype=float)
    return Decision(
        expert=order[0],
        task="text-generation",
        text=HiddenText("hello"),
        names=tuple(order),
        losses=zeros,
        std=zeros,
        totals=zeros,
        values={},
        reasons={},
        weights={},
        limits=(),
        flags=(),
        out_of_distribution=False,
    )


class Soak:
    """Calls experts in four ways; some of the calls meet a fault before, within or after."""

    def __init__(self, runtime: Runtime, seed: int) -> None:
        self.runtime = runtime
        self.health = Health(Breaker(failures=8, seconds=0.2))
        self.met: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def draw(self) -> tuple[list[str], list[str | None]]:
        """Return an order of experts, and the fault that each of the calls meets."""
        with self._lock:
            order = self._random.sample(self.runtime.library.names, 3)
            faults = [
                self._random.choice(FAULTS) if self._random.random() < SHARE else None
                for _ in order
            ]
            return order, faults

    def meets(self, fault: str | None) -> None:
        """Raise where the fault is one that raises at once."""
        if fault is None:
            return
        with self._lock:
            self.met[fault] += 1
        if fault == "raise":
            raise ConnectionError("injected")
        if fault == "memory":
            raise MemoryError("injected: out of memory")

    def call(self, name: str, fault: str | None) -> str:
        """Call an expert and wait."""
        self.meets(fault)
        if fault == "hang":
            scope = current_scope()
            if scope is None or self._random.random() < 0.5:
                time.sleep(HANG)
            else:
                scope.given_up.wait(HANG)
        text = self.runtime.run(name, "hello", max_new_tokens=4).text
        if fault == "nonsense":
            raise Nonsense("injected")
        return text

    async def acall(self, name: str, fault: str | None) -> str:
        """Call an expert, asynchronously."""
        self.meets(fault)
        if fault == "hang":
            await asyncio.sleep(HANG)
        answer = await self.runtime.arun(name, "hello", max_new_tokens=4)
        if fault == "nonsense":
            raise Nonsense("injected")
        return answer.text

    def chunks(self, name: str, fault: str | None) -> Iterator[str]:
        """Stream from an expert."""
        self.meets(fault)
        if fault == "hang":
            time.sleep(HANG)
        with self.runtime.stream(name, "hello", max_new_tokens=4) as stream:
            for piece in stream:
                yield piece
                if fault == "cut":
                    raise ConnectionError("injected: cut")

    async def achunks(self, name: str, fault: str | None) -> AsyncIterator[str]:
        """Stream from an expert, asynchronously."""
        self.meets(fault)
        if fault == "hang":
            await asyncio.sleep(HANG)
        async with self.runtime.astream(name, "hello", max_new_tokens=4) as stream:
            async for piece in stream:
                yield piece
                if fault == "cut":
                    raise ConnectionError("injected: cut")

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of every dispatch."""
        limits = DispatchOptions(timeout=TIMEOUT, total_timeout=4 * TIMEOUT)
        return {"options": limits, "health": self.health}

    def blocking(self, number: int) -> str:
        """Make one blocking call or stream; returns how it ended."""
        order, faults = self.draw()
        meets = dict(zip(order, faults, strict=True))
        chosen = decision(order)
        try:
            if number % 2:
                dispatch(chosen, lambda n: self.call(n, meets[n]), **self.options())
                return "answered"
            stream = dispatch_stream(chosen, lambda n: self.chunks(n, meets[n]), **self.options())
            for i, _ in enumerate(stream):
                if number % 14 == 0 and i == 1:
                    stream.close()
                    return "closed by the reader"
        except (DispatchError, ExpertError, ConnectionError) as error:
            return refusal_kind(error)
        return "answered"

    async def unblocking(self, number: int) -> str:
        """Make one asynchronous call or stream; returns how it ended."""
        order, faults = self.draw()
        meets = dict(zip(order, faults, strict=True))
        chosen = decision(order)
        try:
            if number % 2:
                calling = adispatch(chosen, lambda n: self.acall(n, meets[n]), **self.options())
                if number % 15 == 0:
                    task = asyncio.ensure_future(calling)
                    await asyncio.sleep(0.001)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    return "cancelled by the caller"
                await calling
                return "answered"
            stream = adispatch_stream(chosen, lambda n: self.achunks(n, meets[n]), **self.options())
            async for _ in stream:
                pass
        except (DispatchError, ExpertError, ConnectionError) as error:
            return refusal_kind(error)
        return "answered"


def refusal_kind(error: Exception) -> str:
    """Return how a failed call was refused; a refusal without a reason is a fault."""
    if not str(error).strip():
        return "refused without a reason"
    return "refused with its reason" if isinstance(error, DispatchError) else "cut, with its reason"


class Settled(NamedTuple):
    """Threads, memory and objects left after work has ended and freed memory was given back."""

    threads: int
    memory: int
    objects: int


def settled() -> Settled:
    """Wait for the runtime's threads, collect garbage, trim the heap, and measure."""
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        busy = [t for t in threading.enumerate() if t.name.startswith("tryage")]
        if not busy:
            break
        busy[0].join(0.1)
    gc.collect()
    give_back("cpu")
    return Settled(threading.active_count(), bytes_in_use("cpu") or 0, len(gc.get_objects()))


def peak_bytes() -> int:
    """Return the most memory that this process took; what its parent took does not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def run_calls(soak: Soak, calls: int) -> Counter[str]:
    """Make calls, half of them blocking in threads, half on an event loop."""
    ends: Counter[str] = Counter()
    lock = threading.Lock()
    # Workers share a counter: thousands of tasks made beforehand would be the most of the memory.
    sync_numbers, async_numbers = iter(range(calls // 2)), iter(range(calls - calls // 2))

    def note(end: str) -> None:
        with lock:
            ends[end] += 1

    def blocking() -> None:
        for number in sync_numbers:
            note(soak.blocking(number))

    async def unblocking() -> None:
        for number in async_numbers:
            note(await soak.unblocking(number))

    async def all_unblocking() -> None:
        await asyncio.gather(*(unblocking() for _ in range(WORKERS)))

    with ThreadPoolExecutor(WORKERS) as pool:
        workers = [pool.submit(blocking) for _ in range(WORKERS)]
        asyncio.run(all_unblocking())
        for worker in workers:
            worker.result()
    return ends


def soak(root: Path, calls: int, warm_up: int, further: int, seed: int = 0) -> dict[str, Any]:
    """Run the soak; returns its figures.

    Args:
        root: where the models are saved.
        calls: of the soak.
        warm_up: calls before it begins; what is loaded and cached once is part of the beginning.
        further: calls after it, which tell whether memory goes on growing.
        seed: of the orders and faults.
    """
    server = Path(__file__).with_name("fault_server.py")
    with subprocess.Popen(
        [sys.executable, str(server)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None or process.stdin is None:
            raise SystemExit("the fault server has no pipes")
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        local = small_library(root, 3, width=64, layers=1)
        served = [
            Expert(name=f"served-{i}", model="m", endpoint=Endpoint(url=url)) for i in range(3)
        ]
        library = Library([*local, *served], root=root)
        endpoint_options = EndpointOptions(retries=1, backoff=0.01)
        with Runtime(library, endpoints=endpoint_options) as runtime:
            runtime.warm_up()
            run_calls(Soak(runtime, seed + 1), warm_up)
            before = settled()
            tested = Soak(runtime, seed)
            started = time.perf_counter()
            ends = run_calls(tested, calls)
            seconds = time.perf_counter() - started
            after = settled()
            run_calls(Soak(runtime, seed + 2), further)
            later = settled()
        process.stdin.close()
    return {
        "calls": calls,
        "calls_before_it_began": warm_up,
        "calls_after_it_ended": further,
        "seconds": seconds,
        "ends": dict(ends),
        "without_an_end": calls - sum(ends.values()) + ends["refused without a reason"],
        "faults_injected": dict(tested.met),
        "threads": {"before": before.threads, "after": after.threads, "later": later.threads},
        "memory_mb": {
            "before": before.memory / 1e6,
            "after": after.memory / 1e6,
            "later": later.memory / 1e6,
        },
        "python_objects": {"before": before.objects, "after": after.objects},
        "malloc_arena_max": os.environ.get("MALLOC_ARENA_MAX"),
        "peak_memory_mb": peak_bytes() / 1e6,
    }


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--warm-up", type=int, default=10_000)
    parser.add_argument("--further", type=int, default=10_000)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results = soak(Path(folder), args.calls, args.warm_up, args.further)
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
