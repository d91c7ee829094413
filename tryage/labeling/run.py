"""One labelling run: finds what is left to measure, asks an engine, stores, counts and reports."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from tryage.labeling.cells import CONDITIONS, Cell, Job, Key, Measurement, Record, Result
from tryage.labeling.rows import Row
from tryage.labeling.store import LabelStore
from tryage.library import Library
from tryage.paths import user_path
from tryage.progress import Progress
from tryage.scores.fields import Kind

_SHARD = 512
"""Cells of a shard, roughly."""

_SECONDS_UNWRITTEN = 30.0
"""Work that a crash may cost at most, roughly."""


class Method(Protocol):
    """How cells are measured, as far as the run and its folder depend on it."""

    @property
    def kind(self) -> Kind:
        """Whether the folder is a table of losses or of scores."""

    @property
    def code(self) -> str | None:
        """Fingerprint of the user's own scoring code; None if there is none."""

    def settings(self) -> dict[str, Any]:
        """Return what the numbers depend on, as JSON; constant within one folder."""

    def check_rows(self, rows: Sequence[Row]) -> None:
        """Raise PromptError for a row that cannot be measured."""


class Engine(Protocol):
    """Measures jobs and hands each result to `record` as soon as it is there."""

    def measure(self, jobs: Sequence[Job], record: Record) -> None:
        """Measure all rows of all jobs; an exception of `record` ends the run."""


class AsyncEngine(Protocol):
    """An `Engine` in the caller's event loop."""

    async def measure(self, jobs: Sequence[Job], record: Record) -> None:
        """Measure all rows of all jobs; an exception of `record` ends the run."""


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """What a run of `label` or `label_answers` did.

    Attributes:
        cells: cells asked for: measured + failed + reused.
        measured: cells measured by this run.
        failed: cells that could not be measured; the folder says why, the next run tries again.
        reused: cells that an earlier run had measured.
        seconds: wall time.
        start_up: seconds of it until the engine could measure; 0 if there was nothing to do.
        failures: expert → why its cells failed, with counts, the most frequent first.
        conditions: condition → cells of this run in it; `tryage.labeling.Measurement` says what
            each means. Only those that occurred.
    """

    cells: int
    measured: int
    failed: int
    reused: int
    seconds: float
    start_up: float = 0.0
    failures: dict[str, dict[str, int]] = field(default_factory=dict)
    conditions: dict[str, int] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[str, int]:
        """Why cells failed, over all experts, with counts, the most frequent first."""
        counts: Counter[str] = Counter()
        for reasons in self.failures.values():
            counts.update(reasons)
        return dict(counts.most_common())

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``tryage label --json`` prints.

        `failures` and `conditions` are left out if they are empty.
        """
        names = ("cells", "measured", "failed", "reused", "seconds")
        numbers = {name: getattr(self, name) for name in names}
        details = {"failures": self.failures, "conditions": self.conditions}
        return numbers | {name: counts for name, counts in details.items() if counts}

    def __str__(self) -> str:
        """What happened, for a person: one line, and one for each reason of a failure."""
        lines = [
            f"{self.cells} cells in {self.seconds:.1f} s: {self.measured} measured, "
            f"{self.failed} failed, {self.reused} reused"
        ]
        for expert, reasons in self.failures.items():
            lines += [f"  {expert}: {count} failed: {why}" for why, count in reasons.items()]
        for condition, count in self.conditions.items():
            lines.append(f"  {count} {condition.replace('_', ' ')}")
        return "\n".join(lines)


class LabelRun:
    """Fills a folder with what its jobs lack, through one engine, once.

    Args:
        store: the open folder.
        jobs: what is left to measure.
        progress: called at the start, and after every result.
        started: when the run began, on the clock of `time.perf_counter`.
    """

    def __init__(
        self,
        store: LabelStore,
        jobs: Sequence[Job],
        progress: Progress | None,
        started: float,
    ) -> None:
        self.store = store
        self.jobs = jobs
        self._progress = progress or (lambda *_: None)
        self._started = started
        self._ready: float | None = None
        self._writers: dict[str, _JobWriter] = {}
        self._measured = 0
        self._failures: dict[str, Counter[str]] = {}
        self._conditions: Counter[str] = Counter()

    @classmethod
    def begin(
        cls,
        out: str | Path,
        library: Library,
        rows: Sequence[Row],
        method: Method,
        *,
        fingerprints: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        started: float,
    ) -> Self:
        """Open the folder and find which cells it lacks.

        Raises:
            PromptError: a row cannot be measured; nothing is written then.
            OutputFolderError: the folder holds something else, or other measurements.
        """
        method.check_rows(rows)
        store = LabelStore(user_path(out), method.kind)
        store.open(library, method.settings(), fingerprints, method.code)
        return cls(store, _jobs(library, rows, store.measured(rows)), progress, started)

    def measure_with(self, engine: Engine) -> LabelSummary:
        """Measure what is left; everything measured is stored, however this ends."""
        with self._writing():
            engine.measure(self.jobs, self._record)
        return self._summary()

    async def ameasure_with(self, engine: AsyncEngine) -> LabelSummary:
        """Do what `measure_with` does, in the caller's event loop."""
        with self._writing():
            await engine.measure(self.jobs, self._record)
        return self._summary()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for job in self.jobs:
                writer = _JobWriter(self.store, job)
                # At the end it writes what it holds, also where the caller interrupts.
                stack.callback(writer.flush)
                self._writers[job.expert] = writer
                self._progress(job.expert, writer.done, writer.total)
            yield

    def _record(self, result: Result) -> None:
        """Store, count and report one result."""
        if self._ready is None:
            self._ready = result.ready or time.perf_counter()
        writer = self._writers[result.expert]
        writer.add(result.numbers, result.measurements)
        for measurement in result.measurements:
            if measurement.error is None:
                self._measured += 1
            else:
                reasons = self._failures.setdefault(result.expert, Counter())
                reasons[measurement.error] += 1
            self._conditions.update(name for name in CONDITIONS if getattr(measurement, name))
        self._progress(result.expert, writer.done, writer.total)

    def _summary(self) -> LabelSummary:
        return LabelSummary(
            cells=sum(job.reused + len(job.rows) for job in self.jobs),
            measured=self._measured,
            failed=sum(reasons.total() for reasons in self._failures.values()),
            reused=sum(job.reused for job in self.jobs),
            seconds=time.perf_counter() - self._started,
            start_up=0.0 if self._ready is None else self._ready - self._started,
            failures={name: dict(why.most_common()) for name, why in self._failures.items()},
            conditions=dict(self._conditions.most_common()),
        )


def _jobs(library: Library, rows: Sequence[Row], measured: Container[Key]) -> list[Job]:
    """Return one job per expert: the rows of its task that are not measured."""
    jobs = []
    for expert in library:
        own = [row for row in rows if row.task == expert.task]
        missing = [row for row in own if (row.task, row.id, expert.name) not in measured]
        jobs.append(Job(expert.name, missing, reused=len(own) - len(missing)))
    return jobs


class _JobWriter:
    """Gathers the cells of one job and writes them in the order of its rows, shard by shard.

    After half a minute, and when the run ends, it writes whatever it holds, in any order.
    """

    def __init__(self, store: LabelStore, job: Job) -> None:
        self._store = store
        self._job = job
        self._cells: dict[int, Measurement] = {}
        self._arrived = bytearray(len(job.rows))
        self._front = 0
        self._written = 0
        self._last_write = time.monotonic()
        self.done = job.reused
        self.total = job.reused + len(job.rows)

    def add(self, numbers: Sequence[int], measurements: Sequence[Measurement]) -> None:
        """Take measurements of some rows."""
        self._cells.update(zip(numbers, measurements, strict=True))
        self.done += len(numbers)
        for number in numbers:
            self._arrived[number] = 1
        end = self._arrived.find(0, self._front)
        self._front = len(self._arrived) if end < 0 else end
        if self._front - self._written >= _SHARD or self.done == self.total:
            self._write([number for number in self._cells if number < self._front])
            self._written = self._front
        elif time.monotonic() - self._last_write > _SECONDS_UNWRITTEN:
            self.flush()

    def flush(self) -> None:
        """Write everything that has come."""
        self._write(list(self._cells))

    def _write(self, numbers: Sequence[int]) -> None:
        cells = {number: self._cells.pop(number) for number in sorted(numbers)}
        rows, expert = self._job.rows, self._job.expert
        self._store.append([Cell(rows[number], expert, one) for number, one in cells.items()])
        self._last_write = time.monotonic()
