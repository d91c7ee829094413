"""Changes to a fitted router: new experts, feedback on answers, and refits on newer results."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tryage.decision import Decision
from tryage.encoders import Encoder
from tryage.errors import FeedbackError, PredictorError, ScoreTableError
from tryage.experts import Expert
from tryage.library import Library
from tryage.plans import JointSuccess
from tryage.predictors import PREDICTORS, Predictor
from tryage.scores import ScoreTable
from tryage.scores.feedback import FeedbackFile

if TYPE_CHECKING:
    from tryage.router import Router


def add_expert(router: Router, expert: Expert, probes: ScoreTable) -> Router:
    """Return a router with one more expert; see `Router.add_expert`."""
    library = Library(
        (*router.library.experts, expert), name=router.library.name, root=router.library.root
    )
    predictor = router.predictors.get(expert.task)
    if predictor is None:
        raise PredictorError(
            f"expert {expert.name!r} is of task {expert.task!r}, but the router was fitted on "
            f"{', '.join(router.predictors)}; fit one for that task"
        )
    known_names = [name for name in probes.experts if name in predictor.experts_]
    columns = probes.reorder([expert.name, *known_names])
    columns = columns.select(~np.isnan(columns.losses[:, 0]))
    grown = predictor.with_expert(columns.prompts, columns)
    return _with_library(router, library, {**router.predictors, expert.task: grown})


def without(router: Router, *names: str) -> Router:
    """Return a router without some experts; see `Router.without`."""
    for name in names:
        router.library.index(name)
    remaining = [expert for expert in router.library if expert.name not in names]
    library = Library(remaining, name=router.library.name, root=router.library.root)
    predictors = dict(router.predictors)
    for name in names:
        task = router.library[name].task
        predictor = predictors.get(task)
        if predictor is not None and len(predictor.experts_) > 1:
            predictors[task] = predictor.without_expert(name)
        else:
            predictors.pop(task, None)
    return _with_library(router, library, predictors)


def _with_library(router: Router, library: Library, predictors: Mapping[str, Predictor]) -> Router:
    """Return a router over another library, on the same scales."""
    reasons = {n: why for n, why in router.objective.unavailable.items() if n in library}
    return router.replace(
        library=library,
        predictors=predictors,
        objective=replace(router.objective, library=library, unavailable=reasons),
        provenance=router.provenance | {"experts_since": list(library.names)},
        joint={task: _for(library, router.library, old) for task, old in router.joint.items()},
    )


def _for(library: Library, old: Library, joint: JointSuccess) -> JointSuccess:
    """Return how the experts of another library fail together; a new one as the others do."""
    usual = float(np.mean(joint.shared))
    shares = [joint.shared[old.index(name)] if name in old else usual for name in library.names]
    return JointSuccess(np.array(shares, dtype=np.float64))


def with_feedback(router: Router, path: str | Path, store_prompts: bool) -> Router:
    """Return a router that keeps scores of answers; see `Router.with_feedback`."""
    if not store_prompts:
        raise FeedbackError(
            f"feedback keeps the texts of prompts in {str(path)!r}, since a router is fitted on "
            "them; allow it with store_prompts=True"
        )
    if router.provenance.get("kind") == "losses":
        raise FeedbackError(
            "the router was fitted on a table of losses, and feedback gives scores in [0, 1]; the "
            "two cannot stand in one table. Fit a router on scores for it"
        )
    return router.replace(feedback_file=FeedbackFile(path))


def keep_feedback(
    router: Router, decision: Decision | Mapping[str, Any], score: float, prompt: str | None
) -> None:
    """Keep how good an answer was; see `Router.feedback`."""
    if router.feedback_file is None:
        raise FeedbackError(
            "feedback is off; router.with_feedback(PATH, store_prompts=True) returns a router "
            "that keeps it"
        )
    record = decision if isinstance(decision, Mapping) else decision.to_dict(top=0)
    text = prompt or (decision.prompt if isinstance(decision, Decision) else None)
    if text is None:
        raise FeedbackError("metadata hold no prompt; say with prompt= what was answered")
    expert = record.get("answered_by") or record.get("expert")
    if not isinstance(expert, str) or expert not in router.library:
        raise FeedbackError(f"library {router.library.name!r} has no expert {expert!r}")
    router.feedback_file.append(text, router.library[expert].task, expert, score)


def refit(
    router: Router,
    tables: Sequence[ScoreTable],
    library: Library | None,
    predictor: str | None,
    encoder: str | Encoder | None,
    seed: int | None,
) -> Router:
    """Return a router refitted on old and newer results; see `Router.refit`."""
    if not tables:
        raise ScoreTableError("there is no table to fit on; give the old one and newer ones")
    kind = predictor or str(router.provenance.get("predictor", "auto"))
    fitted = type(router).fit(
        functools.reduce(lambda old, newer: old.join(newer), tables),
        library=library or router.library,
        predictor=kind,
        encoder=encoder or _encoder_for(router, kind),
        seed=int(router.provenance.get("seed", 0)) if seed is None else seed,
        policy=router.policy,
    )
    return fitted.replace(feedback_file=router.feedback_file)


def _encoder_for(router: Router, kind: str) -> str | Encoder:
    """Return the encoder to refit a kind of predictor with."""
    encoders = [p.encoder for p in router.predictors.values() if p.encoder is not None]
    trains_its_own = kind in PREDICTORS and PREDICTORS[kind].slow
    if encoders and not trains_its_own:
        return encoders[0]
    return str(router.provenance.get("encoder", "static"))
