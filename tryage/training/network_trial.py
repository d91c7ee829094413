"""Whether `auto` takes a trained network, `embedding-bag`, in place of a quick kind.

A network takes too long to train on every fold of the nested cross-validation. So one is trained
on all folds but the first, and its choices on the first are compared, prompt by prompt, with those
of the quick kinds' procedure. Where it is better by more than two standard errors, a second one is
trained without the second fold, whose prompts judge it: they had no part in the choice.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import numpy as np

from tryage.encoders import Encoder, StaticEncoder
from tryage.evaluation import row_of
from tryage.evaluation.evaluate import plain
from tryage.evaluation.metrics import Indices, macro_mean, measured_cells, outcomes
from tryage.steps import Steps
from tryage.training.auto import AutoChoice, choose_quick_candidate, mean_and_error
from tryage.training.candidates import EMBEDDING_BAG, Candidate, candidates_for
from tryage.training.encoded import EncodedTable
from tryage.training.folds import FOLDS, MISSING, choose, count_folds, split_folds
from tryage.training.sample import CHOOSE_ON, draw_sample

FEWEST_PROMPTS = 2000
"""Prompts of a table on which a network is tried."""

CLEARLY = 2.0
"""Standard errors that a network must be better by. One was too few on open7's training prompts: on
the first fold a network gained 1.2, and on the next two it lost 1.9 and 2.4."""

NO_TORCH = 'torch is not installed; pip install "tryage[hf]"'


def why_not_tried(
    prompts: int, encoder: Encoder | None, where: str = "the table has"
) -> str | None:
    """Return why no network is tried on so many prompts, or None where one is."""
    if prompts < FEWEST_PROMPTS:
        return f"{where} {prompts:,} prompts, fewer than {FEWEST_PROMPTS:,}"
    if not isinstance(encoder, StaticEncoder):
        return "it starts from a static encoder, and the router has another one"
    return NO_TORCH if importlib.util.find_spec("torch") is None else None


def choose_candidate(
    encoded: EncodedTable,
    seed: int,
    folds: int = FOLDS,
    steps: Steps | None = None,
    *,
    choose_on: int = CHOOSE_ON,
) -> AutoChoice:
    """Choose among all candidates, on a sample of a large table.

    Args:
        encoded: one task's table.
        seed: makes sample, folds and fits reproducible.
        folds: outer folds; fewer where the table holds fewer different prompts.
        steps: shows progress.
        choose_on: different prompts that are compared on; of more, `draw_sample` draws so many.
            The choices of all other prompts are then -1.
    """
    steps = steps or Steps()
    table = encoded.table
    rows = draw_sample(table, choose_on, seed)
    if rows is None:
        return _choose(encoded, seed, folds, steps, None)
    sample = encoded.select(rows)
    # What takes too long on the whole table is no candidate.
    auto = _choose(sample, seed, folds, steps, candidates_for(table))
    choices = np.full(len(table), MISSING)
    choices[rows] = auto.choices
    counts = {"prompts": len(set(sample.table.prompts)), "of": len(set(table.prompts))}
    return replace(auto, choices=choices, record={**auto.record, "sample": counts})


def _choose(
    encoded: EncodedTable,
    seed: int,
    folds: int,
    steps: Steps,
    allowed: tuple[Candidate, ...] | None,
) -> AutoChoice:
    """Choose among the quick candidates, and take a network where one is better.

    Args:
        encoded: one task's table.
        seed: makes folds and fits reproducible.
        folds: outer folds; fewer where the table holds fewer different prompts.
        steps: shows progress.
        allowed: the quick candidates that may be chosen; None allows all.
    """
    quick = choose_quick_candidate(encoded, seed, folds, steps, allowed)
    where = "the table has" if allowed is None else "the sample has"
    reason = why_not_tried(len(encoded.table), encoded.encoder, where)
    if reason is not None:
        return _recorded(quick, {"tried": False, "reason": reason})
    fold_of = split_folds(encoded.table, folds, seed)
    if count_folds(fold_of) < 2:
        return _recorded(quick, {"tried": False, "reason": "too few different prompts"})
    first = _held_out(encoded, fold_of, 0, seed, steps)
    # On the table without the other prompts, so that every group weighs as in the fold.
    rows = np.flatnonzero(fold_of == 0)
    cells, measured = measured_cells(encoded.table.select(rows), None)
    ours = outcomes(cells, first[rows][measured]).regret
    theirs = outcomes(cells, quick.choices[rows][measured]).regret
    gain, error = mean_and_error(theirs - ours, cells)
    trial = {
        "tried": True,
        "regret": plain(macro_mean(ours, cells)),
        "quick_regret": plain(macro_mean(theirs, cells)),
    }
    if not gain > CLEARLY * error:
        return _recorded(quick, trial)
    second = _held_out(encoded, fold_of, 1, seed, steps)
    validation = row_of(encoded.table, second, seed=seed)
    record = {**quick.record, "chosen": str(EMBEDDING_BAG), EMBEDDING_BAG.kind: trial}
    return AutoChoice(EMBEDDING_BAG, validation, record, second)


def _held_out(
    encoded: EncodedTable, fold_of: Indices, fold: int, seed: int, steps: Steps
) -> Indices:
    """Return the network's choices for one fold by a fit on the others; -1 for all others, (n,)."""
    choices = np.full(len(encoded.table), MISSING)
    held_out = np.flatnonzero(fold_of == fold)
    train = encoded.select(fold_of != fold)
    name = f"{EMBEDDING_BAG}: fold {fold + 1} of {count_folds(fold_of)}"
    with steps.step(str(EMBEDDING_BAG), name, len(train.table)):
        choices[held_out] = choose(train, encoded.select(held_out), EMBEDDING_BAG, seed, steps)
    return choices


def _recorded(quick: AutoChoice, trial: dict[str, Any]) -> AutoChoice:
    return replace(quick, record={**quick.record, EMBEDDING_BAG.kind: trial})
