"""Fitting a predictor on a score table, and telling beforehand how well its choices will do.

``auto`` tries several kinds. Which one a table is best served by is chosen on inner folds, by the
regret of its choices; the same procedure, run without the outer folds' prompts, is compared on
them with plain `clusters` and `nearest`, and gives way to the better of these if it loses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tryage.encoders import CachedEncoder, Encoder
from tryage.errors import PredictorError, did_you_mean
from tryage.evaluation import Row, row_of
from tryage.evaluation.choices import among_best_of
from tryage.evaluation.evaluate import plain
from tryage.evaluation.metrics import (
    Array,
    Indices,
    Measured,
    macro_mean,
    mean_over,
    measured_cells,
    outcomes,
)
from tryage.evaluation.references import expected_losses, lowest
from tryage.library import Library
from tryage.objective import Objective, loss_spread
from tryage.predictors import PREDICTORS, Predictor, make_predictor
from tryage.scores import ScoreTable

__all__ = [
    "AUTO",
    "CANDIDATES",
    "CachedEncoder",
    "Fit",
    "fit_and_validate",
    "fit_predictor",
    "split_folds",
    "validate",
]

MISSING = -1
"""A fold or a choice that does not exist."""

AUTO = "auto"

FOLDS = 5
INNER_FOLDS = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind of predictor with its settings.

    Attributes:
        kind: one of `tryage.predictors.PREDICTORS`.
        settings: keyword arguments of its class.
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.kind}({told})" if told else self.kind

    def fit(self, table: ScoreTable, encoder: Encoder | None, seed: int) -> Predictor:
        """Fit such a predictor on one task's table."""
        predictor = make_predictor(self.kind, encoder, seed, **self.settings)
        return predictor.fit(table.prompts, table)


CLUSTERS, NEAREST = Candidate("clusters"), Candidate("nearest")

CANDIDATES = (
    CLUSTERS,
    NEAREST,
    Candidate("nearest", {"k": 320}),
    Candidate("linear"),
    Candidate("hybrid"),
)
"""What `auto` chooses among; the first is taken unless another does better by more than a
standard error of the difference."""

BENT = Candidate("linear", {"features": 1024})
"""One more, for large tables: with fewer prompts than `_BENT_PROMPTS` it has too little to learn
from, and each pattern of missing cells is a regression of its own."""

_BENT_PROMPTS, _BENT_PATTERNS = 2000, 8


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted predictor, and how well its choices did on held-out prompts.

    Attributes:
        predictor: fitted on the whole table.
        validation: the row of figures that `tryage evaluate` gives.
        choice: what `auto` compared and chose, as JSON types; None for a kind asked for by name.
    """

    predictor: Predictor
    validation: Row
    choice: dict[str, Any] | None = None


def check_kind(kind: str) -> None:
    """See that there is such a kind of predictor, `auto` included.

    Raises:
        PredictorError: there is none.
    """
    known = (AUTO, *PREDICTORS)
    if kind not in known:
        hint = did_you_mean(kind, known)
        raise PredictorError(f"unknown predictor {kind!r}; there are: {', '.join(known)}.{hint}")


def goal_statistics(table: ScoreTable, library: Library) -> dict[str, Any]:
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
        kind: "auto", or one of `tryage.predictors.PREDICTORS`.
        encoder: turns prompts into vectors; kinds that do not look at prompts take None.
        seed: makes the fit reproducible.

    Returns:
        The fitted predictor, for "auto" of the kind chosen.

    Raises:
        PredictorError: an unknown kind, or a table that it cannot learn from.
    """
    check_kind(kind)
    if kind == AUTO:
        return fit_and_validate(table, kind, encoder, seed).predictor
    return Candidate(kind).fit(table, encoder, seed)


def fit_and_validate(table: ScoreTable, kind: str, encoder: Encoder | None, seed: int) -> Fit:
    """Do what `fit_predictor` and `validate` do, and encode each prompt once for both.

    Args:
        table: measured losses of one task.
        kind: "auto", or one of `tryage.predictors.PREDICTORS`.
        encoder: turns prompts into vectors; kinds that do not look at prompts take None.
        seed: makes everything reproducible.

    Returns:
        The predictor fitted on the whole table, and the cross-validated row of its kind.

    Raises:
        PredictorError: an unknown kind, or a table that it cannot learn from.
    """
    check_kind(kind)
    cached = _cached(table, kind, encoder)
    if kind == AUTO:
        found = _automatic(table, cached, seed)
        found.predictor.encoder = encoder
        return found
    predictor = Candidate(kind).fit(table, cached, seed)
    if predictor.encoder is not None:
        predictor.encoder = encoder
    return Fit(predictor, validate(table, kind, cached, seed))


def fit_tasks(
    table: ScoreTable, library: Library, kind: str, encoder: Encoder, seed: int
) -> tuple[dict[str, Predictor], Objective, dict[str, Any]]:
    """Fit what a router decides by, task by task; arguments as `fit_and_validate`.

    Returns:
        Task → fitted predictor, the objective on its scales, and the fit's provenance, as JSON.

    Raises:
        ScoreTableError: table and library do not name the same experts.
        PredictorError: as `fit_and_validate`.
    """
    fits = {
        task: (part, fit_and_validate(part, kind, encoder, seed))
        for task, part in table.by_task(library).items()
    }
    provenance = {
        "predictor": kind,
        "encoder": encoder.name,
        "seed": seed,
        "prompts": len(table),
        "cells": int(np.isfinite(table.losses).sum()),
        "kind": table.kind,
        "data_sha256": table.hash,
        "validation": {task: fit.validation for task, (_, fit) in fits.items()},
        "among_best": {task: among_best_of(part) for task, (part, _) in fits.items()},
    }
    choices = {task: fit.choice for task, (_, fit) in fits.items() if fit.choice is not None}
    if choices:
        provenance["choice"] = choices
    spreads = {task: loss_spread(part.losses) for task, (part, _) in fits.items()}
    objective = Objective.fit(library, spreads, **goal_statistics(table, library))
    return {task: fit.predictor for task, (_, fit) in fits.items()}, objective, provenance


def validate(
    table: ScoreTable, kind: str, encoder: Encoder | None, seed: int, folds: int = FOLDS
) -> Row:
    """Cross-validate a kind of predictor: choose for each fold by a fit on the others.

    Each prompt is encoded once. Equal prompts fall into the same fold, so none is chosen for by a
    fit that has seen it. An expert that only the held-out fold measures is not chosen there. A
    kind that is slow to fit is judged on the first fold alone, which `measured` then tells.

    Args:
        table: measured losses of one task.
        kind: "auto", or one of `tryage.predictors.PREDICTORS`.
        encoder: turns prompts into vectors; kinds that do not look at prompts take None.
        seed: makes folds, fits and intervals reproducible.
        folds: how many; fewer where the table holds fewer different prompts.

    Returns:
        The row of figures that `tryage evaluate` gives (no goals weighed in). With fewer than two
        different prompts nothing can be held out: its figures are None and `measured` is 0.

    Raises:
        PredictorError: an unknown kind, or a table that it cannot learn from.
    """
    check_kind(kind)
    cached = _cached(table, kind, encoder)
    if kind == AUTO:
        return _automatic(table, cached, seed, folds).validation
    choices = _held_out_choices(table, Candidate(kind), cached, seed, folds)
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


def _cached(table: ScoreTable, kind: str, encoder: Encoder | None) -> Encoder | None:
    """The encoder with the table's vectors kept, unless the kind trains its own on the texts."""
    if encoder is None or isinstance(encoder, CachedEncoder):
        return encoder
    trains_its_own = kind in PREDICTORS and PREDICTORS[kind].slow
    return encoder if trains_its_own else CachedEncoder(encoder, table.prompts)


def _held_out_choices(
    table: ScoreTable, candidate: Candidate, encoder: Encoder | None, seed: int, folds: int
) -> Indices:
    """Columns chosen for every prompt by a fit on the other folds, -1 where there is none, (n,)."""
    fold_of = split_folds(table, folds, seed)
    choices = np.full(len(table), MISSING)
    count = 1 if PREDICTORS[candidate.kind].slow else int(fold_of.max(initial=MISSING)) + 1
    for fold in range(count):
        held_out = np.flatnonzero(fold_of == fold)
        rest = table.select(fold_of != fold)
        if len(rest) == 0 or np.isnan(rest.losses).all():
            continue
        choices[held_out] = _choose(rest, table.select(held_out).prompts, candidate, encoder, seed)
    return choices


def _choose(
    train: ScoreTable,
    prompts: Sequence[str],
    candidate: Candidate,
    encoder: Encoder | None,
    seed: int,
) -> Indices:
    """Columns of `train` chosen for some prompts by a predictor fitted on it, shape (n,)."""
    measured = np.flatnonzero(~np.isnan(train.losses).all(axis=0))
    part = train.reorder([train.experts[column] for column in measured.tolist()])
    part = replace(part, targets={})  # no goals are weighed in, so the loss alone decides
    fitted = candidate.fit(part, encoder, seed)
    predicted: Array = expected_losses(fitted.predict(prompts), fitted.average_loss_)
    ranks = np.argsort(np.argsort(np.array(part.experts)))
    return measured[lowest(predicted, ranks)]


def _automatic(table: ScoreTable, encoder: Encoder | None, seed: int, folds: int = FOLDS) -> Fit:
    """Choose a candidate, and compare choosing so with plain kinds on outer folds."""
    chosen, inner = _best_candidate(table, encoder, seed)
    fold_of = split_folds(table, folds, seed)
    choices = {name: np.full(len(table), MISSING) for name in (AUTO, str(CLUSTERS), str(NEAREST))}
    for fold in range(int(fold_of.max(initial=MISSING)) + 1):
        held_out = np.flatnonzero(fold_of == fold)
        rest = table.select(fold_of != fold)
        if np.isnan(rest.losses).all():
            continue
        prompts = table.select(held_out).prompts
        picked, _ = _best_candidate(rest, encoder, seed)
        for name, candidate in ((str(CLUSTERS), CLUSTERS), (str(NEAREST), NEAREST)):
            choices[name][held_out] = _choose(rest, prompts, candidate, encoder, seed)
        choices[AUTO][held_out] = (
            choices[str(picked)][held_out]
            if str(picked) in choices
            else _choose(rest, prompts, picked, encoder, seed)
        )
    rows = {name: row_of(table, found, seed=seed) for name, found in choices.items()}
    outer = {name: row["regret"] for name, row in rows.items()}
    known = {name: regret for name, regret in outer.items() if regret is not None}
    # `auto` stands first, so it keeps a draw.
    best = min(known, key=known.__getitem__) if known else AUTO
    if best != AUTO:
        chosen = CLUSTERS if best == str(CLUSTERS) else NEAREST
    choice = {"chosen": str(chosen), "inner_regret": inner, "outer_regret": outer}
    return Fit(chosen.fit(table, encoder, seed), rows[best], choice)


def _best_candidate(
    table: ScoreTable, encoder: Encoder | None, seed: int
) -> tuple[Candidate, dict[str, float | None]]:
    """Return the candidate with the least regret on held-out prompts, and everybody's regret."""
    cells, rows = measured_cells(table, None)
    candidates = _candidates(table)
    regrets = []
    for candidate in candidates:
        choices = _held_out_choices(table, candidate, encoder, seed, INNER_FOLDS)
        regrets.append(outcomes(cells, choices[rows]).regret)
    means = [plain(macro_mean(regret, cells)) for regret in regrets]
    told = {str(candidate): mean for candidate, mean in zip(candidates, means, strict=True)}
    best = min(range(len(means)), key=lambda number: (means[number] is None, means[number] or 0.0))
    gain, error = _mean_and_error(regrets[0] - regrets[best], cells)
    return candidates[best if gain > error else 0], told


def _candidates(table: ScoreTable) -> tuple[Candidate, ...]:
    patterns = np.unique(np.isnan(table.losses), axis=1).shape[1]
    large = len(table) >= _BENT_PROMPTS and patterns <= _BENT_PATTERNS
    return (*CANDIDATES, BENT) if large else CANDIDATES


def _mean_and_error(values: Array, cells: Measured) -> tuple[float, float]:
    """Return the mean over groups of the group's mean, and its standard error; NaN counts as 0."""
    known = np.nan_to_num(values)
    parts = [known[cells.groups == group] for group in range(len(cells.names))]
    mean = float(np.mean([part.mean() for part in parts]))
    return mean, float(np.sqrt(np.sum([part.var() / len(part) for part in parts]))) / len(parts)
