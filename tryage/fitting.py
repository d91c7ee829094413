"""The parts of a router that is fitted on measured results."""

from __future__ import annotations

from typing import Any

from tryage import training
from tryage.encoders import Encoder, resolve_encoder
from tryage.plans.fitting import fit_joint
from tryage.progress import Progress
from tryage.scores import ScoreTable
from tryage.similar import TrainingPrompts
from tryage.sources import LibrarySource, TableSource, as_library
from tryage.steps import shown_steps


def fit_parts(
    source: TableSource,
    experts: LibrarySource,
    predictor: str,
    encoder: str | Encoder,
    seed: int,
    *,
    holdout: float | None,
    keep_prompts: bool,
    keep_words: bool,
    choose_on: int | None,
    progress: Progress | bool | None,
) -> dict[str, Any]:
    """Return the parts of a fitted router by name; arguments and errors as `Router.fit`."""
    training.check_kind(predictor)  # an unknown kind fails before the encoder loads
    if choose_on is None:
        choose_on = training.CHOOSE_ON
    training.check_choose_on(choose_on)
    table = ScoreTable.of(source)
    library = as_library(experts, table)
    options = training.FitOptions(
        predictor,
        resolve_encoder(encoder),
        seed,
        words=keep_words,
        holdout=holdout,
        choose_on=choose_on,
    )
    with shown_steps(progress, training.COSTS) as steps:
        if table.kind == "scores":
            steps.expect(training.JOINT, size=len(table))
        fitted = training.fit_tasks(table, library, options, steps)
        with steps.step(training.JOINT, "learning how experts fail together", len(table)):
            joint = fit_joint(fitted.table, library, seed)
    prompts = {}
    if keep_prompts:
        parts = fitted.table.by_task(library)
        prompts = {task: TrainingPrompts.of(part) for task, part in parts.items()}
    return {
        "library": library,
        "predictors": fitted.predictors,
        "objective": fitted.objective,
        "provenance": fitted.provenance,
        "joint": joint,
        "training_prompts": prompts,
    }
