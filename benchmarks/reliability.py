"""How far predicted losses and their intervals can be relied on; `routing.py` asks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage import ScoreTable
from tryage.encoders import Encoder
from tryage.evaluation.metrics import macro_mean, mean_over, measured_cells
from tryage.evaluation.reliability import calibration_error
from tryage.predictors import ClustersPredictor, Prediction

Floats = NDArray[Any]

SPLITS = 10
NORMAL = 1.6449
"""Standard errors on either side of a 90 % interval."""
FEWEST = 20
"""Prompts of a cluster whose measured mean is compared with the predicted one."""


def group_means(train: ScoreTable, test: ScoreTable) -> Floats:
    """Return for each test prompt the mean losses of its group in training, (n, m)."""
    groups = np.array(train.groups)
    means = {name: train.losses[groups == name].mean(axis=0) for name in set(groups.tolist())}
    return np.stack([means[group] for group in test.groups])


def figures(test: ScoreTable, predicted: Floats) -> dict[str, float]:
    """Return squared errors and calibration errors of predicted losses, (n, m).

    The Brier score is the squared error of a loss taken as the chance of a wrong answer; scores of
    several samples are shares of right ones.
    """
    cells, _ = measured_cells(test, None)
    squares = mean_over(np.square(predicted - test.losses))
    by_group = [
        calibration_error(predicted[rows], test.losses[rows])
        for group in range(len(cells.names))
        if (rows := cells.groups == group).any()
    ]
    return {
        "brier": macro_mean(squares, cells),
        "calibration_error_pooled": calibration_error(predicted, test.losses),
        "calibration_error_by_group": float(np.mean(by_group)),
    }


def coverage(predictor: ClustersPredictor, vectors: Floats, losses: Floats) -> tuple[int, int]:
    """Return how many 90 % intervals of cell means hold what was measured, and of how many.

    A cell is a cluster of the first clustering under one expert.
    """
    prediction = predictor.predict_vectors(vectors)
    centres = predictor.centres_[: predictor.sizes_[0]]
    return cell_coverage(prediction, (vectors @ centres.T).argmax(axis=1), losses)


def cell_coverage(prediction: Prediction, assigned: Floats, losses: Floats) -> tuple[int, int]:
    """Return how many 90 % intervals of cell means hold what was measured, and of how many.

    A cell is a cluster of held-out prompts, `assigned` (n,), under one expert. Its interval joins
    what the predictor does not know of the mean with what the measured mean leaves open.
    """
    inside = total = 0
    for cluster in range(int(assigned.max()) + 1):
        rows = assigned == cluster
        counts = (~np.isnan(losses[rows])).sum(axis=0)
        enough = counts >= FEWEST
        if not enough.any():
            continue
        own = losses[rows][:, enough]
        error = np.sqrt(
            np.square(prediction.std["loss"][rows][:, enough].mean(axis=0))
            + np.nanvar(own, axis=0, ddof=1) / counts[enough]
        )
        expected = np.where(np.isnan(own), np.nan, prediction.mean["loss"][rows][:, enough])
        gap = np.abs(np.nanmean(own, axis=0) - np.nanmean(expected, axis=0))
        inside += int((gap <= NORMAL * error).sum())
        total += own.shape[1]
    return inside, total


def intervals(train: ScoreTable, test: ScoreTable, encoder: Encoder) -> dict[str, Any]:
    """Return the coverage on random halves of the training prompts, and on the test prompts."""
    vectors = encoder.encode(train.prompts)
    counts = []
    for seed in range(SPLITS):
        half = np.random.default_rng([seed, 11]).permutation(len(train)) % 2 == 0
        fitted = ClustersPredictor(encoder, seed=seed).fit_vectors(
            vectors[half], train.select(half)
        )
        counts.append(coverage(fitted, vectors[~half], train.losses[~half]))
    whole = ClustersPredictor(encoder).fit_vectors(vectors, train)
    shifted = coverage(whole, encoder.encode(test.prompts), test.losses)
    inside, total = np.sum(counts, axis=0)
    return {
        "exchangeable": float(inside / total),
        "shifted": shifted[0] / shifted[1],
        "cells": int(total),
        "splits": SPLITS,
    }
