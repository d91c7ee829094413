"""Fitting a predictor on a score table, and a router's predictors task by task."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tryage.encoders import Encoder
from tryage.errors import ScoreTableError, TryageWarning
from tryage.evaluation import Row, row_of
from tryage.evaluation.choices import among_best_of
from tryage.evaluation.doubts import doubts
from tryage.evaluation.metrics import Indices, mean_over
from tryage.evaluation.verdict import judge
from tryage.fingerprints import fingerprints
from tryage.kinds import find_kinds
from tryage.library import Library
from tryage.objective import Objective, loss_spread
from tryage.predictors import Predictor
from tryage.scores import ScoreTable
from tryage.scripts import scripts_in
from tryage.steps import Steps
from tryage.ties import lowest, name_ranks
from tryage.tokens import count_tokens
from tryage.training.announced import ENCODING, LAST_FIT, announce
from tryage.training.candidates import AUTO, Candidate, check_kind
from tryage.training.encoded import EncodedTable
from tryage.training.folds import FOLDS, held_out_choices, hold_out
from tryage.training.network_trial import choose_candidate
from tryage.training.prompt_doubts import prompt_doubts
from tryage.training.sample import CHOOSE_ON


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted predictor and its validation on held-out prompts.

    Attributes:
        predictor: fitted on the whole table.
        validation: the row of figures that `tryage evaluate` gives.
        choices: (n,) column chosen for each prompt by a fit on other prompts, -1 where none was,
            as outside the sample that `auto` chooses on.
        choice: what `auto` compared and chose, as JSON types; None for any other kind.
    """

    predictor: Predictor
    validation: Row
    choices: Indices
    choice: dict[str, Any] | None = None


def goal_statistics(table: ScoreTable, library: Library) -> dict[str, Any]:
    """Return the means of a table that fix the scales of goals.

    Args:
        table: prompts × experts.
        library: m experts.

    Returns:
        The keyword arguments `averages` and `prompt_tokens` of `tryage.objective.Objective.fit`.
    """
    averages = {}
    for name, values in table.targets.items():
        wide = np.full(len(library), np.nan)
        wide[[library.index(expert) for expert in table.experts]] = mean_over(values, axis=0)
        averages[name] = wide
    tokens = [count_tokens(prompt) for prompt in table.prompts]
    return {"averages": averages, "prompt_tokens": float(np.mean(tokens))}


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


def fit_encoded(
    encoded: EncodedTable,
    kind: str,
    seed: int,
    steps: Steps | None = None,
    *,
    choose_on: int = CHOOSE_ON,
) -> Fit:
    """Do what `fit_and_validate` does with a table encoded already; `steps` shows progress."""
    steps = steps or Steps()
    if kind == AUTO:
        auto = choose_candidate(encoded, seed, steps=steps, choose_on=choose_on)
        steps.drop(LAST_FIT)
        fitted = _fit_on_all(auto.candidate, encoded, seed, steps)
        return Fit(fitted, auto.validation, auto.choices, auto.record)
    candidate = Candidate(kind)
    choices = held_out_choices(encoded, candidate, seed, FOLDS, steps)
    validation = row_of(encoded.table, choices, seed=seed)
    return Fit(_fit_on_all(candidate, encoded, seed, steps), validation, choices)


def _fit_on_all(candidate: Candidate, encoded: EncodedTable, seed: int, steps: Steps) -> Predictor:
    rows = len(encoded.table)
    with steps.step(str(candidate), f"{candidate}: fit on all {rows:,} prompts", rows):
        return candidate.fit(encoded, seed, steps)


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How a router is fitted.

    Attributes:
        kind: "auto", or one of `tryage.predictors.PREDICTORS`.
        encoder: turns prompts into vectors.
        seed: makes everything reproducible.
        words: store typical words of the kinds of prompts.
        holdout: share of the prompts that the router is not fitted on but judged by; None judges
            by cross-validation.
        choose_on: different prompts that "auto" compares kinds on; of more it draws a sample.
    """

    kind: str
    encoder: Encoder
    seed: int = 0
    words: bool = False
    holdout: float | None = None
    choose_on: int = CHOOSE_ON


@dataclass(frozen=True, slots=True)
class FittedTasks:
    """A router's predictors, the scales of its goals, and where they come from.

    Attributes:
        predictors: task → fitted predictor.
        objective: goals on the scales of the fitted table.
        provenance: as JSON.
        table: the prompts that it was fitted on, without those held out.
    """

    predictors: dict[str, Predictor]
    objective: Objective
    provenance: dict[str, Any]
    table: ScoreTable


def fit_tasks(
    table: ScoreTable, library: Library, options: FitOptions, steps: Steps | None = None
) -> FittedTasks:
    """Fit a router's predictors and objective, task by task; `steps` shows progress.

    Raises:
        ScoreTableError: table and library do not name the same experts, or nothing can be held
            out.
        PredictorError: as `fit_and_validate`.
    """
    check_kind(options.kind)
    seed, steps = options.seed, steps or Steps()
    held = frozenset() if options.holdout is None else hold_out(table, options.holdout, seed)
    fits, kinds, verdicts = {}, {}, {}
    parts = table.by_task(library)
    for whole in parts.values():
        announce(whole, options.kind, options.encoder, steps, options.choose_on)
    for task, whole in parts.items():
        with steps.step(ENCODING, f"encoding {len(whole):,} prompts", len(whole)):
            encoded = EncodedTable.encode(whole, options.kind, options.encoder)
        encoder = None if encoded.vectors is None else options.encoder
        for doubt in [*doubts(whole), *prompt_doubts(whole.prompts, encoder)]:
            warnings.warn(f"{task}: {doubt}", TryageWarning, stacklevel=4)
        out = np.array([prompt in held for prompt in whole.prompts])
        train = encoded.select(~out)
        _check_measured(train.table)
        fit = fit_encoded(train, options.kind, seed, steps, choose_on=options.choose_on)
        if options.holdout is None:
            sample = (fit.choice or {}).get("sample")
            verdict = judge(
                whole,
                fit.choices,
                held_out="cross-validated",
                seed=seed,
                sampled_from=None if sample is None else sample["of"],
            )
        else:
            test = encoded.select(out)
            columns = _choose(fit.predictor, test)
            verdict = judge(test.table, columns, held_out="holdout", whole=whole, seed=seed)
        fits[task], verdicts[task] = (train.table, fit), verdict.to_dict()
        if train.vectors is not None:
            prompt_kinds = find_kinds(train.table, train.vectors, seed=seed, words=options.words)
            kinds[task] = [one.to_dict() for one in prompt_kinds]
    fitted = table.select(np.array([prompt not in held for prompt in table.prompts]))
    provenance = {
        "predictor": options.kind,
        "encoder": options.encoder.name,
        "scripts": list(scripts_in(fitted.prompts)),
        "seed": seed,
        "fitted_on": datetime.now(UTC).date().isoformat(),
        "prompts": len(fitted),
        "cells": int(np.isfinite(fitted.losses).sum()),
        "kind": table.kind,
        "data_sha256": table.hash,
        "fingerprints": fingerprints(fitted.prompts),
        "validation": {task: fit.validation for task, (_, fit) in fits.items()},
        "verdicts": verdicts,
        "among_best": {task: among_best_of(part) for task, (part, _) in fits.items()},
        "kinds": kinds,
    }
    if options.holdout is not None:
        provenance["holdout"] = options.holdout
    choices = {task: fit.choice for task, (_, fit) in fits.items() if fit.choice is not None}
    if choices:
        provenance["choice"] = choices
        provenance["choose_on"] = options.choose_on
    spreads = {task: loss_spread(part.losses) for task, (part, _) in fits.items()}
    objective = Objective.fit(library, spreads, **goal_statistics(fitted, library))
    predictors = {task: fit.predictor for task, (_, fit) in fits.items()}
    return FittedTasks(predictors, objective, provenance, fitted)


def _choose(predictor: Predictor, test: EncodedTable) -> Indices:
    """Return the columns that a fitted predictor chooses for prompts, (n,); no goals weigh in."""
    names = test.table.experts
    losses = test.losses(predictor)
    columns = [predictor.experts_.index(name) for name in names]
    return lowest(losses[:, columns], name_ranks(names))


def _check_measured(table: ScoreTable) -> None:
    """Refuse a table from which a holdout took all results of an expert."""
    columns = np.flatnonzero(np.isnan(table.losses).all(axis=0)).tolist()
    empty = [table.experts[column] for column in columns]
    if empty:
        raise ScoreTableError(
            f"the holdout leaves no result of {', '.join(map(repr, empty))} to fit on; hold out "
            "fewer prompts, or measure more"
        )
