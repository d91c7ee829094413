"""Targets: the measured values that predictors learn, and predictions of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.errors import PredictorError
from tryage.scores import ScoreTable

LOSS = "loss"

OTHER_TARGETS = ("cost", "response_chars", "readability", "latency")
"""Targets predicted in addition to the loss if a table measured them for every expert."""

LARGEST_VALUE = 1e100
"""Squares of larger losses overflow."""

Floats = NDArray[np.float64]
Targets = dict[str, Floats]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What is predicted for some prompts under every expert.

    Attributes:
        mean: target → expected values, shape (n_prompts, n_experts), in the target's unit;
            "loss" is always there, lower is better. Never NaN.
        std: target → standard error of `mean`, same shape and unit: how well the expected
            value is known, not how much single answers scatter around it.
        ood: shape (n_prompts,), true where a prompt is unlike everything in the training
            table, so that `mean` should not be relied on.
        likeness: shape (n_prompts,), largest cosine to a centre of the training prompts, -1 to 1;
            empty where prompts are not compared.
    """

    mean: Targets
    std: Targets
    ood: NDArray[np.bool_]
    likeness: NDArray[np.floating[Any]] = field(default_factory=lambda: np.empty(0))

    def with_averages(self, averages: Targets) -> Prediction:
        """Return the prediction with averages for prompts that are out of distribution.

        Args:
            averages: target → mean measured value of each expert, shape (n_experts,).
        """
        if not np.logical_or.reduce(self.ood):  # faster than any() on few prompts
            return self
        rows = self.ood[:, None]
        mean = {name: np.where(rows, averages[name], values) for name, values in self.mean.items()}
        return Prediction(mean, self.std, self.ood, self.likeness)

    def with_ood(self, ood: NDArray[np.bool_]) -> Prediction:
        """Return the prediction with other prompts out of distribution, (n_prompts,)."""
        return Prediction(self.mean, self.std, ood, self.likeness)

    def with_rows(self, rows: Mapping[int, tuple[Prediction, int]]) -> Prediction:
        """Return the prediction with some rows replaced, which are in distribution then.

        Args:
            rows: row → prediction and the row in it that replaces it.
        """
        mean = {name: values.copy() for name, values in self.mean.items()}
        std = {name: values.copy() for name, values in self.std.items()}
        ood = self.ood.copy()
        for row, (other, place) in rows.items():
            ood[row] = False
            for name in mean:
                mean[name][row], std[name][row] = other.mean[name][place], other.std[name][place]
        return Prediction(mean, std, ood, self.likeness)


def training_targets(n_prompts: int, table: ScoreTable) -> Targets:
    """Return the measured values of a table, checked for fitting.

    Returns:
        Target → values, shape (n_prompts, n_experts), NaN where not measured: the losses, and
        those of `OTHER_TARGETS` that were measured at least once for every expert.

    Raises:
        PredictorError: there are no prompts or experts, prompts and table do not match, a
            value is too large, or an expert's loss was never measured.
    """
    losses = np.asarray(table.losses, dtype=np.float64)
    if n_prompts != len(losses):
        raise PredictorError(
            f"{n_prompts} prompts but {len(losses)} rows of losses; give one row per prompt"
        )
    if losses.size == 0:
        raise PredictorError(
            f"nothing to fit on: {n_prompts} prompts and {len(table.experts)} experts; "
            "give at least one of each"
        )
    never = np.isnan(losses).all(axis=0)
    if never.any():
        names = ", ".join(repr(table.experts[column]) for column in np.flatnonzero(never)[:20])
        raise PredictorError(
            f"no measured loss for {names} on {n_prompts} prompts; measure each expert on at "
            "least one of them, or leave it out of the table"
        )
    measured = {LOSS: losses}
    for name in OTHER_TARGETS:
        values = table.targets.get(name)
        if values is not None and not np.isnan(values).all(axis=0).any():
            measured[name] = np.asarray(values, dtype=np.float64)
    for name, values in measured.items():
        beyond = np.argwhere(np.abs(values) > LARGEST_VALUE)
        if len(beyond):
            row, column = beyond[0]
            raise PredictorError(
                f"expert {table.experts[column]!r} has the {name} {values[row, column]:g} on "
                f"prompt {row + 1}; values up to {LARGEST_VALUE:g} can be learned from"
            )
    return measured


def stored_targets(
    arrays: Mapping[str, NDArray[Any]], name: str, targets: Sequence[str], *, single: bool = False
) -> Targets:
    """Return target → stored array, from arrays named "target.name".

    Args:
        arrays: as they were stored.
        name: of the array.
        targets: to return.
        single: whether what was stored in single precision stays in it.
    """
    stored = {target: arrays[f"{target}.{name}"] for target in targets}
    return {
        target: array
        if single and array.dtype == np.float32
        else np.asarray(array, dtype=np.float64)
        for target, array in stored.items()
    }
