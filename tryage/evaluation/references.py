"""The choices of the reference rows: baselines to beat, and upper bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tryage.encoders import Encoder, StaticEncoder
from tryage.evaluation.metrics import Array, Indices, Measured, group_means, mean_over
from tryage.predictors import ClustersPredictor, NearestPredictor
from tryage.scores import ScoreTable
from tryage.ties import first_ranked, lowest


def oracle(cells: Measured) -> Indices:
    """The best measured expert of each prompt; ties go to the cheaper, then to the first name."""
    objective = np.where(np.isnan(cells.objective), np.inf, cells.objective)
    # Exactly the lowest, so that the oracle's regret is zero.
    tied = objective == objective.min(axis=1, keepdims=True)
    if cells.costs is not None:
        costs = np.where(tied & ~np.isnan(cells.costs), cells.costs, np.inf)
        tied &= costs <= costs.min(axis=1, keepdims=True)
    return first_ranked(tied, cells.ranks)


def group_best(cells: Measured) -> Indices:
    """For each group the expert with the lowest mean objective on it: needs the group's label."""
    means = _means_by_group(cells)
    present = np.stack(
        [cells.measured[cells.groups == group].any(axis=0) for group in range(len(cells.names))]
    )
    # Nobody can tell that an expert is best on a group of which it answered no prompt.
    return lowest(np.where(present, means, np.nan), cells.ranks)[cells.groups]


def best_single(cells: Measured) -> Indices:
    """The one expert with the lowest macro average of the objective."""
    means = mean_over(_means_by_group(cells), axis=0)
    return np.repeat(lowest(means[None, :], cells.ranks), len(cells.losses))


def _means_by_group(cells: Measured) -> Array:
    """Mean objective of each expert on each group, shape (groups, m), NaN where it has none."""
    objective = cells.estimated_objective
    columns = [group_means(column, cells.groups, len(cells.names)) for column in objective.T]
    return np.stack(columns, axis=1)


def fitted_choices(
    cells: Measured,
    prompts: Sequence[str],
    train: ScoreTable,
    encoder: Encoder | None,
    *,
    seed: int,
) -> dict[str, Indices]:
    """The choices of the rows that learn from the training table.

    `shuffled_labels` is `clusters` fitted on losses permuted among the training prompts, so that
    prompts say nothing about losses.

    Args:
        cells: the measured cells: penalties and order of experts.
        prompts: the n prompts to choose for.
        train: the training table, its columns those of the evaluated table.
        encoder: turns prompts into vectors; None means the bundled static one.
        seed: makes fits and shuffling reproducible.

    Returns:
        (n,) columns for "clusters", "nearest" and "shuffled_labels".
    """
    encoder = encoder or StaticEncoder.bundled()
    train = replace(train, targets={})  # the rows choose by their losses alone
    train_vectors, vectors = encoder.encode(train.prompts), encoder.encode(prompts)
    permutation = np.random.default_rng([seed, 2]).permutation(len(train))
    shuffled = replace(train, losses=train.losses[permutation])
    predictors = {
        "clusters": ClustersPredictor(encoder, seed=seed, k=10).fit_vectors(train_vectors, train),
        "nearest": NearestPredictor(encoder, seed=seed).fit_vectors(train_vectors, train),
        "shuffled_labels": ClustersPredictor(encoder, seed=seed, k=10).fit_vectors(
            train_vectors, shuffled
        ),
    }
    return {
        name: lowest(
            fitted.predict_vectors(vectors).with_averages(fitted.averages_).mean["loss"]
            + cells.penalties,
            cells.ranks,
        )
        for name, fitted in predictors.items()
    }
