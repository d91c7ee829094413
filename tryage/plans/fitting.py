"""Learn from a score table how experts fail together."""

from __future__ import annotations

import numpy as np

from tryage.encoders import StaticEncoder
from tryage.library import Library
from tryage.plans.joint import JointSuccess
from tryage.predictors import ClustersPredictor
from tryage.scores import ScoreTable

_FOLDS = 3
_FEWEST = 30
"""Different prompts that are needed; with fewer the model stays cautious."""


def fit_joint(table: ScoreTable, library: Library, seed: int) -> dict[str, JointSuccess]:
    """Return how experts fail together: task → shares over the library's experts.

    The chances that the shares are learned beside come from `clusters` on the bundled encoder,
    fitted on other prompts, whatever predictor the router uses: in-sample predictions would hide
    what is to be learned. Empty for a table of losses, where no answer is right or wrong.

    Args:
        table: measured scores.
        library: m experts.
        seed: of folds and fits.
    """
    if table.kind != "scores":
        return {}
    learned = {}
    for task, part in table.by_task(library).items():
        joint = _fit_task(part, seed)
        if joint is None:
            continue
        shared = np.full(len(library), float(joint.shared.mean()))
        shared[[library.index(name) for name in part.experts]] = joint.shared
        learned[task] = JointSuccess(shared)
    return learned


def _fit_task(table: ScoreTable, seed: int) -> JointSuccess | None:
    distinct = {prompt: number for number, prompt in enumerate(dict.fromkeys(table.prompts))}
    if len(distinct) < _FEWEST or len(table.experts) < 2:
        return None
    order = np.random.default_rng([seed, 7]).permutation(len(distinct)) % _FOLDS
    fold = np.array([order[distinct[prompt]] for prompt in table.prompts])
    chances = np.full(table.losses.shape, np.nan)
    vectors = StaticEncoder.bundled().encode(list(distinct))
    vectors = vectors[[distinct[prompt] for prompt in table.prompts]]
    for number in range(_FOLDS):
        train, held_out = table.select(fold != number), fold == number
        if np.isnan(train.losses).all(axis=0).any():
            continue  # an expert that only this fold measures
        predictor = ClustersPredictor(StaticEncoder.bundled(), seed=seed)
        predictor.fit_vectors(vectors[~held_out], train)
        chances[held_out] = 1.0 - predictor.predict_vectors(vectors[held_out]).mean["loss"]
    predicted = ~np.isnan(chances).any(axis=1)
    if not predicted.any():
        return None
    scores = 1.0 - table.losses[predicted]
    return JointSuccess.fit(np.clip(chances[predicted], 0.0, 1.0), scores)
