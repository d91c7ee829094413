"""The parts of a router whose predictors are students of another router's."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tryage.characters import short
from tryage.distilling.lessons import Lessons, PredictionFile, teach, teacher_fingerprint
from tryage.distilling.students import Distillation, Lesson, Student, train_student
from tryage.encoders import StaticEncoder
from tryage.errors import (
    OptionError,
    PredictorError,
    PromptError,
    ScoreTableError,
    TryageWarning,
)
from tryage.experts import task_of_prompt
from tryage.fingerprints import LEAST_SHARE, joined_fingerprints, seen_share
from tryage.predictors import Predictor, TransformerPredictor, UnmeasuredPredictor
from tryage.progress import Progress
from tryage.prompts import Prompts, read_prompts
from tryage.router_parts import RouterParts
from tryage.scores import ScoreTable
from tryage.scores.fields import Kind
from tryage.sources import TableSource
from tryage.training.candidates import AUTO, check_kind
from tryage.training.folds import hold_out

_INHERITED = ("scripts", "kinds", "among_best", "experts_since")
"""What a student's provenance takes from its teacher's: the teacher learned it from results."""

_NEVER = (AUTO, TransformerPredictor.kind, "random", "best-single")


def distill_parts(
    teacher: RouterParts,
    prompts: Prompts,
    source: TableSource | None,
    how: Distillation,
    *,
    file: PredictionFile | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return the parts that differ from the teacher's; arguments and errors as `Router.distill`."""
    slow = _slow_predictors(teacher)
    _check(how)
    texts = _by_task(prompts, teacher)
    tables = _measured(teacher, source, slow)
    for task in slow:
        if not texts.get(task) and task not in tables:
            raise PromptError(
                f"no prompt is of task {task!r}, whose predictor is slow; give prompts of it, or "
                "a table that has some"
            )
    held = frozenset[str]()
    if how.holdout is not None and tables:
        held = hold_out(ScoreTable.of(source), how.holdout, how.seed)
    predictors, students = dict(teacher.predictors), {}
    unknown = 0
    for task, predictor in slow.items():
        lesson = _lesson(predictor, task, texts.get(task, ()), tables.get(task), teacher, held)
        lesson, left_out = _taught(lesson, file, progress)
        unknown += left_out
        students[task] = train_student(lesson, how, progress=progress)
        predictors[task] = students[task].predictor
    measured = None if source is None else ScoreTable.of(source)
    provenance = _provenance(teacher, students, how, measured, held)
    provenance["distilled"] = {
        "teacher": {task: teacher_fingerprint(one) for task, one in slow.items()},
        "predictors": {task: one.kind for task, one in slow.items()},
        "fitted_on": teacher.provenance.get("fitted_on"),
        "unlabelled": sum(len(texts.get(task, ())) for task in slow) - unknown,
        "unknown_to_teacher": unknown,
        "teacher_weight": {task: one.teacher_weight for task, one in students.items()},
        "regret_by_weight": {task: dict(one.regrets) for task, one in students.items()},
        "agreement": {
            task: None if one.agreement is None else one.agreement.to_dict()
            for task, one in students.items()
        },
        "seen_by_teacher": _share_taught(teacher, tables, held),
    }
    return {"predictors": predictors, "provenance": provenance, "training_prompts": {}}


def _slow_predictors(teacher: RouterParts) -> dict[str, Predictor]:
    """Return the teacher's predictors that run a network for every decision, by task."""
    slow = {task: one for task, one in teacher.predictors.items() if _is_slow(one)}
    if slow:
        return slow
    kinds = ", ".join(f"{one.kind} for {task}" for task, one in teacher.predictors.items())
    if all(isinstance(one, UnmeasuredPredictor) for one in teacher.predictors.values()):
        raise PredictorError(
            "the teacher was fitted on no results, so it predicts nothing to learn; fit a router "
            "with predictor 'transformer' on a score table, and distill that"
        )
    raise PredictorError(
        f"the teacher is fast already ({kinds}), so a student gains nothing; distill a router "
        "fitted with predictor 'transformer', or on the encoder of a language model"
    )


def _is_slow(predictor: Predictor) -> bool:
    if isinstance(predictor, UnmeasuredPredictor):
        return False
    if isinstance(predictor, TransformerPredictor):
        return True
    return predictor.encoder is not None and not isinstance(predictor.encoder, StaticEncoder)


def _check(how: Distillation) -> None:
    """Refuse settings with which no fast student can be trained."""
    kind = how.student.kind
    if kind in _NEVER:
        raise OptionError(
            f"a student of kind {kind!r} does not decide fast by the prompt; choose embedding-bag, "
            "linear, hybrid, groups, clusters or nearest"
        )
    check_kind(kind)
    if not isinstance(how.encoder, StaticEncoder):
        raise OptionError(
            f"encoder {how.encoder.name!r} is a language model, and a student is to be fast; give "
            "it 'static', or the folder of another static encoder"
        )
    if how.teacher_weight is not None and not 0 <= how.teacher_weight <= 1:
        raise OptionError(
            f"a teacher's weight of {how.teacher_weight:g}; give one from 0 (measured values "
            "alone, where there are any) to 1"
        )


def _by_task(prompts: Prompts, teacher: RouterParts) -> dict[str, list[str]]:
    """Return the different texts of each of the teacher's tasks.

    Raises:
        PromptError: there are none, or one is of a task that the teacher does not know.
    """
    tasks = teacher.tasks
    texts: dict[str, dict[str, None]] = {}
    for record in read_prompts(prompts):
        task = record.task or (tasks[0] if len(tasks) == 1 else task_of_prompt(record.prompt))
        if task not in tasks:
            raise PromptError(
                f"{record.where}: task {short(task)}, and the teacher knows {', '.join(tasks)}; "
                "leave the line out, or name another task in it"
            )
        texts.setdefault(task, {})[record.prompt] = None
    if not texts:
        raise PromptError(
            "there are no prompts for the teacher to predict; give some that nobody measured, "
            "such as those of a log"
        )
    return {task: list(some) for task, some in texts.items()}


def _measured(
    teacher: RouterParts, source: TableSource | None, slow: Mapping[str, Predictor]
) -> dict[str, ScoreTable]:
    """Return the table's part of each slow task, with the teacher's experts as columns.

    Raises:
        ScoreTableError: table and teacher do not name the same experts, or one holds scores and
            the other losses.
    """
    if source is None:
        return {}
    table = ScoreTable.of(source)
    kind = teacher.provenance.get("kind")
    if kind is not None and table.kind != kind:
        raise ScoreTableError(
            f"the table holds {table.kind}, and the teacher was fitted on {kind}; a student "
            "learns from both, so give a table of the same kind"
        )
    parts = table.by_task(teacher.library)
    return {
        task: parts[task].reorder(predictor.experts_)
        for task, predictor in slow.items()
        if task in parts
    }


def _lesson(
    predictor: Predictor,
    task: str,
    texts: Sequence[str],
    measured: ScoreTable | None,
    teacher: RouterParts,
    held: frozenset[str],
) -> Lesson:
    """Return what a student learns from, without the teacher's predictions."""
    kind: Kind = "scores" if teacher.provenance.get("kind") == "scores" else "losses"
    labelled = frozenset[str]() if measured is None else frozenset(measured.prompts)
    unlabelled = tuple(text for text in texts if text not in labelled)
    nothing = Lessons(unlabelled, {}, np.zeros(len(unlabelled), dtype=np.bool_))
    rows = np.array([p in held for p in (() if measured is None else measured.prompts)], dtype=bool)
    return Lesson(task, predictor, kind, nothing, measured, held=rows)


def _taught(
    lesson: Lesson, file: PredictionFile | None, progress: Progress | None
) -> tuple[Lesson, int]:
    """Add the teacher's predictions; also return how many prompts it knows nothing like."""
    measured = lesson.measured
    labelled = () if measured is None else measured.prompts
    texts = (*labelled, *lesson.unlabelled.prompts)
    lessons = teach(lesson.teacher, texts, lesson.task, file=file, progress=progress)
    row_of = {text: row for row, text in enumerate(lessons.prompts)}
    rows = np.array([row_of[text] for text in lesson.unlabelled.prompts], dtype=np.intp)
    unlabelled = lessons.select(rows)
    familiar = unlabelled.select(~unlabelled.ood)
    if not familiar.prompts and measured is None:
        raise PromptError(
            f"all {len(rows)} prompts of {lesson.task} are out of distribution for the teacher, so "
            "it has nothing to teach on them; give prompts like those that it was fitted on"
        )
    theirs = lessons.select(np.array([row_of[text] for text in labelled], dtype=np.intp))
    # What the teacher says of prompts unlike all that it knows is no lesson.
    beside = {
        target: np.where(theirs.ood[:, None], np.nan, values)
        for target, values in theirs.mean.items()
    }
    taught = Lesson(
        lesson.task, lesson.teacher, lesson.kind, familiar, measured, beside, lesson.held
    )
    return taught, len(rows) - len(familiar.prompts)


def _provenance(
    teacher: RouterParts,
    students: Mapping[str, Student],
    how: Distillation,
    table: ScoreTable | None,
    held: frozenset[str],
) -> dict[str, Any]:
    before = teacher.provenance
    fitted = () if table is None else [text for text in table.prompts if text not in held]
    marks = joined_fingerprints(before.get("fingerprints"), fitted)
    provenance = {key: before[key] for key in _INHERITED if key in before}
    provenance |= {
        "kind": before.get("kind", "losses") if table is None else table.kind,
        "predictor": how.student.kind,
        "encoder": how.encoder.name,
        "seed": how.seed,
        "fitted_on": datetime.now(UTC).date().isoformat(),
        "prompts": sum(one.prompts for one in students.values()),
        "cells": 0 if table is None else _cells(table, held),
        "data_sha256": before.get("data_sha256") if table is None else table.hash,
        "validation": {t: one.validation for t, one in students.items() if one.validation},
        "verdicts": {t: one.verdict.to_dict() for t, one in students.items() if one.verdict},
    }
    if marks is not None:
        provenance["fingerprints"] = marks
    if held:
        provenance["holdout"] = how.holdout
    return provenance


def _cells(table: ScoreTable, held: frozenset[str]) -> int:
    rows = np.array([text not in held for text in table.prompts], dtype=bool)
    return int(np.isfinite(table.losses[rows]).sum())


def _share_taught(
    teacher: RouterParts, tables: Mapping[str, ScoreTable], held: frozenset[str]
) -> float | None:
    """Return the share of the held-out prompts that the teacher was fitted on, and warn of it."""
    stored = teacher.provenance.get("fingerprints")
    judged = [text for part in tables.values() for text in part.prompts if text in held]
    if not judged or not isinstance(stored, str):
        return None
    share, _ = seen_share(stored, judged)
    if share >= LEAST_SHARE:
        warnings.warn(
            f"the teacher was fitted on {share:.0%} of the prompts that judge the student, so the "
            "verdict is better than on new ones; evaluate the student on prompts that neither has "
            "seen",
            TryageWarning,
            stacklevel=4,
        )
    return share
