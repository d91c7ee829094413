"""The nested cross-validation by which `auto` chooses among the quick kinds of predictor.

`auto` chooses a candidate on inner folds, by the regret of its choices. The same procedure, run
without the outer folds' prompts, is compared on them with plain `clusters` and `nearest`, and gives
way to the better of these if it loses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tryage.evaluation import Row, row_of
from tryage.evaluation.evaluate import plain
from tryage.evaluation.metrics import (
    Array,
    Indices,
    Measured,
    macro_mean,
    measured_cells,
    outcomes,
)
from tryage.scores import ScoreTable
from tryage.steps import Steps
from tryage.training.candidates import (
    AUTO,
    CLUSTERS,
    NEAREST,
    Candidate,
    candidates_for,
)
from tryage.training.encoded import EncodedTable
from tryage.training.folds import (
    FOLDS,
    INNER_FOLDS,
    MISSING,
    choose,
    count_folds,
    held_out_choices,
    split_folds,
)

BEST_OF_FOLD = "best of the fold"
"""Kind of the announced step that fits what did best on the inner folds of an outer one."""


@dataclass(frozen=True, slots=True, eq=False)
class AutoChoice:
    """What `auto` chose.

    Attributes:
        candidate: to be fitted on the whole table.
        validation: the cross-validated row of the kind that did best on the outer folds.
        record: what was compared and chosen, as JSON types.
        choices: (n,) held-out choices of the whole procedure: also what does best on the outer
            folds is chosen without the prompt's own fold.
    """

    candidate: Candidate
    validation: Row
    record: dict[str, Any]
    choices: Indices


def choose_quick_candidate(
    encoded: EncodedTable,
    seed: int,
    folds: int = FOLDS,
    steps: Steps | None = None,
    allowed: tuple[Candidate, ...] | None = None,
) -> AutoChoice:
    """Choose among the quick candidates, and compare this with plain kinds on outer folds.

    Where some candidates are `allowed`, no other is tried.
    """
    steps = steps or Steps()
    chosen, inner = best_candidate(encoded, seed, steps, "", allowed)
    choices = _outer_choices(encoded, seed, folds, steps, allowed)
    rows = {name: row_of(encoded.table, row, seed=seed) for name, row in choices.items()}
    outer = {name: row["regret"] for name, row in rows.items()}
    regrets = {name: regret for name, regret in outer.items() if regret is not None}
    # `auto` comes first, so it wins a tie.
    best = min(regrets, key=regrets.__getitem__) if regrets else AUTO
    if best != AUTO:
        chosen = CLUSTERS if best == str(CLUSTERS) else NEAREST
    choice = {"chosen": str(chosen), "inner_regret": inner, "outer_regret": outer}
    nested = _nested_choices(encoded.table, choices, split_folds(encoded.table, folds, seed))
    return AutoChoice(chosen, rows[best], choice, nested)


def _nested_choices(table: ScoreTable, choices: dict[str, Indices], fold_of: Indices) -> Indices:
    """Return for each fold the choices of the kind that does best on the other folds, (n,)."""
    nested = np.full(len(table), MISSING)
    for fold in range(count_folds(fold_of)):
        rows = np.flatnonzero((fold_of != fold) & ~np.isnan(table.losses).all(axis=1))
        others = table.select(rows)
        regrets = {
            name: row_of(others, columns[rows], resamples=0)["regret"]
            for name, columns in choices.items()
            if len(rows)
        }
        measured = {name: regret for name, regret in regrets.items() if regret is not None}
        best = min(measured, key=measured.__getitem__) if measured else AUTO
        nested[fold_of == fold] = choices[best][fold_of == fold]
    return nested


def _outer_choices(
    encoded: EncodedTable,
    seed: int,
    folds: int,
    steps: Steps,
    allowed: tuple[Candidate, ...] | None,
) -> dict[str, Indices]:
    """Return the held-out choices, (n,) columns, of `auto` and of the plain kinds."""
    fold_of = split_folds(encoded.table, folds, seed)
    plain_kinds = {str(candidate): candidate for candidate in (CLUSTERS, NEAREST)}
    choices = {name: np.full(len(encoded.table), MISSING) for name in (AUTO, *plain_kinds)}
    count = count_folds(fold_of)
    for fold in range(count):
        held_out = np.flatnonzero(fold_of == fold)
        train, test = encoded.select(fold_of != fold), encoded.select(held_out)
        if np.isnan(train.table.losses).all():
            continue
        where = f"outer fold {fold + 1} of {count}"
        best, _ = best_candidate(train, seed, steps, f"{where}, inner ", allowed)
        steps.drop(BEST_OF_FOLD)
        candidates = plain_kinds | {str(best): best}
        if str(best) not in plain_kinds:
            steps.expect(str(best), size=len(train.table))
        for name, candidate in candidates.items():
            with steps.step(name, f"{name}: {where}", len(train.table)):
                columns = choose(train, test, candidate, seed, steps)
            if name in plain_kinds:
                choices[name][held_out] = columns
            if name == str(best):
                choices[AUTO][held_out] = columns
    return choices


def best_candidate(
    encoded: EncodedTable,
    seed: int,
    steps: Steps,
    where: str = "",
    allowed: tuple[Candidate, ...] | None = None,
) -> tuple[Candidate, dict[str, float | None]]:
    """Return the candidate with the least regret on held-out prompts, and the regret of each."""
    cells, rows = measured_cells(encoded.table, None)
    candidates = tuple(
        candidate
        for candidate in candidates_for(encoded.table)
        if allowed is None or candidate in allowed
    )
    regrets = []
    for candidate in candidates:
        choices = held_out_choices(
            encoded, candidate, seed, INNER_FOLDS, steps, where, among_measured=True
        )
        regrets.append(outcomes(cells, choices[rows]).regret)
    means = [plain(macro_mean(regret, cells)) for regret in regrets]
    by_name = {str(candidate): mean for candidate, mean in zip(candidates, means, strict=True)}
    best = min(range(len(means)), key=lambda number: (means[number] is None, means[number] or 0.0))
    gain, error = mean_and_error(regrets[0] - regrets[best], cells)
    return candidates[best if gain > error else 0], by_name


def mean_and_error(values: Array, cells: Measured) -> tuple[float, float]:
    """Return the macro average over groups and its standard error; NaN counts as 0."""
    filled = np.nan_to_num(values)
    parts = [filled[cells.groups == group] for group in range(len(cells.names))]
    mean = float(np.mean([part.mean() for part in parts]))
    return mean, float(np.sqrt(np.sum([part.var() / len(part) for part in parts]))) / len(parts)
