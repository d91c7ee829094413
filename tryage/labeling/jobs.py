"""What an engine is to do for one expert, what it finds, and how that is written."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tryage.labeling.prompts import Row
from tryage.labeling.record import Cell, Key, Measurement
from tryage.labeling.store import LabelStore
from tryage.library import Library

_SHARD = 512
"""Cells of a shard, roughly."""

_SECONDS_UNWRITTEN = 30.0
"""Work that a crash may cost at most, roughly."""


@dataclass(frozen=True, slots=True)
class Job:
    """The rows that one expert still lacks.

    Attributes:
        expert: its name.
        rows: what is to be measured, in the order of the prompts.
        reused: cells that an earlier run had measured.
    """

    expert: str
    rows: Sequence[Row]
    reused: int = 0


def jobs_of(library: Library, rows: Sequence[Row], done: Container[Key]) -> list[Job]:
    """Return one job per expert: the rows of its task whose cells are not `done`."""
    jobs = []
    for expert in library:
        own = [row for row in rows if row.task == expert.task]
        todo = [row for row in own if (row.task, row.id, expert.name) not in done]
        jobs.append(Job(expert.name, todo, reused=len(own) - len(todo)))
    return jobs


@dataclass(frozen=True, slots=True)
class Result:
    """Some rows of a job that are done.

    Attributes:
        expert: the job's expert.
        numbers: which rows of the job.
        found: their measurements.
        ready: when the engine could begin, on the clock of `time.perf_counter`.
    """

    expert: str
    numbers: Sequence[int]
    found: Sequence[Measurement]
    ready: float | None = None

    @classmethod
    def all_failed(cls, job: Job, measurement: Measurement) -> Self:
        """Return the result of a job whose expert cannot be loaded."""
        return cls(job.expert, range(len(job.rows)), [measurement] * len(job.rows))


class JobWriter:
    """Gathers the cells of one job and writes them in the order of its rows, shard by shard.

    It also writes when half a minute has passed and when the run is interrupted, in whatever
    order the cells came: what was measured is kept.
    """

    def __init__(self, store: LabelStore, job: Job) -> None:
        self._store = store
        self._job = job
        self._cells: dict[int, Measurement] = {}
        self._arrived = bytearray(len(job.rows))
        self._front = 0
        self._written = 0
        self._since = time.monotonic()
        self.done = job.reused
        self.total = job.reused + len(job.rows)

    def add(self, numbers: Sequence[int], found: Sequence[Measurement]) -> None:
        """Take measurements of some rows."""
        self._cells.update(zip(numbers, found, strict=True))
        self.done += len(numbers)
        for number in numbers:
            self._arrived[number] = 1
        end = self._arrived.find(0, self._front)
        self._front = len(self._arrived) if end < 0 else end
        if self._front - self._written >= _SHARD or self.done == self.total:
            self._write([number for number in self._cells if number < self._front])
            self._written = self._front
        elif time.monotonic() - self._since > _SECONDS_UNWRITTEN:
            self._write(list(self._cells))

    def _write(self, numbers: Sequence[int]) -> None:
        cells = {number: self._cells.pop(number) for number in sorted(numbers)}
        rows, expert = self._job.rows, self._job.expert
        self._store.append([Cell(rows[number], expert, one) for number, one in cells.items()])
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._write(list(self._cells))
