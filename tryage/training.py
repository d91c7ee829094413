"""Fitting a predictor on a score table, and telling beforehand how well its choices will do."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.evaluation import Row, row_of
from tryage.evaluation.metrics import Array, Indices, mean_over
from tryage.evaluation.references import expected_losses, lowest
from tryage.library import Library
from tryage.predictors import Predictor, make_predictor
from tryage.scores import ScoreTable

MISSING = -1
"""A fold or a choice that does not exist."""


class CachedEncoder:
    """An encoder that reads some prompts once: a fit and all its folds share their vectors.

    Args:
        encoder: encodes the prompts given at first use, and any other when it is asked for.
        prompts: the prompts to keep the vectors of.
    """

    def __init__(self, encoder: Encoder, prompts: Sequence[str]) -> None:
        self._encoder = encoder
        self._rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}

    @functools.cached_property
    def _vectors(self) -> NDArray[np.float32]:
        return self._encoder.encode(list(self._rows))

    @property
    def name(self) -> str:
        """The name of the encoder behind."""
        return self._encoder.name

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._encoder.dim

    def encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per prompt, shape (n_prompts, dim), of unit length or all zero."""
        rows = [self._rows.get(prompt) for prompt in prompts]
        known = [row for row in rows if row is not None]
        return self._vectors[known] if len(known) == len(rows) else self._encoder.encode(prompts)

    def save(self, folder: Path) -> dict[str, Any]:
        """Save the encoder behind; the vectors are not kept."""
        return self._encoder.save(folder)


def scale_facts(table: ScoreTable, library: Library) -> dict[str, Any]:
    """Return what the scales of goals are fixed on: means of what a table measured.

    Args:
        table: prompts × experts.
        library: m experts.

    Returns:
        The keyword arguments `averages` and `prompt_chars` of `tryage.objective.Objective.fit`.
    """
    averages = {}
    for name, values in table.targets.items():
        wide = np.full(len(library), np.nan)
        wide[[library.index(expert) for expert in table.experts]] = mean_over(values, axis=0)
        averages[name] = wide
    lengths = [len(prompt) for prompt in table.prompts]
    return {"averages": averages, "prompt_chars": float(np.mean(lengths))}


def fit_predictor(table: ScoreTable, kind: str, encoder: Encoder | None, seed: int) -> Predictor:
    """Fit a predictor of one kind on one task's table.

    Args:
        table: measured losses; cells may be missing.
        kind: one of `tryage.predictors.PREDICTORS`.
        encoder: turns prompts into vectors; kinds that do not look at prompts take None.
        seed: makes the fit reproducible.

    Returns:
        The fitted predictor.

    Raises:
        PredictorError: an unknown kind, or a table that it cannot learn from.
    """
    return make_predictor(kind, encoder, seed).fit(table.prompts, table)


def fit_and_validate(
    table: ScoreTable, kind: str, encoder: Encoder | None, seed: int
) -> tuple[Predictor, Row]:
    """Do what `fit_predictor` and `validate` do, and encode each prompt once for both.

    Args:
        table: measured losses of one task.
        kind: one of `tryage.predictors.PREDICTORS`.
        encoder: turns prompts into vectors; kinds that do not look at prompts take None.
        seed: makes everything reproducible.

    Returns:
        The predictor fitted on the whole table, and the cross-validated row of its kind.

    Raises:
        PredictorError: an unknown kind, or a table that it cannot learn from.
    """
    cached = None if encoder is None else CachedEncoder(encoder, table.prompts)
    predictor = make_predictor(kind, cached, seed).fit(table.prompts, table)
    predictor.encoder = encoder
    return predictor, validate(table, kind, cached, seed)


def validate(
    table: ScoreTable, kind: str, encoder: Encoder | None, seed: int, folds: int = 5
) -> Row:
    """Cross-validate a kind of predictor: choose for each fold by a fit on the others.

    Each prompt is encoded once. Equal prompts fall into the same fold, so none is chosen for by a
    fit that has seen it. An expert that only the held-out fold measures is not chosen there.

    Args:
        table: measured losses of one task.
        kind: one of `tryage.predictors.PREDICTORS`.
        encoder: turns prompts into vectors; kinds that do not look at prompts take None.
        seed: makes folds, fits and intervals reproducible.
        folds: how many; fewer where the table holds fewer different prompts.

    Returns:
        The row of figures that `tryage evaluate` gives (no goals weighed in). With fewer than two
        different prompts nothing can be held out: its figures are None and `measured` is 0.

    Raises:
        PredictorError: an unknown kind, or a table that it cannot learn from.
    """
    fold_of = split_folds(table, folds, seed)
    cached = None if encoder is None else CachedEncoder(encoder, table.prompts)
    choices = np.full(len(table), MISSING)
    for fold in range(fold_of.max(initial=MISSING) + 1):
        held_out = np.flatnonzero(fold_of == fold)
        rest = table.select(fold_of != fold)
        if np.isnan(rest.losses).all():
            continue
        choices[held_out] = _choose(rest, table.select(held_out).prompts, kind, cached, seed)
    return row_of(table, choices, seed=seed)


def split_folds(table: ScoreTable, folds: int, seed: int) -> Indices:
    """Deal prompts into folds: every group evenly, equal prompts together.

    Args:
        table: n prompts and their groups.
        folds: how many; fewer where there are fewer different prompts.
        seed: makes the split reproducible.

    Returns:
        (n,) fold of each prompt, from 0; -1 for all where there is only one different prompt.
    """
    first: dict[str, int] = {}
    for row, prompt in enumerate(table.prompts):
        first.setdefault(prompt, row)
    count = min(folds, len(first))
    if count < 2:
        return np.full(len(table), MISSING)
    rows = np.array(list(first.values()))
    names = [table.groups[row] or "" for row in rows.tolist()]
    order = np.random.default_rng([seed, 3]).permutation(len(rows))
    # Dealt group after group like cards, so that each fold gets its share of every group.
    order = order[np.argsort(np.array(names)[order], kind="stable")]
    fold_of = dict(zip(rows[order].tolist(), (np.arange(len(rows)) % count).tolist(), strict=True))
    return np.array([fold_of[first[prompt]] for prompt in table.prompts], dtype=np.intp)


def _choose(
    train: ScoreTable, prompts: Sequence[str], kind: str, encoder: Encoder | None, seed: int
) -> Indices:
    """Columns of `train` chosen for some prompts by a predictor fitted on it, shape (n,)."""
    measured = np.flatnonzero(~np.isnan(train.losses).all(axis=0))
    part = train.reorder([train.experts[column] for column in measured.tolist()])
    part = replace(part, targets={})  # no goals are weighed in, so the loss alone decides
    fitted = fit_predictor(part, kind, encoder, seed)
    predicted: Array = expected_losses(fitted.predict(prompts), fitted.average_loss_)
    ranks = np.argsort(np.argsort(np.array(part.experts)))
    return measured[lowest(predicted, ranks)]
