"""Fitting a predictor on a score table, and a router's predictors task by task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tryage.encoders import Encoder
from tryage.evaluation import Row
from tryage.evaluation.choices import among_best_of
from tryage.evaluation.metrics import mean_over
from tryage.kinds import find_kinds
from tryage.library import Library
from tryage.objective import Objective, loss_spread
from tryage.predictors import Predictor
from tryage.scores import ScoreTable
from tryage.training.candidates import AUTO, Candidate, check_kind
from tryage.training.encoded import EncodedTable
from tryage.training.validation import choose_candidate, validate_encoded


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted predictor and its validation on held-out prompts.

    Attributes:
        predictor: fitted on the whole table.
        validation: the row of figures that `tryage evaluate` gives.
        choice: what `auto` compared and chose, as JSON types; None for any other kind.
    """

    predictor: Predictor
    validation: Row
    choice: dict[str, Any] | None = None


def goal_statistics(table: ScoreTable, library: Library) -> dict[str, Any]:
    """Return the means of a table that fix the scales of goals.

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
    return Candidate(kind).fit(EncodedTable(table, encoder), seed)


def fit_and_validate(table: ScoreTable, kind: str, encoder: Encoder | None, seed: int) -> Fit:
    """Fit and validate a predictor, encoding each prompt once for both.

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
    return fit_encoded(EncodedTable.encode(table, kind, encoder), kind, seed)


def fit_encoded(encoded: EncodedTable, kind: str, seed: int) -> Fit:
    """Do what `fit_and_validate` does with a table encoded already."""
    if kind == AUTO:
        candidate, validation, choice = choose_candidate(encoded, seed)
        return Fit(candidate.fit(encoded, seed), validation, choice)
    predictor = Candidate(kind).fit(encoded, seed)
    return Fit(predictor, validate_encoded(encoded, kind, seed))


def fit_tasks(
    table: ScoreTable,
    library: Library,
    kind: str,
    encoder: Encoder,
    seed: int,
    *,
    words: bool = False,
) -> tuple[dict[str, Predictor], Objective, dict[str, Any]]:
    """Fit a router's predictors and objective, task by task.

    Args:
        table: measured losses of the library's experts.
        library: the experts.
        kind: as in `fit_and_validate`.
        encoder: as in `fit_and_validate`.
        seed: as in `fit_and_validate`.
        words: store typical words of the kinds of prompts.

    Returns:
        Task → fitted predictor, the objective on its scales, and the fit's provenance, as JSON.

    Raises:
        ScoreTableError: table and library do not name the same experts.
        PredictorError: as `fit_and_validate`.
    """
    check_kind(kind)
    fits, kinds = {}, {}
    for task, part in table.by_task(library).items():
        encoded = EncodedTable.encode(part, kind, encoder)
        fits[task] = (part, fit_encoded(encoded, kind, seed))
        if encoded.vectors is not None:
            kinds[task] = [
                one.to_dict() for one in find_kinds(part, encoded.vectors, seed=seed, words=words)
            ]
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
        "kinds": kinds,
    }
    choices = {task: fit.choice for task, (_, fit) in fits.items() if fit.choice is not None}
    if choices:
        provenance["choice"] = choices
    spreads = {task: loss_spread(part.losses) for task, (part, _) in fits.items()}
    objective = Objective.fit(library, spreads, **goal_statistics(table, library))
    return {task: fit.predictor for task, (_, fit) in fits.items()}, objective, provenance
