"""Fitting predictors on a score table, and validating their choices by cross-validation.

`candidates` holds what `auto` tries, `encoded` a table encoded once for all folds, `folds` the
split and held-out choices, `sample` the prompts of a large table that `auto` chooses on, `auto`
the choice among quick kinds, `network_trial` whether a trained network is better, `announced` the
steps that progress tells of, `validation` cross-validation, and `fitting` the fit of one predictor
and of a router's.
"""

from tryage.training.announced import COSTS, JOINT
from tryage.training.candidates import (
    AUTO,
    CANDIDATES,
    GROUPS,
    MORE_CLUSTERS,
    RANDOM_RELU,
    Candidate,
    check_kind,
)
from tryage.training.fitting import (
    Fit,
    FitOptions,
    fit_and_validate,
    fit_predictor,
    fit_tasks,
    goal_statistics,
)
from tryage.training.folds import split_folds
from tryage.training.sample import CHOOSE_ON, check_choose_on
from tryage.training.validation import validate

__all__ = [
    "AUTO",
    "CANDIDATES",
    "CHOOSE_ON",
    "COSTS",
    "GROUPS",
    "JOINT",
    "MORE_CLUSTERS",
    "RANDOM_RELU",
    "Candidate",
    "Fit",
    "FitOptions",
    "check_choose_on",
    "check_kind",
    "fit_and_validate",
    "fit_predictor",
    "fit_tasks",
    "goal_statistics",
    "split_folds",
    "validate",
]
