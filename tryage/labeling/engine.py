"""`label`: every expert over every prompt, each model loaded once, nothing measured twice."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Literal

from tryage.consent import Keys
from tryage.errors import ExpertError, OptionError, missing_extra
from tryage.folders import Folders
from tryage.labeling.fingerprint import fingerprint
from tryage.labeling.jobs import Job, JobWriter, Result, jobs_of
from tryage.labeling.local import default_workers, measure_locally
from tryage.labeling.losses import BATCH_TOKENS, MASK_SHARE
from tryage.labeling.methods import Method
from tryage.labeling.metrics import Metric
from tryage.labeling.prompts import read_rows
from tryage.labeling.record import failed
from tryage.labeling.sampling import Sample
from tryage.labeling.store import LabelStore
from tryage.labeling.summary import LabelSummary, Tally
from tryage.labeling.tokens import MAX_WINDOW
from tryage.library import Library
from tryage.prompts import Prompts
from tryage.runtime import Runtime

Progress = Callable[[str, int, int], None]
"""Told the expert's name, how many of its cells are done, and how many it has."""

Engine = Literal["local", "ray"]


def label(
    library: Library,
    prompts: Prompts,
    out: str | Path,
    *,
    metric: str | Metric | None = None,
    sample: int | None = None,
    stratify: Literal["group", "task"] | None = None,
    seed: int = 0,
    mask_share: float = MASK_SHARE,
    max_window: int = MAX_WINDOW,
    max_new_tokens: int = 256,
    keep_answers: bool = False,
    batch_tokens: int = BATCH_TOKENS,
    workers: int | None = None,
    engine: Engine = "local",
    address: str | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    download: bool = False,
    keys: Keys = (),
    folders: Folders = (),
    progress: Progress | None = None,
) -> LabelSummary:
    """Measure every expert on every prompt; lower losses are better.

    Without a metric the loss is in bits per byte: text-generation experts are scored on the
    reference given the prompt, or on the prompt itself; fill-mask experts on the words that are
    hidden from all of them alike. A prompt that names no task is measured by both kinds. With a
    metric every expert answers the prompt, and what it answers, how long it took and what it cost
    is measured too.

    The folder can be read with `ScoreTable.read`; a later call measures what is missing there or
    failed, with the same model files. Calls may fill one folder at the same time; what both
    measure is kept once.

    Args:
        library: the experts.
        prompts: a file (``.jsonl`` of ``{"prompt", "id"?, "group"?, "task"?, "reference"?}``, or
            ``.parquet`` with such columns), a folder that `datasets.Dataset.save_to_disk` wrote,
            or an iterable of such mappings or of texts, a `datasets.Dataset` among them.
        out: folder to fill or to go on with.
        metric: ``(answer, reference) -> score`` in [0, 1], or the name of one:
            `tryage.labeling.METRICS`. None reads likelihoods instead.
        sample: prompts to take at most, chosen by a hash of their ids: a larger sample holds the
            smaller one, and is measured by going on. None takes all.
        stratify: what the sample is to hold as many of as there are, from each as far as it goes.
        seed: of the sample.
        mask_share: part of the words to hide in a text for fill-mask experts; at least one word.
        max_window: tokens read at once at most; longer texts are read in consecutive windows.
        max_new_tokens: tokens of an answer at most.
        keep_answers: whether the folder also keeps the answers' texts.
        batch_tokens: tokens, padding included, that go through a model at once: what bounds
            memory, whatever the number of prompts.
        workers: threads that read one model, sharing `batch_tokens`; with Ray, processes. None
            takes as many as the CPU has cores for, beside torch's own threads.
        engine: ``"local"``, or ``"ray"``: Ray Data, on this machine or on a cluster.
        address: of a Ray cluster; None starts Ray here, unless it runs already.
        device: where models run, as for `Runtime`.
        dtype: their number type, as for `Runtime`.
        download: whether Hub models that are not in the local cache may be fetched.
        keys: for a library from a file, which key may go to which host, as for `Runtime`.
        folders: for a library from a file, folders outside its own, as for `Runtime`.
        progress: called after every batch.

    Raises:
        PromptError: a prompt is wrong; names file, line and field.
        ModelNotFoundError, TaskError, ExpertError, ConsentError: an expert cannot be run at all,
            or may not. Nothing is written then.
        OutputFolderError: `out` holds something else, or was measured in another way or with
            other model files, or a file in it is damaged.
        OSError: `out` cannot be written; what was written before stays whole.
        MissingExtraError: torch, transformers or pyarrow is not installed; for Ray, ray.
        OptionError: an option is out of range.
    """
    started = time.perf_counter()
    method = Method(metric, mask_share, max_window, batch_tokens, max_new_tokens, keep_answers)
    runtime = Runtime(
        library, device=device, dtype=dtype, download=download, keys=keys, folders=folders
    )
    _check_options(engine, workers)
    checked = {expert.name: method.check_expert(runtime, expert) for expert in library}
    marks = {name: fingerprint(folder) for name, folder in checked.items() if folder is not None}
    rows = read_rows(
        prompts, library.tasks, mask_share=mask_share, sample=Sample.of(sample, stratify, seed)
    )
    method.check_rows(rows)
    store = LabelStore(Path(out), method.kind)
    store.open(library, method.settings(), marks, method.code)
    jobs = jobs_of(library, rows, store.measured(rows))
    tally = Tally(jobs)
    if engine == "ray":
        from tryage.labeling.ray_engine import measure_on_ray

        results = measure_on_ray(method, runtime, jobs, workers=workers, address=address)
    else:
        results = _one_after_another(method, runtime, jobs, workers)
    start_up = _consume(results, jobs, store, tally, progress, started)
    return tally.summary(time.perf_counter() - started, start_up)


def _check_options(engine: str, workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise OptionError(f"workers is {workers}; it is at least 1")
    for package in ("pyarrow", "torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra("hf", "measuring experts")
    if engine not in ("local", "ray"):
        raise OptionError(f"engine is {engine!r}; it is 'local' or 'ray'")
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        raise missing_extra("ray", "the Ray engine")


def _consume(
    results: Generator[Result, None, None],
    jobs: Sequence[Job],
    store: LabelStore,
    tally: Tally,
    progress: Progress | None,
    started: float,
) -> float:
    """Write and count what an engine finds; return the seconds until it found the first."""
    tell = progress or (lambda *_: None)
    start_up: float | None = None
    with contextlib.ExitStack() as stack:
        # Writers write what they have at the end, also where the caller interrupts.
        writers = {job.expert: stack.enter_context(JobWriter(store, job)) for job in jobs}
        for job in jobs:
            tell(job.expert, job.reused, job.reused + len(job.rows))
        stack.enter_context(contextlib.closing(results))
        for result in results:
            if start_up is None:
                start_up = (result.ready or time.perf_counter()) - started
            writer = writers[result.expert]
            writer.add(result.numbers, result.found)
            tally.add(result.expert, result.found)
            tell(result.expert, writer.done, writer.total)
    return start_up or 0.0


def _one_after_another(
    method: Method, runtime: Runtime, jobs: Sequence[Job], workers: int | None
) -> Generator[Result, None, None]:
    """Measure expert after expert in this process; a model leaves memory at its expert's end."""
    count = workers or default_workers(runtime.device)
    method = dataclasses.replace(method, batch_tokens=max(1, method.batch_tokens // count))
    for job in jobs:
        if not job.rows:
            continue
        try:
            pipeline = method.load(runtime, job.expert)
        except ExpertError as error:
            yield Result.all_failed(job, failed(error))
            continue
        ready = time.perf_counter()
        try:
            for numbers, found in measure_locally(
                method, runtime, job.expert, pipeline, job.rows, count
            ):
                yield Result(job.expert, numbers, found, ready)
        finally:
            runtime.unload(job.expert)
