"""The Ray engine: the same code per block, in actors that hold a model, on one machine or many.

Ray Data schedules the blocks, restarts actors that die and gives their blocks to others. What
they find comes back to this process, which writes it as the local engine does; a model's files
must be found under the same path, or in the local cache, wherever an actor runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from tryage.errors import ExpertError
from tryage.labeling.jobs import Job, Result
from tryage.labeling.local import BLOCK, default_workers
from tryage.labeling.methods import Method
from tryage.labeling.record import Measurement, failed
from tryage.library import Library
from tryage.runtime import Runtime

_RESTARTS = 3
"""How often an actor may die before the run ends: a prompt that kills every one would go on."""


def measure_on_ray(
    method: Method,
    runtime: Runtime,
    jobs: Sequence[Job],
    *,
    workers: int | None,
    address: str | None,
) -> Generator[Result, None, None]:
    """Measure jobs with Ray Data.

    Args:
        method: how rows are measured.
        runtime: how experts are run; each actor makes one like it.
        jobs: what is to be measured.
        workers: actors; None takes as many as there are CPUs, or GPUs where models run there.
        address: of a cluster; None starts Ray here, unless this process has started it.

    Yields:
        Rows that are done, block by block; blocks of one expert are begun before the next one's.

    Raises:
        ExpertError: actors died again and again.
    """
    if not any(job.rows for job in jobs):
        return
    with _ray(address) as ray:
        on_gpu = runtime.device != "cpu"
        resources = ray.cluster_resources()
        count = workers or int(resources.get("GPU" if on_gpu else "CPU", 1)) or 1
        items, blocks = _items(ray, jobs, BLOCK if method.metric is None else 64)
        actors = ray.data.ActorPoolStrategy(size=min(count, len(items)))
        dataset = ray.data.from_items(items, override_num_blocks=len(items))
        with warnings.catch_warnings():
            # Only these arguments bound the restarts, and Ray means to name them otherwise.
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            measured = dataset.map_batches(
                Measurer,
                fn_constructor_args=(method, _setup(runtime), blocks),
                batch_size=1,
                compute=actors,
                num_cpus=1,
                num_gpus=1 if on_gpu else None,
                max_restarts=_RESTARTS,
                max_task_retries=_RESTARTS,
            )
        clock = time.time() - time.perf_counter()
        try:
            for row in measured.iter_rows():
                told = json.loads(row["result"])
                found = [Measurement(**one) for one in told["found"]]
                yield Result(told["expert"], told["numbers"], found, told["ready"] - clock)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ExpertError(
                f"Ray gave up: {reason}; what was measured is kept, and running label again goes on"
            ) from error


@contextlib.contextmanager
def _ray(address: str | None) -> Iterator[Any]:
    """Yield `ray`, connected; what was started here ends here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its core writes to the console whatever it thinks of; what fails comes as an exception.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    own = not ray.is_initialized()
    if own:
        options = {"address": address} if address else {"include_dashboard": False}
        ray.init(log_to_driver=False, logging_level="ERROR", **options)
    context = ray.data.DataContext.get_current()
    bars, logger = context.enable_progress_bars, logging.getLogger("ray.data")
    level = logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        context.enable_progress_bars = bars
        logger.setLevel(level)
        if own:
            ray.shutdown()


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


class Measurer:
    """An actor: keeps one expert's model, and changes it when a block of another expert comes.

    Args:
        method: how rows are measured.
        setup: what its runtime is made from.
        blocks: references to the rows of every block.
    """

    def __init__(self, method: Method, setup: dict[str, Any], blocks: Sequence[Any]) -> None:
        self._method = method
        self._runtime = Runtime(**setup)
        self._blocks = blocks
        self._expert: str | None = None
        self._pipeline: Any = None
        self._broken: ExpertError | None = None
        default_workers("cpu")  # torch comes in before the first block does
        self._ready = time.time()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Measure one block."""
        import ray

        expert, start = str(batch["expert"][0]), int(batch["start"][0])
        rows = ray.get(self._blocks[int(batch["block"][0])])
        self._hold(expert)
        found: dict[int, Measurement] = {}
        if self._broken is not None:
            found = dict.fromkeys(range(len(rows)), failed(self._broken))
        else:
            for numbers, part in self._method.measure(self._runtime, expert, self._pipeline, rows):
                found.update(zip(numbers, part, strict=True))
        result = {
            "expert": expert,
            "numbers": [start + number for number in found],
            "found": [dataclasses.asdict(one) for one in found.values()],
            "ready": self._ready,
        }
        return {"result": [json.dumps(result)]}

    def _hold(self, expert: str) -> None:
        if expert == self._expert:
            return
        if self._expert is not None:
            self._pipeline = None
            self._runtime.unload(self._expert)
        self._expert, self._broken = expert, None
        try:
            self._pipeline = self._method.load(self._runtime, expert)
        except ExpertError as error:
            self._broken = error
