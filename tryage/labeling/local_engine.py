"""The local engine: the library's models in this process, one after another, in threads."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import queue
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, Self

from tryage.errors import ExpertError
from tryage.labeling.cells import Job, Measurement, Record, Result, failed
from tryage.labeling.rows import Row
from tryage.labeling.tokens import Pipeline
from tryage.runtime import Runtime
from tryage.scores.fields import Kind

BLOCK = 512
"""Rows that are sorted by length together: enough to pad little, few enough to keep in memory."""

Measured = tuple[list[int], list[Measurement]]
"""Positions of rows that are done, and their measurements."""


class ModelMethod(Protocol):
    """How the rows of one of the library's models are measured."""

    @property
    def kind(self) -> Kind:
        """Whether it measures losses or scores."""

    def load(self, runtime: Runtime, name: str) -> Pipeline | None:
        """Load an expert; return its pipeline if the method reads likelihoods from it.

        Raises:
            ExpertError: the expert cannot be loaded, or not measured so.
        """

    def measure(
        self, runtime: Runtime, name: str, pipeline: Pipeline | None, rows: Sequence[Row]
    ) -> Iterator[Measured]:
        """Measure rows batch by batch; a row that fails does not stop the others.

        Args:
            runtime: runs the expert.
            name: the expert.
            pipeline: what `load` returned, or a twin of it.
            rows: rows of the expert's task.
        """

    def per_worker(self, workers: int) -> Self:
        """Return the method for each of `workers` threads that share its memory."""


class LocalEngine:
    """Measures expert after expert; each model leaves memory when its job is done.

    Args:
        method: how rows are measured.
        runtime: runs the experts.
        workers: threads that read one model; None takes `default_workers`.
    """

    def __init__(self, method: ModelMethod, runtime: Runtime, workers: int | None = None) -> None:
        self._method = method
        self._runtime = runtime
        self._workers = workers

    def measure(self, jobs: Sequence[Job], record: Record) -> None:
        """Measure all jobs; see `tryage.labeling.run.Engine`."""
        workers = self._workers or default_workers(self._runtime.device)
        method = self._method.per_worker(workers)
        for job in jobs:
            if job.rows:
                self._measure_job(method, job, workers, record)

    def _measure_job(self, method: ModelMethod, job: Job, workers: int, record: Record) -> None:
        runtime = self._runtime
        try:
            pipeline = method.load(runtime, job.expert)
        except ExpertError as error:
            record(Result.all_failed(job, failed(error)))
            return
        ready = time.perf_counter()
        blocks = _measured_blocks(method, runtime, job, pipeline, workers)
        try:
            with contextlib.closing(blocks):
                for numbers, measurements in blocks:
                    record(Result(job.expert, numbers, measurements, ready))
        finally:
            runtime.unload(job.expert)


def blocks_of(n: int, workers: int) -> list[range]:
    """Cut the numbers of `n` rows into blocks, so small that every worker has one."""
    size = max(1, min(BLOCK, -(-n // workers)))
    return [range(start, min(start + size, n)) for start in range(0, n, size)]


def default_workers(device: str) -> int:
    """Return how many threads may read a model at once: the cores that torch's threads leave.

    Args:
        device: where the models run; anything but a CPU has one worker.
    """
    # Without torch every expert is an endpoint's, whose answers the runtime batches itself.
    if device != "cpu" or importlib.util.find_spec("torch") is None:
        return 1
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // int(torch.get_num_threads()))


def _measured_blocks(
    method: ModelMethod, runtime: Runtime, job: Job, pipeline: Pipeline | None, workers: int
) -> Generator[Measured, None, None]:
    """Yield the measurements of a job's rows.

    Each worker but the first reads a twin of the pipeline. Without a pipeline the runtime itself
    batches the answers, one block at a time.
    """
    blocks = blocks_of(len(job.rows), workers)
    if pipeline is None or workers == 1 or len(blocks) == 1:
        for block in blocks:
            rows = job.rows[block.start : block.stop]
            for numbers, measurements in method.measure(runtime, job.expert, pipeline, rows):
                yield [block.start + i for i in numbers], measurements
        return
    with _Workers(method, runtime, job, pipeline).running(blocks, workers) as results:
        yield from results


class _Workers:
    """Threads that take blocks from one queue and put measurements into another."""

    def __init__(self, method: ModelMethod, runtime: Runtime, job: Job, pipeline: Pipeline) -> None:
        self._method, self._runtime = method, runtime
        self._job, self._pipeline = job, pipeline
        self._blocks: queue.SimpleQueue[range] = queue.SimpleQueue()
        # Bounded, so that threads do not run ahead of a slow disk.
        self._results: queue.Queue[Measured | BaseException | None] = queue.Queue(64)
        self._stop = threading.Event()

    @contextmanager
    def running(self, blocks: Sequence[range], workers: int) -> Iterator[Iterator[Measured]]:
        """Measure the blocks; on leaving, every thread has ended, whatever happened."""
        for block in blocks:
            self._blocks.put(block)
        count = min(workers, len(blocks))
        twins = [self._pipeline, *(self._pipeline.twin() for _ in range(count - 1))]
        threads = [threading.Thread(target=self._work, args=(twin,)) for twin in twins]
        for thread in threads:
            thread.start()
        try:
            yield self._take(count)
        finally:
            self._stop.set()
            while any(thread.is_alive() for thread in threads):
                self._drain()
                for thread in threads:
                    thread.join(0.01)

    def _take(self, running: int) -> Iterator[Measured]:
        while running:
            result = self._results.get()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result

    def _drain(self) -> None:
        while not self._results.empty():
            self._results.get()

    def _work(self, pipeline: Pipeline) -> None:
        job = self._job
        try:
            while not self._stop.is_set():
                try:
                    block = self._blocks.get_nowait()
                except queue.Empty:
                    break
                rows = job.rows[block.start : block.stop]
                measured = self._method.measure(self._runtime, job.expert, pipeline, rows)
                for numbers, measurements in measured:
                    self._results.put(([block.start + i for i in numbers], measurements))
                    if self._stop.is_set():
                        break
            self._results.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where results are taken
            self._results.put(error)
