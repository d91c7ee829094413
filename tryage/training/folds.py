"""Folds of a score table, and choices made on held-out folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tryage.errors import ScoreTableError
from tryage.evaluation.metrics import Indices
from tryage.scores import ScoreTable
from tryage.steps import Steps
from tryage.ties import lowest, name_ranks
from tryage.training.candidates import Candidate
from tryage.training.encoded import EncodedTable

MISSING = -1
"""The fold or the choice of a prompt that has none."""

FOLDS = 5
INNER_FOLDS = 3


def split_folds(table: ScoreTable, folds: int, seed: int) -> Indices:
    """Assign prompts to folds: every group evenly, equal prompts to the same fold.

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
    # Round-robin over the prompts sorted by group, so that each fold gets its share of every group.
    order = order[np.argsort(np.array(names)[order], kind="stable")]
    fold_of = dict(zip(rows[order].tolist(), (np.arange(len(rows)) % count).tolist(), strict=True))
    return np.array([fold_of[first[prompt]] for prompt in table.prompts], dtype=np.intp)


def hold_out(table: ScoreTable, share: float, seed: int) -> frozenset[str]:
    """Draw the texts of prompts to hold out, evenly from every task and group.

    Args:
        table: prompts, and their groups and tasks where it names them.
        share: of the different prompts, above 0 and below 1.
        seed: makes the draw repeatable.

    Raises:
        ScoreTableError: the share is out of range, or leaves no prompt to fit on or to hold out.
    """
    if not 0 < share < 1:
        raise ScoreTableError(f"a holdout of {share:g}; give a share above 0 and below 1")
    strata: dict[str, tuple[str, str]] = {}
    for prompt, task, group in zip(table.prompts, table.tasks, table.groups, strict=True):
        strata.setdefault(prompt, (task or "", group or ""))
    texts = list(strata)
    order = np.random.default_rng([seed, 6]).permutation(len(texts)).tolist()
    order.sort(key=lambda place: strata[texts[place]])
    marks = np.floor(np.arange(1, len(texts) + 1) * share + 1e-9)
    marks = np.diff(marks, prepend=0.0) > 0
    held = frozenset(
        texts[place] for place, mark in zip(order, marks.tolist(), strict=True) if mark
    )
    if not held or len(held) == len(texts):
        raise ScoreTableError(
            f"a holdout of {share:g} of {len(texts)} different prompts leaves nothing to "
            f"{'judge by' if not held else 'fit on'}; measure more prompts"
        )
    return held


def held_out_choices(
    encoded: EncodedTable,
    candidate: Candidate,
    seed: int,
    folds: int,
    steps: Steps | None = None,
    where: str = "",
    among_measured: bool = False,
) -> Indices:
    """Return the column chosen for every prompt by a fit on the other folds, shape (n,).

    It is -1 for prompts without a choice. A slow kind chooses for the first fold alone. Each fold
    is one of the `steps`, named with `where` before it. `among_measured`: as `choose`.
    """
    steps = steps or Steps()
    fold_of = split_folds(encoded.table, folds, seed)
    choices = np.full(len(encoded.table), MISSING)
    count = 1 if candidate.slow else count_folds(fold_of)
    for fold in range(count):
        held_out = np.flatnonzero(fold_of == fold)
        train = encoded.select(fold_of != fold)
        if len(train.table) and not np.isnan(train.table.losses).all():
            name = f"{candidate}: {where}fold {fold + 1} of {count}"
            with steps.step(str(candidate), name, len(train.table)):
                choices[held_out] = choose(
                    train, encoded.select(held_out), candidate, seed, steps, among_measured
                )
    return choices


def count_folds(fold_of: Indices) -> int:
    """Return the number of folds of a split, 0 where nothing can be held out."""
    return int(fold_of.max(initial=MISSING)) + 1


def choose(
    train: EncodedTable,
    test: EncodedTable,
    candidate: Candidate,
    seed: int,
    steps: Steps | None = None,
    among_measured: bool = False,
) -> Indices:
    """Return the columns of `train` chosen for the prompts of `test`, shape (n,).

    With `among_measured` a prompt's choice is one of the experts measured on it, where there are
    any, so that each choice can be judged. Missing results then hide no prompt from a comparison.
    """
    table = train.table
    measured = np.flatnonzero(~np.isnan(table.losses).all(axis=0))
    part = table.reorder([table.experts[column] for column in measured.tolist()])
    part = replace(part, targets={})  # choices weigh no goals, so the loss alone decides
    predictor = candidate.fit(train.with_table(part), seed, steps)
    losses = test.losses(predictor)
    if among_measured:
        missing = np.isnan(test.table.losses[:, measured])
        missing[missing.all(axis=1)] = False
        losses = np.where(missing, np.inf, losses)
    return measured[lowest(losses, name_ranks(part.experts))]
