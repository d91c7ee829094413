"""Standard errors of means, and empirical-Bayes shrinkage of means from few labels."""

from __future__ import annotations

import numpy as np

from tryage.predictors.targets import Floats

_LEAST_PRIOR, _GREATEST_PRIOR = 1.0, 1e6


def standard_error(values: Floats) -> Floats:
    """Return the standard error of each column's mean, (n_experts,); NaN was not measured."""
    error: Floats = np.nanstd(values, axis=0) / np.sqrt((~np.isnan(values)).sum(axis=0))
    return error


def prior_count(raw: Floats, counts: Floats, within: Floats) -> float:
    """Estimate by the method of moments how many labels the prior mean is worth.

    The ratio of the variance within cells to that of the true cell means; the latter is the
    observed variance of cell means less what sampling alone would give.

    Args:
        raw: cell means, (k, n_experts).
        counts: labels of each cell, (k, n_experts).
        within: variance within cells, (n_experts,).
    """
    total = np.maximum(counts.sum(axis=0), 1.0)
    observed = (counts * np.square(raw)).sum(axis=0) / total
    sampling = within * (counts > 0).sum(axis=0) / total
    between = float(np.maximum(observed - sampling, 0.0).sum())
    noise = float(within.sum())
    if noise == 0.0:
        return _LEAST_PRIOR
    return float(np.clip(noise / max(between, 1e-12), _LEAST_PRIOR, _GREATEST_PRIOR))


def new_expert_average(values: Floats, averages: Floats) -> float:
    """Shrink a new expert's average towards those of the others (empirical Bayes).

    An average of a few probes is so uncertain that the new expert would often be chosen by luck;
    the variance between the others' averages sets how far it is shrunk.

    Args:
        values: the new expert's values on probes, NaN where not measured.
        averages: the other experts' averages, (n_experts,).
    """
    measured = values[~np.isnan(values)]
    average = float(measured.mean())
    between = float(averages.var(ddof=1)) if len(averages) > 2 else 0.0
    if between == 0.0:
        return average
    weight = between / (between + float(measured.var()) / len(measured))
    prior = float(averages.mean())
    return prior + weight * (average - prior)
