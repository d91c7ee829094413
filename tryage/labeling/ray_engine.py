"""The Ray engine: the same code per block, in actors that hold a model, on one machine or many.

Ray Data schedules the blocks, restarts actors that die and gives their blocks to others. Results
come back to this process, which stores them. A model's files must have the same path, or be in
the local cache, wherever an actor runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from tryage.errors import ExpertError
from tryage.labeling.cells import Job, Measurement, Record, Result, failed
from tryage.labeling.local_engine import BLOCK, ModelMethod, default_workers
from tryage.library import Library
from tryage.ray_session import RESTARTS, last_line, ray_session
from tryage.runtime import Runtime

_BLOCK_ROWS = {"losses": BLOCK, "scores": 64}
"""Rows of a block, by what is measured: an answer takes far longer than a likelihood."""


class RayEngine:
    """Measures jobs with Ray Data; blocks of one expert begin before the next one's.

    Args:
        method: how rows are measured.
        runtime: how experts are run; each actor makes one like it.
        workers: actors; None takes as many as there are CPUs, or GPUs where models run there.
        address: of a cluster; None starts Ray here, unless this process has started it.
    """

    def __init__(
        self,
        method: ModelMethod,
        runtime: Runtime,
        workers: int | None = None,
        address: str | None = None,
    ) -> None:
        self._method = method
        self._runtime = runtime
        self._workers = workers
        self._address = address

    def measure(self, jobs: Sequence[Job], record: Record) -> None:
        """Measure all jobs; see `tryage.labeling.run.Engine`.

        Raises:
            ExpertError: actors died again and again.
        """
        if not any(job.rows for job in jobs):
            return
        with _quiet_ray(self._address) as ray:
            clock = time.time() - time.perf_counter()
            try:
                for row in self._dataset(ray, jobs).iter_rows():
                    block = json.loads(row["result"])
                    measurements = [Measurement(**fields) for fields in block["measurements"]]
                    ready = block["ready"] - clock
                    record(Result(block["expert"], block["numbers"], measurements, ready))
            except ray.exceptions.RayError as error:
                raise ExpertError(
                    f"Ray gave up: {last_line(error)}; what was measured is kept, and running "
                    "label again goes on"
                ) from error

    def _dataset(self, ray: Any, jobs: Sequence[Job]) -> Any:
        """Return the data set whose rows are measured blocks."""
        on_gpu = self._runtime.device != "cpu"
        resources = ray.cluster_resources()
        workers = self._workers or int(resources.get("GPU" if on_gpu else "CPU", 1)) or 1
        items, blocks = _items(ray, jobs, _BLOCK_ROWS[self._method.kind])
        dataset = ray.data.from_items(items, override_num_blocks=len(items))
        with warnings.catch_warnings():
            # Only these arguments bound the restarts, and Ray means to name them otherwise.
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            return dataset.map_batches(
                _Actor,
                fn_constructor_args=(self._method, _setup(self._runtime), blocks),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(items))),
                num_cpus=1,
                num_gpus=1 if on_gpu else None,
                max_restarts=RESTARTS,
                max_task_retries=RESTARTS,
            )


@contextlib.contextmanager
def _quiet_ray(address: str | None) -> Iterator[Any]:
    """Yield `ray`, connected, while Ray Data shows no bars of its own."""
    with ray_session(address) as ray:
        from ray.data import DataContext

        context = DataContext.get_current()
        bars, logger = context.enable_progress_bars, logging.getLogger("ray.data")
        level = logger.level
        context.enable_progress_bars = False
        logger.setLevel(logging.ERROR)
        try:
            yield ray
        finally:
            context.enable_progress_bars = bars
            logger.setLevel(level)


def _items(ray: Any, jobs: Sequence[Job], size: int) -> tuple[list[dict[str, Any]], list[Any]]:
    """Cut jobs into blocks of rows; those that several experts share are stored once."""
    stored: dict[tuple[int, ...], int] = {}
    blocks: list[Any] = []
    items: list[dict[str, Any]] = []
    for job in jobs:
        for start in range(0, len(job.rows), size):
            rows = job.rows[start : start + size]
            key = tuple(map(id, rows))
            if key not in stored:
                stored[key] = len(blocks)
                blocks.append(ray.put(list(rows)))
            items.append({"expert": job.expert, "block": stored[key], "start": start})
    return items, blocks


def _setup(runtime: Runtime) -> dict[str, Any]:
    library = runtime.library
    root = None if library.root is None else library.root.resolve()
    return {
        "library": Library(library.experts, name=library.name, root=root),
        "device": runtime.device,
        "dtype": runtime.dtype,
        "download": runtime.download,
        "keys": [f"{address.url}={name}" for address, name in runtime.consent.keys],
        "folders": runtime.consent.folders,
    }


class _Actor:
    """Holds one expert's model, and changes it when a block of another expert comes.

    Args:
        method: how rows are measured.
        setup: arguments of its runtime.
        blocks: references to the rows of every block.
    """

    def __init__(self, method: ModelMethod, setup: dict[str, Any], blocks: Sequence[Any]) -> None:
        self._method = method
        self._runtime = Runtime(**setup)
        self._blocks = blocks
        self._expert: str | None = None
        self._pipeline: Any = None
        self._load_error: ExpertError | None = None
        default_workers("cpu")  # imports torch before the first block comes
        self._ready = time.time()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Measure one block."""
        import ray

        expert, start = str(batch["expert"][0]), int(batch["start"][0])
        rows = ray.get(self._blocks[int(batch["block"][0])])
        self._load(expert)
        by_number: dict[int, Measurement] = {}
        if self._load_error is not None:
            by_number = dict.fromkeys(range(len(rows)), failed(self._load_error))
        else:
            for numbers, part in self._method.measure(self._runtime, expert, self._pipeline, rows):
                by_number.update(zip(numbers, part, strict=True))
        result = {
            "expert": expert,
            "numbers": [start + number for number in by_number],
            "measurements": [dataclasses.asdict(one) for one in by_number.values()],
            "ready": self._ready,
        }
        return {"result": [json.dumps(result)]}

    def _load(self, expert: str) -> None:
        if expert == self._expert:
            return
        if self._expert is not None:
            self._pipeline = None
            self._runtime.unload(self._expert)
        self._expert, self._load_error = expert, None
        try:
            self._pipeline = self._method.load(self._runtime, expert)
        except ExpertError as error:
            self._load_error = error
