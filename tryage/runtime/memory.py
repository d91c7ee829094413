"""Models in memory: a budget, within which the least recently used are unloaded first."""

from __future__ import annotations

import contextlib
import gc
import math
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tryage.errors import MemoryBudgetError
from tryage.prompts import short
from tryage.runtime.base import Cancellation, Cancelled, Pipeline
from tryage.runtime.system_memory import bytes_in_use, free_bytes, give_back

_POLL = 0.05


class Memory:
    """Loads and unloads models within a memory budget; safe to use from many threads.

    The size of a model is estimated from the headers of its safetensors files, and corrected after
    its first call by how much the process grew since before the load. A model in use is never
    unloaded; a load waits until enough others are idle.

    Args:
        budget: bytes for all models together; None for no limit.
        device: where models run.
    """

    def __init__(self, budget: int | None, device: str) -> None:
        self.budget = budget
        self._device = device
        # One load at a time, so that the growth of the process belongs to one model.
        self._loading = threading.RLock()
        self._changed = threading.Condition()
        self._resident: dict[str, Pipeline] = {}
        self._pins: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        self._measured: tuple[str, int] | None = None

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every model in memory, least recently used first."""
        with self._changed:
            return {name: self._sizes[name] for name in self._resident}

    @contextlib.contextmanager
    def holding(self, pipeline: Pipeline, cancel: Cancellation | None = None) -> Iterator[None]:
        """Keep a pipeline's model in memory during the block.

        Raises:
            Cancelled: the caller gave up while waiting for memory.
            MemoryBudgetError: the model is larger than the budget.
        """
        name = pipeline.expert.name
        with self._changed:
            pinned = pipeline.loaded
            if pinned:
                self._pin(name)
        if not pinned:
            self._load_and_pin(pipeline, cancel, pin=True)
        try:
            yield
        finally:
            with self._changed:
                self._pins[name] -= 1
                self._correct_size(name)
                self._changed.notify_all()

    def ensure_loaded(self, pipeline: Pipeline, cancel: Cancellation | None = None) -> None:
        """Load a pipeline's model if it is not loaded.

        Raises:
            Cancelled: the caller gave up while waiting for memory.
            MemoryBudgetError: the model is larger than the budget.
        """
        self._load_and_pin(pipeline, cancel, pin=False)

    def unload(self, pipeline: Pipeline) -> None:
        """Unload a pipeline's model once no call uses it."""
        with self._loading, self._changed:
            while self._pins[pipeline.expert.name]:
                self._changed.wait(_POLL)
            if pipeline.loaded:
                self._unload(pipeline)

    def _load_and_pin(self, pipeline: Pipeline, cancel: Cancellation | None, *, pin: bool) -> None:
        name = pipeline.expert.name
        while not self._loading.acquire(timeout=-1 if cancel is None else _POLL):
            if cancel is not None and cancel.is_set():
                raise Cancelled
        try:
            if not pipeline.loaded:
                estimate = pipeline.estimate()
                self._make_room(name, estimate, cancel)
                before = bytes_in_use(self._device)
                self._load(pipeline)
                with self._changed:
                    exact = _tensor_bytes(pipeline.model)
                    self._sizes[name] = max(exact, self._sizes.get(name, estimate))
                    self._resident[name] = pipeline
                    self._measured = None if before is None else (name, before)
            with self._changed:
                if pin:
                    self._pin(name)
        finally:
            self._loading.release()

    def _load(self, pipeline: Pipeline) -> None:
        try:
            pipeline.load_model()
        except MemoryError as error:
            raise MemoryBudgetError(
                f"expert {pipeline.expert.name!r}: there was not enough memory to load it "
                f"({size_text(pipeline.estimate())}); give memory_budget, so that other models are "
                "unloaded first, or a smaller dtype"
            ) from error

    def _pin(self, name: str) -> None:
        self._pins[name] += 1
        self._resident[name] = self._resident.pop(name)

    def _make_room(self, name: str, estimate: int, cancel: Cancellation | None) -> None:
        self._check_fits(name, estimate)
        if self.budget is None:
            return
        # A model that turned out larger than the budget may still run alone.
        need = min(max(estimate, self._sizes.get(name, 0)), self.budget)
        with self._changed:
            while sum(self._sizes[n] for n in self._resident) + need > self.budget:
                idle = next((p for n, p in self._resident.items() if not self._pins[n]), None)
                if idle is not None:
                    self._unload(idle)
                    continue
                if cancel is not None and cancel.is_set():
                    raise Cancelled
                self._changed.wait(_POLL)

    def _check_fits(self, name: str, estimate: int) -> None:
        if self.budget is not None and estimate > self.budget:
            raise MemoryBudgetError(
                f"expert {name!r} needs about {size_text(estimate)}, the memory budget is "
                f"{size_text(self.budget)}; raise memory_budget, or choose a smaller dtype"
            )
        free = free_bytes(self._device)
        resident = sum(self._sizes[n] for n in self._resident) if self.budget is not None else 0
        if free is not None and estimate > free + resident:
            available = size_text(free + resident)
            raise MemoryBudgetError(
                f"expert {name!r} needs about {size_text(estimate)}, and {available} "
                f"of memory are free on {self._device}; unload other models, give memory_budget, "
                "or choose a smaller dtype or another device"
            )

    def _correct_size(self, name: str) -> None:
        """Correct a size by the growth of the process since before the load."""
        if self._measured is None or self._measured[0] != name or self._pins[name]:
            return
        before, self._measured = self._measured[1], None
        now = bytes_in_use(self._device)
        pipeline = self._resident.get(name)
        if now is not None and pipeline is not None and pipeline.loaded:
            self._sizes[name] = max(_tensor_bytes(pipeline.model), now - before)

    def _unload(self, pipeline: Pipeline) -> None:
        name = pipeline.expert.name
        self._resident.pop(name, None)
        self._measured = None
        alive = weakref.ref(pipeline.model)
        pipeline.drop_model()
        if alive() is not None:
            gc.collect()
        give_back(self._device)


def size_text(size: int) -> str:
    """Return a number of bytes as text, such as ``"1.5 GB"``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def parse_bytes(budget: int | str | None) -> int | None:
    """Parse a memory budget: bytes, or text such as ``"4GB"`` or ``"1.5 GiB"``.

    Raises:
        ValueError: it is not a positive size.
    """
    if budget is None:
        return None
    size: float = budget if isinstance(budget, int) else 0
    if isinstance(budget, str):
        text = budget.strip().upper()
        units = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 1e3, "MB": 1e6, "GB": 1e9, "B": 1}
        unit = next((unit for unit in units if text.endswith(unit)), "")
        with contextlib.suppress(ValueError):
            size = float(text.removesuffix(unit)) * units.get(unit, 1)
    if not 1 <= size < math.inf:
        raise ValueError(f"memory_budget is {short(budget)}; it is a size such as '4GB' or bytes")
    return int(size)


def _tensor_bytes(model: Any) -> int:
    tensors = {id(t): t.nbytes for t in (*model.parameters(), *model.buffers())}
    return sum(tensors.values())
