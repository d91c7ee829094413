"""Cross-validation of a kind of predictor, or of `auto`'s choice among kinds."""

from __future__ import annotations

from tryage.encoders import Encoder
from tryage.evaluation import Row, row_of
from tryage.scores import ScoreTable
from tryage.training.candidates import AUTO, Candidate, check_kind
from tryage.training.encoded import EncodedTable
from tryage.training.folds import FOLDS, held_out_choices
from tryage.training.network_trial import choose_candidate


def validate(
    table: ScoreTable, kind: str, encoder: Encoder | None, seed: int, folds: int = FOLDS
) -> Row:
    """Cross-validate a kind of predictor: choose for each fold by a fit on the others.

    Each prompt is encoded once. Equal prompts fall into the same fold, so no prompt is chosen for
    by a fit that has seen it. An expert that only the held-out fold measures is not chosen there.
    A slow kind is validated on the first fold alone; `measured` then shows that.

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
    return validate_encoded(EncodedTable.encode(table, kind, encoder), kind, seed, folds)


def validate_encoded(encoded: EncodedTable, kind: str, seed: int, folds: int = FOLDS) -> Row:
    """Do what `validate` does with a table encoded already."""
    if kind == AUTO:
        return choose_candidate(encoded, seed, folds).validation
    choices = held_out_choices(encoded, Candidate(kind), seed, folds)
    return row_of(encoded.table, choices, seed=seed)
