"""`label` and `label_answers`: the arguments of a labelling run, checked and put together."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from tryage.consent import Keys
from tryage.errors import LibraryError, OptionError, TryageWarning, missing_extra
from tryage.experts import Expert
from tryage.folders import Folders
from tryage.labeling.answers import GeneratedAnswers, JudgeScorer, MetricScorer
from tryage.labeling.call_engine import CallEngine, run_in_loop
from tryage.labeling.calling import Call, Caller, Calling
from tryage.labeling.fingerprints import fingerprint
from tryage.labeling.judges import Judge
from tryage.labeling.likelihood import BATCH_TOKENS, MASK_SHARE, Likelihood
from tryage.labeling.local_engine import LocalEngine
from tryage.labeling.metrics import Metric
from tryage.labeling.rows import Sample, read_rows
from tryage.labeling.run import LabelRun, LabelSummary
from tryage.labeling.tokens import MAX_WINDOW
from tryage.library import Library
from tryage.paths import check_folder, user_path
from tryage.progress import Progress, shown_progress
from tryage.prompts import Prompts
from tryage.ray_session import check_engine
from tryage.runtime import Runtime

Scorer = str | Metric | Judge
"""The name of a metric, a metric, or a judge."""

_JUDGE = "judge"
_RATE = "cells/s"


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
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    download: bool = False,
    keys: Keys = (),
    folders: Folders = (),
    progress: Progress | bool | None = None,
) -> LabelSummary:
    """Measure every expert of a library on every prompt; lower losses are better.

    Without a metric the loss is in bits per byte: text-generation experts are scored on the
    reference given the prompt, or on the prompt itself; fill-mask experts on words that are
    hidden from all of them alike. A prompt without a task is measured by both kinds. With a
    metric every expert answers the prompt, and the answer's score, latency and cost are measured.

    `ScoreTable.read` reads the folder. A later call measures what is missing there or failed, if
    the model files are the same. Calls may fill one folder at the same time; cells that both
    measure count once.

    Args:
        library: the experts.
        prompts: a file (``.jsonl`` of ``{"prompt", "id"?, "group"?, "task"?, "reference"?}``, or
            ``.parquet`` with such columns), a folder written by
            `datasets.Dataset.save_to_disk`, or an iterable of such mappings or of texts, such as
            a `datasets.Dataset`.
        out: folder to create or to resume.
        metric: ``(answer, reference) -> score`` in [0, 1], or the name of one:
            `tryage.labeling.METRICS`. None measures likelihoods instead.
        sample: prompts to take at most, chosen by a hash of their ids, so that a larger sample
            contains the smaller one and can resume its folder. None takes all.
        stratify: takes equally many prompts from each group or task, as far as each goes.
        seed: of the sample.
        mask_share: share of the words to hide in a text for fill-mask experts; at least one word.
        max_window: tokens read at once at most; longer texts are read in consecutive windows.
        max_new_tokens: tokens of an answer at most.
        keep_answers: whether the folder also keeps the answers' texts.
        batch_tokens: tokens, padding included, that go through a model at once; this bounds
            memory, whatever the number of prompts.
        workers: threads that read one model and share `batch_tokens`; with Ray, processes. None
            takes as many as the CPU has cores beside torch's own threads.
        engine: ``"local"``, or ``"ray"``: Ray Data, on this machine or on a cluster.
        address: of a Ray cluster; None starts Ray here, unless it runs already.
        device: where models run, as for `Runtime`.
        dtype: their number type, as for `Runtime`.
        download: whether Hub models that are not in the local cache may be fetched.
        keys: for a library from a file, which key may go to which host, as for `Runtime`.
        folders: for a library from a file, folders outside its own, as for `Runtime`.
        progress: called after every batch with the expert, its cells done, and all its cells. By
            default bars are drawn where standard error is a terminal; True also prints lines where
            it is not, False shows nothing.

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
    check_folder(user_path(out))
    method = (
        Likelihood(mask_share, max_window, batch_tokens)
        if metric is None
        else GeneratedAnswers(metric, max_new_tokens, keep_answers)
    )
    runtime = Runtime(
        library, device=device, dtype=dtype, download=download, keys=keys, folders=folders
    )
    _check_options(engine, workers)
    rows = read_rows(
        prompts, library.tasks, mask_share=mask_share, sample=Sample.of(sample, stratify, seed)
    )
    _check_packages(engine, local=metric is None or any(e.endpoint is None for e in library))
    checked = {expert.name: method.check_expert(runtime, expert) for expert in library}
    prints = {n: fingerprint(path) for n, path in checked.items() if path is not None}
    with shown_progress(progress, rate=_RATE) as advance:
        run = LabelRun.begin(
            out,
            library,
            rows,
            method,
            fingerprints=prints,
            progress=advance,
            started=started,
        )
        if engine == "ray":
            from tryage.labeling.ray_engine import RayEngine

            return run.measure_with(RayEngine(method, runtime, workers, address))
        return run.measure_with(LocalEngine(method, runtime, workers))


def _check_options(engine: str, workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise OptionError(f"workers is {workers}; it is at least 1")
    check_engine(engine)


def _check_packages(engine: str, *, local: bool) -> None:
    """See that what a run needs is installed; torch only for models that run here."""
    if local:
        for package in ("pyarrow", "torch", "transformers"):
            if importlib.util.find_spec(package) is None:
                raise missing_extra("hf", "measuring experts")
    elif importlib.util.find_spec("pyarrow") is None:
        raise missing_extra("parquet", "keeping measured scores (Parquet)")


class AnswerOptions(TypedDict, total=False):
    """Keyword arguments of `label_answers`.

    Attributes:
        library: the experts' attributes, such as prices; None makes one from their names. Its
            experts without a callable are left for another call.
        sample: prompts to take at most, chosen by a hash of their ids.
        stratify: takes equally many prompts from each group or task, as far as each goes.
        seed: of the sample.
        keep_answers: whether the folder also keeps the answers' texts. It always does for a judge
            that compares experts with each other, who needs them later.
        progress: called after every cell with the expert, its cells done, and all its cells; True,
            False and None as in `label`.
        concurrency: see `tryage.labeling.Calling`, as for the five that follow.
        per_minute: calls of one expert a minute at most.
        retries: how often a failed call is retried.
        backoff: upper bound of the wait before the first retry, in seconds.
        timeout: seconds that one call may take.
        give_up_after: failures in a row after which an expert is left alone.
    """

    library: Library | None
    sample: int | None
    stratify: Literal["group", "task"] | None
    seed: int
    keep_answers: bool
    progress: Progress | bool | None
    concurrency: Any
    per_minute: Any
    retries: Any
    backoff: Any
    timeout: Any
    give_up_after: Any


def label_answers(
    experts: Mapping[str, Call],
    prompts: Prompts,
    metric: Scorer,
    out: str | Path,
    **options: Unpack[AnswerOptions],
) -> LabelSummary:
    """Let every expert answer every prompt, score the answers, and store the results.

    `ScoreTable.read` reads the folder, and a router can be fitted on it. It holds the score,
    length, readability and latency of each answer, and its cost if the library states a price and
    the expert its tokens. A later call measures what is missing there or failed. Whatever
    happens, each cell is measured, missing, or failed with its reason; a call that is killed
    loses half a minute of answers at most.

    Args:
        experts: name → a function (or a coroutine function) of a prompt that returns text, or a
            `tryage.runtime.Answer`, which may state tokens. Functions are called in threads.
        prompts: what `tryage.labeling.label` takes.
        metric: ``(answer, reference) -> score`` in [0, 1], the name of one
            (`tryage.labeling.METRICS`), a `PointwiseJudge` or a `PairwiseJudge`.
        out: folder to create or to resume.
        **options: those of `AnswerOptions`.

    Raises:
        PromptError: a prompt is wrong, or lacks a reference that is needed.
        LibraryError: the library lacks an expert, or there is none.
        OutputFolderError: `out` holds something else, or was measured in another way.
        OptionError: an option is unknown or out of range, or the metric cannot be called like one.
        TypeError: an expert or the judge's model cannot be called.
        OSError: `out` cannot be written; what was written before stays whole.
        MissingExtraError: pyarrow is not installed.
    """
    return run_in_loop(alabel_answers(experts, prompts, metric, out, **options))


async def alabel_answers(
    experts: Mapping[str, Call],
    prompts: Prompts,
    metric: Scorer,
    out: str | Path,
    **options: Unpack[AnswerOptions],
) -> LabelSummary:
    """Do what `label_answers` does, in the caller's event loop; files are written in it too."""
    started = time.perf_counter()
    check_folder(user_path(out))
    arguments: dict[str, Any] = dict(options)
    full_library = arguments.pop("library", None)
    sample = Sample.of(
        arguments.pop("sample", None), arguments.pop("stratify", None), arguments.pop("seed", 0)
    )
    keep_answers = arguments.pop("keep_answers", False)
    progress = arguments.pop("progress", None)
    calling = Calling.of(arguments)
    if importlib.util.find_spec("pyarrow") is None:
        raise missing_extra("parquet", "keeping measured scores (Parquet)")
    library = _library_of(experts, full_library)
    judge = metric if isinstance(metric, Judge) else None
    _check_callables(experts, judge)
    calling.check_names([*(library if full_library is None else full_library).names, _JUDGE])
    if judge is not None and isinstance(calling.per_minute, Mapping):
        _check_judge_is_told_apart(library, calling.per_minute)
    rows = read_rows(prompts, library.tasks, mask_share=MASK_SHARE, sample=sample)
    scorer: MetricScorer | JudgeScorer
    if isinstance(metric, Judge):
        scorer = JudgeScorer(metric, Caller(_JUDGE, metric.model, calling), library, keep_answers)
    else:
        scorer = MetricScorer(metric, library, keep_answers)
    with shown_progress(progress, rate=_RATE) as advance:
        run = LabelRun.begin(out, library, rows, scorer, progress=advance, started=started)
        if isinstance(scorer, JudgeScorer):
            _warn_of_self_preference(scorer.judge, experts)
            if scorer.together:
                scorer = dataclasses.replace(scorer, earlier=run.store.answers(rows))
        callers = {name: Caller(name, experts[name], calling) for name in library.names}
        return await run.ameasure_with(CallEngine(callers, scorer, calling.concurrency))


def wrapped(
    experts: Mapping[str, Any], metric: Scorer, wrap: Callable[[Any], Call]
) -> tuple[dict[str, Call], Scorer]:
    """Return experts and a scorer in which a framework's models are callables.

    Args:
        experts: name → a framework's model.
        metric: a scorer; a judge's model comes from the framework too.
        wrap: makes a callable of a model.
    """
    if isinstance(metric, Judge):
        _warn_of_self_preference(metric, experts)
    calls = {name: wrap(expert) for name, expert in experts.items()}
    return calls, metric.over(wrap(metric.model)) if isinstance(metric, Judge) else metric


def _library_of(experts: Mapping[str, Call], library: Library | None) -> Library:
    """Return the library of the experts that have a callable.

    Raises:
        LibraryError: the library lacks one, or there is none.
    """
    if not experts:
        raise LibraryError("experts is empty; give at least one")
    if library is None:
        return Library([Expert(name=name, model=name) for name in experts])
    for name in experts:
        library.index(name)
    own = [expert for expert in library if expert.name in experts]
    return Library(own, name=library.name, root=library.root)


def _check_judge_is_told_apart(library: Library, rates: Mapping[str, float]) -> None:
    """Raise OptionError if a rate for "judge" could mean an expert or the judge."""
    if _JUDGE in rates and _JUDGE in library:
        raise OptionError(
            f"per_minute names {_JUDGE!r}, which is both an expert and the judge; give the expert "
            "another name, or one rate for all"
        )


def _check_callables(experts: Mapping[str, Call], judge: Judge | None) -> None:
    models = {f"expert {name!r}": call for name, call in experts.items()}
    if judge is not None:
        models["the judge's model"] = judge.model
    for what, call in models.items():
        if not callable(call):
            raise TypeError(
                f"{what} is a {type(call).__name__}; it is to be a function of a prompt"
            )


def _warn_of_self_preference(judge: Judge, experts: Mapping[str, Any]) -> None:
    own = [name for name, expert in experts.items() if expert is judge.model]
    if own:
        warnings.warn(
            f"the judge is expert {own[0]!r} itself; models prefer their own answers, so take "
            "another model as the judge, best of another family",
            TryageWarning,
            stacklevel=2,
        )
