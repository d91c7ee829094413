"""The local engine: one expert's rows in this process, several blocks of them at a time."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tryage.labeling.methods import Found, Method
from tryage.labeling.prompts import Row
from tryage.labeling.tokens import Pipeline
from tryage.runtime import Runtime

BLOCK = 512
"""Rows that are sorted by length together: enough to pad little, few enough to keep in memory."""


def blocks(n: int, workers: int) -> list[range]:
    """Cut the numbers of `n` rows into blocks, so small that every worker has one."""
    size = max(1, min(BLOCK, -(-n // workers)))
    return [range(start, min(start + size, n)) for start in range(0, n, size)]


def default_workers(device: str) -> int:
    """Return how many threads may read a model at once: what torch's own threads leave of a CPU.

    Args:
        device: where the models run; anything but a CPU has one.
    """
    import torch

    if device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // int(torch.get_num_threads()))


def measure_locally(
    method: Method,
    runtime: Runtime,
    name: str,
    pipeline: Pipeline | None,
    rows: Sequence[Row],
    workers: int,
) -> Iterator[Found]:
    """Measure an expert's rows.

    Args:
        method: how they are measured.
        runtime: runs the expert.
        name: the expert.
        pipeline: what `Method.load` returned.
        rows: rows of the expert's task.
        workers: blocks at a time; each but the first reads a twin of the pipeline. Answers are
            batched by the runtime itself, one block at a time.

    Yields:
        The numbers of the rows that are done, and their measurements.
    """
    parts = blocks(len(rows), workers)
    if pipeline is None or workers == 1 or len(parts) == 1:
        for part in parts:
            for numbers, found in method.measure(
                runtime, name, pipeline, rows[part.start : part.stop]
            ):
                yield [part.start + i for i in numbers], found
        return
    with _Workers(method, runtime, name, pipeline, rows).over(parts, workers) as found_so_far:
        yield from found_so_far


class _Workers:
    """Threads that take blocks off a list and put what they find into a queue."""

    def __init__(
        self, method: Method, runtime: Runtime, name: str, pipeline: Pipeline, rows: Sequence[Row]
    ) -> None:
        self._way, self._runtime, self._name = method, runtime, name
        self._pipeline, self._rows = pipeline, rows
        self._parts: queue.SimpleQueue[range] = queue.SimpleQueue()
        # Bounded, so that threads do not run ahead of a slow disk.
        self._found: queue.Queue[Found | BaseException | None] = queue.Queue(64)
        self._stop = threading.Event()

    @contextmanager
    def over(self, parts: Sequence[range], workers: int) -> Iterator[Iterator[Found]]:
        """Measure the parts; at the end every thread has ended, however that comes."""
        for part in parts:
            self._parts.put(part)
        count = min(workers, len(parts))
        twins = [self._pipeline, *(self._pipeline.twin() for _ in range(count - 1))]
        threads = [threading.Thread(target=self._work, args=(twin,)) for twin in twins]
        for thread in threads:
            thread.start()
        try:
            yield self._take(count)
        finally:
            self._stop.set()
            while any(thread.is_alive() for thread in threads):
                self._empty()
                for thread in threads:
                    thread.join(0.01)

    def _take(self, running: int) -> Iterator[Found]:
        while running:
            found = self._found.get()
            if found is None:
                running -= 1
            elif isinstance(found, BaseException):
                raise found
            else:
                yield found

    def _empty(self) -> None:
        while not self._found.empty():
            self._found.get()

    def _work(self, pipeline: Pipeline) -> None:
        try:
            while not self._stop.is_set():
                try:
                    part = self._parts.get_nowait()
                except queue.Empty:
                    break
                rows = self._rows[part.start : part.stop]
                for numbers, found in self._way.measure(self._runtime, self._name, pipeline, rows):
                    self._found.put(([part.start + i for i in numbers], found))
                    if self._stop.is_set():
                        break
            self._found.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever takes what is found
            self._found.put(error)
