"""Trains a student of one task on a teacher's predictions and on measured results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.distilling.lessons import Lessons
from tryage.encoders import Encoder
from tryage.evaluation import Row, row_of
from tryage.evaluation.verdict import Verdict, judge
from tryage.predictors import LinearPredictor, Predictor
from tryage.predictors.targets import LOSS, Targets
from tryage.progress import Progress
from tryage.scores import ScoreTable
from tryage.scores.fields import Kind
from tryage.ties import lowest, name_ranks
from tryage.training.candidates import Candidate
from tryage.training.encoded import EncodedTable

DEFAULT_STUDENT = "embedding-bag"

WEIGHTS = (0.5, 0.0, 1.0)
"""What the teacher may weigh beside a measured value; the first wins a tie."""

DEFAULT_WEIGHT = WEIGHTS[0]
"""Its weight where no measured prompts are held out to choose it by."""

_AGREEMENT_SHARE, _AGREEMENT_MOST, _AGREEMENT_FEWEST = 0.05, 1000, 40


@dataclass(frozen=True, slots=True)
class Distillation:
    """How a student is trained.

    Attributes:
        student: kind of predictor and its settings.
        encoder: turns prompts into the student's vectors; a static one.
        seed: makes everything reproducible.
        teacher_weight: weight of the teacher's prediction beside a measured value, from 0 (the
            measured value alone) to 1; None chooses among `WEIGHTS` by held-out prompts.
        holdout: share of the measured prompts that the student is not trained on but judged by;
            None trains on all of them, and there is no verdict.
    """

    student: Candidate
    encoder: Encoder
    seed: int = 0
    teacher_weight: float | None = None
    holdout: float | None = 0.2


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a student chooses beside its teacher on unlabelled prompts that it was not trained on.

    Attributes:
        prompts: how many.
        same_choice: share of them for which both choose the same expert, 0 to 1.
        regret: mean of what the student's choice loses by the teacher's predictions, in the
            unit of losses, 0 or more.
    """

    prompts: int
    same_choice: float
    regret: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "prompts": self.prompts,
            "same_choice": self.same_choice,
            "regret": self.regret,
        }


@dataclass(frozen=True, slots=True)
class Student:
    """A trained student of one task.

    Attributes:
        predictor: fitted.
        teacher_weight: weight of the teacher's prediction beside a measured value.
        regrets: weight → mean regret on held-out measured prompts, of those compared.
        agreement: with the teacher; None where there were too few prompts to hold out.
        validation: row of figures on the held-out measured prompts; None without any.
        verdict: on the same; None without any.
        prompts: how many prompts the student learned from.
    """

    predictor: Predictor
    teacher_weight: float
    regrets: Mapping[str, float | None]
    agreement: Agreement | None
    validation: Row | None
    verdict: Verdict | None
    prompts: int


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """Everything that the student of one task learns from.

    Attributes:
        task: the task.
        teacher: the teacher's predictor.
        kind: "scores" or "losses", what the losses were made of.
        unlabelled: the teacher's predictions for prompts that nobody measured.
        measured: results whose columns are the teacher's experts; None where there are none.
        beside: the teacher's predictions for the rows of `measured`, target → (n, n_experts); NaN
            where it knows nothing like the prompt.
        held: (n,) rows of `measured` that the student is judged by.
    """

    task: str
    teacher: Predictor
    kind: Kind
    unlabelled: Lessons
    measured: ScoreTable | None = None
    beside: Targets = field(default_factory=dict)
    held: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))


def train_student(
    lesson: Lesson, how: Distillation, *, progress: Progress | None = None
) -> Student:
    """Train a student; where the teacher's weight is open, one for each and keep the best.

    Args:
        lesson: what it learns from.
        how: its kind, and the teacher's weight.
        progress: called after every student that was trained.
    """
    rows = _for_agreement(len(lesson.unlabelled.prompts), how.seed)
    taught = _table(lesson, lesson.unlabelled.select(~rows))
    is_judged = lesson.measured is not None and bool(lesson.held.any())
    if how.teacher_weight is not None:
        weights: tuple[float, ...] = (how.teacher_weight,)
    else:
        weights = WEIGHTS if is_judged else (DEFAULT_WEIGHT,)
    made: list[tuple[float, Predictor, NDArray[np.intp], Row | None]] = []
    name = f"student: {lesson.task}"
    for number, weight in enumerate(weights):
        if progress is not None:
            progress(name, number, len(weights))
        table = _joined(lesson, taught, weight)
        encoded = EncodedTable.encode(table, how.student.kind, how.encoder)
        predictor = _with_teachers_averages(how.student.fit(encoded, how.seed), lesson.teacher)
        columns, row = np.zeros(0, dtype=np.intp), None
        if lesson.measured is not None and is_judged:
            test = lesson.measured.select(lesson.held)
            columns = _choices(predictor, test.prompts)
            row = row_of(test, columns, seed=how.seed)
        made.append((weight, predictor, columns, row))
    if progress is not None:
        progress(name, len(weights), len(weights))
    regrets = [None if row is None else row["regret"] for *_, row in made]
    best = min(range(len(made)), key=lambda place: (regrets[place] is None, regrets[place] or 0.0))
    weight, predictor, columns, row = made[best]
    verdict = None
    if lesson.measured is not None and is_judged:
        verdict = judge(
            lesson.measured.select(lesson.held),
            columns,
            held_out="holdout",
            whole=lesson.measured,
            seed=how.seed,
        )
    trained = 0 if lesson.measured is None else int((~lesson.held).sum())
    return Student(
        predictor=predictor,
        teacher_weight=weight,
        regrets={f"{weight:g}": regret for (weight, *_), regret in zip(made, regrets, strict=True)},
        agreement=_agreement(predictor, lesson.unlabelled.select(rows)),
        validation=row,
        verdict=verdict,
        prompts=len(taught) + trained,
    )


def _for_agreement(count: int, seed: int) -> NDArray[np.bool_]:
    """Draw the unlabelled prompts by which student and teacher are compared, a mask (count,)."""
    rows = np.zeros(count, dtype=np.bool_)
    if count >= _AGREEMENT_FEWEST:
        drawn = min(_AGREEMENT_MOST, max(1, round(_AGREEMENT_SHARE * count)))
        rows[np.random.default_rng([seed, 14]).permutation(count)[:drawn]] = True
    return rows


def _agreement(predictor: Predictor, lessons: Lessons) -> Agreement | None:
    count = len(lessons.prompts)
    if not count:
        return None
    losses, row = lessons.mean[LOSS], np.arange(count)
    chosen = _choices(predictor, lessons.prompts)
    theirs = lowest(losses, name_ranks(predictor.experts_))
    lost = losses[row, chosen] - losses.min(axis=1)
    return Agreement(count, float((chosen == theirs).mean()), float(lost.mean()))


def _choices(predictor: Predictor, prompts: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the columns that a predictor chooses, (n,); no goals weigh in."""
    losses = predictor.predict(prompts).with_averages(predictor.averages_).mean[LOSS]
    return lowest(losses, name_ranks(predictor.experts_))


def _with_teachers_averages(student: Predictor, teacher: Predictor) -> Predictor:
    """Give a student the averages that its teacher falls back on for unknown prompts.

    Cells of `clusters` and `nearest` are deviations from their own averages, which stay.
    """
    if isinstance(student, LinearPredictor):
        student.averages_ = {t: teacher.averages_[t].copy() for t in student.targets_}
    return student


def _table(lesson: Lesson, lessons: Lessons) -> ScoreTable:
    """Return a teacher's predictions as a score table."""
    count = len(lessons.prompts)
    return ScoreTable(
        prompts=lessons.prompts,
        ids=tuple(f"unlabelled-{number}" for number in range(count)),
        groups=(None,) * count,
        tasks=(lesson.task,) * count,
        references=(None,) * count,
        experts=lesson.teacher.experts_,
        losses=_possible(lessons.mean[LOSS], lesson.kind),
        kind=lesson.kind,
        targets={name: values for name, values in lessons.mean.items() if name != LOSS},
    )


def _possible(losses: NDArray[np.float64], kind: Kind) -> NDArray[np.float64]:
    """Return losses within the range of a table of a kind."""
    return np.clip(losses, 0.0, 1.0 if kind == "scores" else None)


def _joined(lesson: Lesson, taught: ScoreTable, weight: float) -> ScoreTable:
    """Return measured rows with the teacher's predictions mixed in, and the unlabelled ones.

    A cell that was not measured is the teacher's prediction, and a prompt that the teacher knows
    nothing like keeps its measured values alone.
    """
    if lesson.measured is None or lesson.held.all():
        return taught
    rows = ~lesson.held
    measured = lesson.measured.select(rows)
    count, columns = len(measured), len(measured.experts)
    mixed = {}
    for name in lesson.teacher.targets_:
        nothing = np.full((count, columns), np.nan)
        values = measured.losses if name == LOSS else measured.targets.get(name, nothing)
        theirs = lesson.beside[name][rows]
        both = (1 - weight) * values + weight * theirs
        mixed[name] = np.where(np.isnan(values), theirs, np.where(np.isnan(theirs), values, both))
    return ScoreTable(
        prompts=(*measured.prompts, *taught.prompts),
        ids=(*(f"measured-{number}" for number in range(count)), *taught.ids),
        groups=(*measured.groups, *taught.groups),
        tasks=(lesson.task,) * (count + len(taught)),
        references=(None,) * (count + len(taught)),
        experts=taught.experts,
        losses=np.concatenate([_possible(mixed[LOSS], lesson.kind), taught.losses]),
        kind=lesson.kind,
        targets={
            name: np.concatenate([values, taught.targets[name]])
            for name, values in mixed.items()
            if name != LOSS
        },
    )
