"""`label`: every expert over every prompt, each model loaded once, nothing measured twice."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections import Counter
from collections.abc import Callable, Container, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tryage.errors import ExpertError, TaskError, missing_extra
from tryage.labeling.fingerprint import fingerprint
from tryage.labeling.losses import BATCH_TOKENS, MASK_SHARE, measure_rows
from tryage.labeling.prompts import Row, read_rows
from tryage.labeling.record import Cell, Key, Measurement
from tryage.labeling.store import LabelStore
from tryage.labeling.tokens import MAX_WINDOW
from tryage.library import FILL_MASK, TEXT_GENERATION, Expert, Library
from tryage.prompts import Prompts
from tryage.runtime import FillMaskPipeline, Runtime, TextGenerationPipeline

Progress = Callable[[str, int, int], None]
"""Told the expert's name, how many of its cells are done, and how many it has."""

_BLOCK = 512
"""Rows that are sorted by length together: enough to pad little, few enough to keep in memory."""

_SECONDS_UNWRITTEN = 30.0
"""Work that a crash may cost at most, roughly."""


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """What a run of `label` did.

    Attributes:
        cells: cells asked for: measured + failed + reused.
        measured: cells measured by this run.
        failed: cells that could not be measured; the store says why, the next run tries again.
        reused: cells that an earlier run had measured.
        seconds: wall time.
        reasons: why cells failed, with counts, the most frequent first.
    """

    cells: int
    measured: int
    failed: int
    reused: int
    seconds: float
    reasons: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``tryage label --json`` prints."""
        names = ("cells", "measured", "failed", "reused", "seconds")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        """What happened, for a person: one line, and one for each reason of a failure."""
        lines = [
            f"{self.cells} cells in {self.seconds:.1f} s: {self.measured} measured, "
            f"{self.failed} failed, {self.reused} reused"
        ]
        lines += [f"  {count} failed: {reason}" for reason, count in self.reasons.items()]
        return "\n".join(lines)


def label(
    library: Library,
    prompts: Prompts,
    out: str | Path,
    *,
    mask_share: float = MASK_SHARE,
    max_window: int = MAX_WINDOW,
    batch_tokens: int = BATCH_TOKENS,
    device: str = "cpu",
    dtype: str = "auto",
    download: bool = False,
    progress: Progress | None = None,
) -> LabelSummary:
    """Measure the loss of every expert on every prompt, in bits per byte (lower is better).

    Text-generation experts are scored on the reference given the prompt, or on the prompt itself;
    fill-mask experts on the words that are hidden from all of them alike. A prompt that names no
    task is measured by both kinds. The folder can be read with `ScoreTable.read`; a later call
    measures what is missing there or failed, with the same model files. Calls may fill one folder
    at the same time; what both measure is kept once.

    Args:
        library: the experts.
        prompts: a JSONL file of ``{"prompt", "id"?, "group"?, "task"?, "reference"?}``, or an
            iterable of such mappings or of texts.
        out: folder to fill or to go on with.
        mask_share: part of the words to hide in a text for fill-mask experts; at least one word.
        max_window: tokens read at once at most; longer texts are read in consecutive windows.
        batch_tokens: tokens, padding included, that go through a model at once.
        device: where models run, as for `Runtime`.
        dtype: their number type, as for `Runtime`.
        download: whether Hub models that are not in the local cache may be fetched.
        progress: called after every batch.

    Raises:
        PromptError: a prompt is wrong; names file, line and field.
        ModelNotFoundError, TaskError, ExpertError: an expert cannot be run at all. Nothing is
            written then.
        OutputFolderError: `out` holds something else, or was measured in another way or with
            other model files, or a file in it is damaged.
        OSError: `out` cannot be written; what was written before stays whole.
        MissingExtraError: torch, transformers or pyarrow is not installed.
    """
    started = time.perf_counter()
    runtime = Runtime(library, device=device, dtype=dtype, download=download)
    _check_extra()
    marks = {expert.name: fingerprint(_folder(runtime, expert)) for expert in library}
    rows = read_rows(prompts, library.tasks, mask_share=mask_share)
    store = LabelStore(Path(out))
    store.open(library, {"mask_share": mask_share, "max_window": max_window}, marks)
    done = store.measured(rows)
    run = _Run(runtime, store, max_window, batch_tokens, progress)
    for expert in library:
        run.measure(expert, [row for row in rows if row.task == expert.task], done)
    return run.summary(time.perf_counter() - started)


def _folder(runtime: Runtime, expert: Expert) -> Path:
    """Return the model folder of an expert whose probabilities can be read.

    Raises:
        TaskError: they cannot; says why.
        ModelNotFoundError: there is no such folder.
    """
    folder = runtime.check(expert.name)
    if folder is None:
        raise TaskError(
            f"expert {expert.name!r} is served at an endpoint, which does not tell the "
            "probabilities of a text; label needs local models"
        )
    if expert.task not in (TEXT_GENERATION, FILL_MASK):
        raise TaskError(
            f"expert {expert.name!r} does {expert.task!r}; label measures {TEXT_GENERATION} and "
            f"{FILL_MASK}"
        )
    return folder


def _check_extra() -> None:
    for package in ("pyarrow", "torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra("hf", "measuring experts")


@dataclass(slots=True)
class _Run:
    """One call of `label`: measures expert after expert and counts what became of the cells."""

    runtime: Runtime
    store: LabelStore
    max_window: int
    batch_tokens: int
    progress: Progress | None
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def measure(self, expert: Expert, rows: Sequence[Row], done: Container[Key]) -> None:
        """Measure what is not `done` of an expert's rows."""
        todo = [row for row in rows if (row.task, row.id, expert.name) not in done]
        finished = len(rows) - len(todo)
        self.counts["cells"] += len(rows)
        self.counts["reused"] += finished
        self._tell(expert, finished, len(rows))
        # Closing writes what was measured, also where the caller interrupts.
        with contextlib.closing(self._batches(expert, todo)) as batches:
            for found in batches:
                self._count(found)
                finished += len(found)
                self._tell(expert, finished, len(rows))

    def _batches(
        self, expert: Expert, rows: Sequence[Row]
    ) -> Generator[list[Measurement], None, None]:
        """Measure one expert's rows and store them; its model leaves memory at the end."""
        if not rows:
            return
        try:
            pipeline = self.runtime.load(expert.name)
            if not isinstance(pipeline, TextGenerationPipeline | FillMaskPipeline):
                self.runtime.unload(expert.name)
                raise TaskError(
                    f"expert {expert.name!r} has an encoder and a decoder; label measures models "
                    "that continue a text"
                )
        except ExpertError as error:
            failed = Measurement(float("nan"), str(error))
            self.store.append([Cell(row, expert.name, failed) for row in rows])
            yield [failed] * len(rows)
            return
        try:
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                with _Writer(self.store, expert.name, block) as writer:
                    for numbers, found in measure_rows(
                        pipeline, block, max_window=self.max_window, batch_tokens=self.batch_tokens
                    ):
                        writer.add(numbers, found)
                        yield found
        finally:
            self.runtime.unload(expert.name)

    def _count(self, found: Sequence[Measurement]) -> None:
        failed = [one.error for one in found if one.error is not None]
        self.reasons.update(failed)
        self.counts["failed"] += len(failed)
        self.counts["measured"] += len(found) - len(failed)

    def _tell(self, expert: Expert, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(expert.name, done, total)

    def summary(self, seconds: float) -> LabelSummary:
        """What was done so far."""
        return LabelSummary(
            cells=self.counts["cells"],
            measured=self.counts["measured"],
            failed=self.counts["failed"],
            reused=self.counts["reused"],
            seconds=seconds,
            reasons=dict(self.reasons.most_common()),
        )


class _Writer:
    """Gathers the cells of one block and writes them now and then, and when the block ends.

    It also writes when the run is interrupted: what was measured is kept.
    """

    def __init__(self, store: LabelStore, expert: str, block: Sequence[Row]) -> None:
        self._store = store
        self._expert = expert
        self._block = block
        self._cells: dict[int, Measurement] = {}
        self._since = time.monotonic()

    def add(self, numbers: Sequence[int], found: Sequence[Measurement]) -> None:
        self._cells.update(zip(numbers, found, strict=True))
        if time.monotonic() - self._since > _SECONDS_UNWRITTEN:
            self.write()

    def write(self) -> None:
        # In the order of the prompts, so that a table read back keeps it.
        cells = [Cell(self._block[i], self._expert, self._cells[i]) for i in sorted(self._cells)]
        self._cells = {}
        self._store.append(cells)
        self._since = time.monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.write()
