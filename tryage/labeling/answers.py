"""`label_answers`: models that run anywhere answer prompts, and a metric or a judge scores them."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from tryage.errors import LibraryError, TryageWarning, missing_extra
from tryage.experts import Expert
from tryage.labeling.answer_run import AnswerRun, Progress
from tryage.labeling.calling import Call, Caller, Calling
from tryage.labeling.code_marks import code_mark
from tryage.labeling.jobs import jobs_of
from tryage.labeling.judges import Judge
from tryage.labeling.loops import run_in_loop
from tryage.labeling.losses import MASK_SHARE
from tryage.labeling.methods import Method
from tryage.labeling.metrics import Metric, find_metric, metric_name
from tryage.labeling.prompts import Row, read_rows
from tryage.labeling.record import Key
from tryage.labeling.sampling import Sample
from tryage.labeling.shards import read_columns
from tryage.labeling.store import LabelStore
from tryage.labeling.summary import LabelSummary
from tryage.library import Library
from tryage.prompts import Prompts

Scorer = str | Metric | Judge
"""The name of a metric, a metric, or a judge."""

_JUDGE = "judge"


class AnswerOptions(TypedDict, total=False):
    """Keyword arguments of `label_answers`.

    Attributes:
        library: the experts' attributes, prices among them; None makes one of their names. Its
            experts without a callable are left for another call.
        sample: prompts to take at most, chosen by a hash of their ids.
        stratify: what the sample is to hold as many of as there are.
        seed: of the sample.
        keep_answers: whether the folder also keeps the answers' texts. A judge that compares
            experts with each other needs them, so it always keeps them.
        progress: called after every cell with the expert, its cells done, and its cells.
        concurrency: see `tryage.labeling.Calling`, as for the five that follow.
        per_minute: calls of one expert a minute at most.
        retries: how often a failed call is repeated.
        backoff: seconds before the first repetition.
        timeout: seconds that one call may take.
        give_up_after: failures in a row after which an expert is left alone.
    """

    library: Library | None
    sample: int | None
    stratify: Literal["group", "task"] | None
    seed: int
    keep_answers: bool
    progress: Progress | None
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
    """Let every expert answer every prompt, score the answers, and keep what is measured.

    The folder can be read with `ScoreTable.read` and fitted on; it holds scores, and of each
    answer its length, readability and latency, and its cost where the library states a price and
    the expert tells tokens. A later call measures what is missing there or failed. Each cell is
    measured, missing, or failed with its reason, whatever happens; a call that is killed loses
    half a minute of answers at most.

    Args:
        experts: name → a function (or a coroutine function) of a prompt that returns text, or a
            `tryage.runtime.Answer`, which may tell tokens. Functions are called in threads.
        prompts: what `tryage.labeling.label` takes.
        metric: ``(answer, reference) -> score`` in [0, 1], the name of one
            (`tryage.labeling.METRICS`), a `PointwiseJudge` or a `PairwiseJudge`.
        out: folder to fill or to resume.
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
    arguments: dict[str, Any] = dict(options)
    library = arguments.pop("library", None)
    sample = Sample.of(
        arguments.pop("sample", None), arguments.pop("stratify", None), arguments.pop("seed", 0)
    )
    keep_answers = arguments.pop("keep_answers", False)
    progress = arguments.pop("progress", None)
    started = time.perf_counter()
    calling = Calling.of(arguments)
    if importlib.util.find_spec("pyarrow") is None:
        raise missing_extra("parquet", "keeping measured scores (Parquet)")
    known = _library(experts, library)
    judge = metric if isinstance(metric, Judge) else None
    _check_callables(experts, judge)
    calling.check_names([*(known if library is None else library).names, _JUDGE])
    rows = read_rows(prompts, known.tasks, mask_share=MASK_SHARE, sample=sample)
    settings = _check(metric, experts, rows)
    store = LabelStore(Path(out), "scores")
    own = metric.parse if isinstance(metric, Judge) else find_metric(metric)
    store.open(known, settings, code=code_mark(own))
    jobs = jobs_of(known, rows, store.measured(rows))
    together = judge is not None and not judge.alone
    run = AnswerRun(
        known,
        {name: Caller(name, experts[name], calling) for name in known.names},
        metric if isinstance(metric, Judge) else find_metric(metric),
        None if judge is None else Caller(_JUDGE, judge.model, calling),
        keep=keep_answers or together,
        kept=_kept_answers(store, rows) if together else {},
    )
    with run.writing(store, jobs, progress or (lambda *_: None)):
        await run.measure(jobs, calling.concurrency)
    return run.tally.summary(time.perf_counter() - started, 0.0)


def wrapped(
    experts: Mapping[str, Any], metric: Scorer, wrap: Callable[[Any], Call]
) -> tuple[dict[str, Call], Scorer]:
    """Return experts and a scorer whose models are callables.

    Args:
        experts: name → a framework's model.
        metric: a scorer; a judge's model is a framework's too.
        wrap: makes a callable of a model.
    """
    if isinstance(metric, Judge):
        _warn_of_self_preference(metric, experts)
    calls = {name: wrap(expert) for name, expert in experts.items()}
    return calls, metric.over(wrap(metric.model)) if isinstance(metric, Judge) else metric


def _library(experts: Mapping[str, Call], library: Library | None) -> Library:
    """Return the library of the experts that are there.

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


def _check_callables(experts: Mapping[str, Call], judge: Judge | None) -> None:
    models = {f"expert {name!r}": call for name, call in experts.items()}
    if judge is not None:
        models["the judge's model"] = judge.model
    for what, call in models.items():
        if not callable(call):
            raise TypeError(
                f"{what} is a {type(call).__name__}; it is to be a function of a prompt"
            )


def _check(metric: Scorer, experts: Mapping[str, Call], rows: Sequence[Row]) -> dict[str, Any]:
    """See that rows can be scored; return what the scores depend on."""
    if isinstance(metric, Judge):
        metric.check_rows(rows)
        _warn_of_self_preference(metric, experts)
        return metric.settings()
    Method(find_metric(metric)).check_rows(rows)
    # How long answers may be is the experts' own business.
    return {"metric": metric_name(metric)}


def _warn_of_self_preference(judge: Judge, experts: Mapping[str, Any]) -> None:
    own = [name for name, expert in experts.items() if expert is judge.model]
    if own:
        warnings.warn(
            f"the judge is expert {own[0]!r} itself; models prefer their own answers, so take "
            "another model as the judge, best of another family",
            TryageWarning,
            stacklevel=2,
        )


def _kept_answers(store: LabelStore, rows: Sequence[Row]) -> dict[Key, str]:
    """Return the answers of measured cells, which later ones are compared with."""
    wanted = {(row.task, row.id) for row in rows}
    kept: dict[Key, str] = {}
    for shard in store.shards():
        columns = read_columns(shard, ("task", "prompt_id", "expert", "answer", "error"))
        for task, name, expert, answer, error in zip(*columns, strict=True):
            if error is None and answer is not None and (task, name) in wanted:
                kept.setdefault((task, name, expert), answer)
    return kept
