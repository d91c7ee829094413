"""Predictions of a task's predictor, spread over the whole library."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.library import Library
from tryage.predictors import Prediction, Predictor, UnmeasuredPredictor
from tryage.predictors.targets import LOSS
from tryage.predictors.wide import Columns, Shares, WideCells, WidePrediction
from tryage.questions import Span, question_spans, shown_questions
from tryage.scores import ScoreTable
from tryage.scripts import in_other_scripts

Array = NDArray[np.float64]

_LIKELIEST = 2
"""Parts of a prompt that are predicted first."""

_LABEL_IS_WORTH = 0.1
"""Cosine by which a labelled question may be less like the training prompts than the whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """Predictions of n prompts under the m experts of a library.

    Prompts that are out of distribution have the experts' averages.

    Attributes:
        losses: (n, m), lower is better, NaN for experts of another task.
        std: (n, m) standard error of `losses`.
        ood: (n,) whether a prompt is unlike all training prompts.
        targets: target → (n, m) in the target's unit, NaN where an expert was never measured.
        measured: whether losses were ever measured; if not, they are 0.
        questions: for a prompt that was routed by a part of it, that part; None for the others.
    """

    losses: Array
    std: Array
    ood: NDArray[np.bool_]
    targets: Mapping[str, Array] = field(default_factory=dict)
    measured: bool = True
    questions: tuple[Span | None, ...] = ()

    def row(self, number: int) -> Forecast:
        """Return the forecast of one prompt."""
        if len(self.ood) == 1:
            return self
        part = slice(number, number + 1)
        targets = {name: values[part] for name, values in self.targets.items()}
        return Forecast(
            self.losses[part],
            self.std[part],
            self.ood[part],
            targets,
            self.measured,
            self.questions[part],
        )


class Correspondence:
    """How the columns of a predictor and those of a library correspond.

    Args:
        places: columns of the predictor.
        columns: the library's column of each of them.
        experts: how many the predictor has.
        width: how many the library has.

    Attributes:
        of_library: (m,) the predictor's column of each of the library's experts, -1 for none.
        of_predictor: the library's column of each of the predictor's experts, -1 for none.
        whole: whether they are the same.
    """

    def __init__(self, places: list[int], columns: list[int], experts: int, width: int) -> None:
        self.of_library = np.full(width, -1)
        self.of_library[columns] = places
        self.of_predictor = np.full(experts, -1)
        self.of_predictor[places] = columns
        self._placed: tuple[WideCells, Columns] | None = None
        self.whole = experts == width and bool((self.of_library == np.arange(width)).all())

    def placed(self, cells: WideCells) -> Columns:
        """Return the library's column at each place of the cells, (blocks, places), or -1."""
        if self._placed is None or self._placed[0] is not cells:
            columns = np.full(cells.shape, -1)
            columns.reshape(-1)[: len(cells.order)] = self.of_predictor[cells.order]
            self._placed = cells, columns
        return self._placed[1]

    def spread(self, values: Array) -> Array:
        """Return values of the predictor's experts for the library's, NaN where there is none."""
        if self.whole:
            return values
        return np.where(self.of_library < 0, np.nan, values[self.of_library])

    def some(self, values_of: Callable[[Columns], Array], columns: Columns) -> Array:
        """Return what a function of the predictor's columns gives for some of the library's."""
        places = self.of_library[columns]
        return np.where(places < 0, np.nan, values_of(places))


class WideForecast(Forecast):
    """A forecast of thousands of experts, whose losses are computed when they are looked at.

    Attributes:
        prediction: of the predictor's experts.
        columns: which of them are the library's.
    """

    __slots__ = ("_losses", "_std", "columns", "prediction")

    prediction: WidePrediction
    columns: Correspondence

    def __init__(
        self,
        prediction: WidePrediction,
        targets: Mapping[str, Array],
        questions: tuple[Span | None, ...],
        columns: Correspondence,
    ) -> None:
        parts: dict[str, Any] = {"ood": prediction.ood, "targets": targets, "measured": True}
        parts |= {"questions": questions, "prediction": prediction, "columns": columns}
        for name, value in (parts | {"_losses": None, "_std": None}).items():
            object.__setattr__(self, name, value)

    @property
    def losses(self) -> Array:
        """As of any forecast."""
        cells = self.prediction.cells[LOSS]
        return self._whole("_losses", cells.all_means, self.prediction.shares)

    @property
    def std(self) -> Array:
        """As of any forecast."""
        cells = self.prediction.cells[LOSS]
        return self._whole("_std", cells.all_deviations, self.prediction.error_shares)

    def losses_of(self, row: int, columns: Columns) -> Array:
        """Return a prompt's losses under some of the library's experts, (n,)."""
        cells = self.prediction.cells[LOSS]
        return self.columns.some(partial(cells.means_of, self.prediction.shares[row]), columns)

    def std_of(self, row: int, columns: Columns) -> Array:
        """Return the standard errors of `losses_of`, (n,)."""
        cells, shares = self.prediction.cells[LOSS], self.prediction.error_shares[row]
        return self.columns.some(partial(cells.deviations_of, shares), columns)

    def row(self, number: int) -> WideForecast:
        """Return the forecast of one prompt."""
        if len(self.ood) == 1:
            return self
        part = slice(number, number + 1)
        targets = {name: values[part] for name, values in self.targets.items()}
        prediction = self.prediction.row(number)
        return WideForecast(prediction, targets, self.questions[part], self.columns)

    def _whole(self, slot: str, every: Callable[[Shares], Array], shares: Any) -> Array:
        values: Array | None = getattr(self, slot)
        if values is None:
            values = np.stack([self.columns.spread(every(row)) for row in shares])
            object.__setattr__(self, slot, values)
        return values


class Forecaster:
    """Predicts over a whole library with a predictor of some of its experts.

    Args:
        predictor: the task's fitted predictor; None where nothing was measured on the task.
        library: m experts, the predictor's among them.
        finds_questions: whether a prompt that a chain has built is predicted by the user's
            question in it, where that is like the training prompts.
        scripts: of the training prompts; prompts in others are out of distribution, which an
            encoder that cannot read them does not notice. None where they are not known.
    """

    def __init__(
        self,
        predictor: Predictor | None,
        library: Library,
        *,
        finds_questions: bool = False,
        scripts: tuple[str, ...] | None = None,
    ) -> None:
        self._predictor = predictor
        self._finds_questions = finds_questions
        self._scripts = scripts
        self._width = len(library)
        predicted_names = library.names if predictor is None else predictor.experts_
        self._whole = predicted_names == library.names
        # The predictor may know experts that were removed from the library.
        self._places = [place for place, name in enumerate(predicted_names) if name in library]
        self._columns = [library.index(predicted_names[place]) for place in self._places]

    def __call__(self, prompts: Sequence[str]) -> Forecast:
        """Predict the losses and other targets of n prompts."""
        if self._predictor is None:
            nothing = np.full((len(prompts), self._width), np.nan)
            return Forecast(nothing, nothing, np.zeros(len(prompts), dtype=bool))
        predict = partial(self._predict, self._predictor)
        prediction = predict(prompts)
        questions: tuple[Span | None, ...] = ()
        if self._finds_questions and prediction.likeness.size:
            prediction, questions = by_questions(predict, prompts, prediction)
        prediction = prediction.with_averages(self._predictor.averages_)
        if isinstance(prediction, WidePrediction):
            others = prediction.other_means()
            targets = {name: self._spread(values) for name, values in others.items()}
            return WideForecast(prediction, targets, questions, self._correspondence)
        means = prediction.mean
        targets = {name: self._spread(values) for name, values in means.items() if name != LOSS}
        return Forecast(
            self._spread(means[LOSS]),
            self._spread(prediction.std[LOSS]),
            prediction.ood,
            targets,
            measured=self._predictor.kind != UnmeasuredPredictor.kind,
            questions=questions,
        )

    @functools.cached_property
    def _correspondence(self) -> Correspondence:
        experts = 0 if self._predictor is None else len(self._predictor.experts_)
        return Correspondence(self._places, self._columns, experts, self._width)

    def _predict(self, predictor: Predictor, prompts: Sequence[str]) -> Prediction:
        prediction = predictor.predict(prompts)
        if self._scripts is None:
            return prediction
        foreign = in_other_scripts(prompts, self._scripts)
        if not foreign:
            return prediction
        ood = prediction.ood.copy()
        ood[foreign] = True
        return prediction.with_ood(ood)

    def _spread(self, values: Array) -> Array:
        """Spread columns of the predictor's experts over the library's, NaN elsewhere."""
        if self._whole:
            return np.asarray(values, dtype=np.float64)
        spread = np.full((len(values), self._width), np.nan)
        spread[:, self._columns] = values[:, self._places]
        return spread


def by_questions(
    predict: Callable[[Sequence[str]], Prediction], prompts: Sequence[str], prediction: Prediction
) -> tuple[Prediction, tuple[Span | None, ...]]:
    """Predict prompts that chains have built by the user's question in them.

    Args:
        predict: made the prediction.
        prompts: n texts.
        prediction: of the prompts as a whole.

    Returns:
        The prediction, with rows replaced and no longer out of distribution where a part of the
        prompt is like the training prompts; and that part for each prompt, None for the others.
    """
    candidates = _candidates(prompts, prediction)
    if not candidates:
        return prediction, ()
    questions: dict[int, Span] = {}
    rows: dict[int, tuple[Prediction, int]] = {}
    # The likeliest parts first: mostly one of them is the question, so the others are not needed.
    for most in (_LIKELIEST, None):
        tried = [
            (row, span, least)
            for row, rest in candidates.items()
            if row not in questions
            for span, least in itertools.islice(rest, most)
        ]
        if not tried:
            continue
        parts = predict([prompts[row][span.start : span.end] for row, span, _ in tried])
        for place, (row, span, least) in enumerate(tried):
            if row in questions or parts.ood[place] or parts.likeness[place] <= least:
                continue
            questions[row], rows[row] = span, (parts, place)
    if not questions:
        return prediction, ()
    return prediction.with_rows(rows), tuple(questions.get(row) for row in range(len(prompts)))


def _candidates(
    prompts: Sequence[str], prediction: Prediction
) -> dict[int, Iterator[tuple[Span, float]]]:
    """Return row → parts that may be the question, each with the likeness that it must exceed.

    Of a prompt that is out of distribution every such part is looked at. A template may be
    familiar itself, so of the other prompts the question is taken that they show.
    """
    candidates: dict[int, Iterator[tuple[Span, float]]] = {}
    for row, prompt in enumerate(prompts):
        if prediction.ood[row]:
            candidates[row] = ((span, -np.inf) for span in question_spans(prompt))
        elif shown := shown_questions(prompt):
            whole = float(prediction.likeness[row])
            candidates[row] = iter(
                [(part.span, whole - _LABEL_IS_WORTH * part.is_labelled) for part in shown]
            )
    return candidates


def measured_over(predicted: Forecast, table: ScoreTable, columns: Sequence[int]) -> Forecast:
    """Return a forecast with measured targets in place of predicted ones.

    Args:
        predicted: n prompts under m experts.
        table: the same prompts.
        columns: the column in the library of each of the table's experts.
    """
    targets = {}
    for name in predicted.targets.keys() | table.targets.keys():
        predictions = predicted.targets.get(name)
        values = (
            np.full(predicted.losses.shape, np.nan) if predictions is None else predictions.copy()
        )
        if name in table.targets:
            measured = table.targets[name]
            values[:, columns] = np.where(np.isnan(measured), values[:, columns], measured)
        targets[name] = values
    return replace(predicted, targets=targets)
