"""`Predictor`: the interface of all predictors, growing and shrinking, and how they are stored."""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder
from tryage.errors import NotFittedError, PredictorError
from tryage.predictors.shrinkage import new_expert_average
from tryage.predictors.targets import (
    LOSS,
    Floats,
    Prediction,
    Targets,
    stored_targets,
    training_targets,
)
from tryage.scores import ScoreTable

State = tuple[dict[str, Any], dict[str, NDArray[Any]]]


class Predictor(abc.ABC):
    """Predicts the targets of every expert from the prompt alone.

    A prompt gets the same numbers in any batch, within 1e-4 of what it gets alone.

    Args:
        encoder: turns prompts into vectors; needed by the kinds that look at prompts.
        seed: drives everything random.

    Attributes:
        kind: the kind's name.
        experts_: names of the columns, in the table's order.
        targets_: names of the targets: "loss" first, then those of `OTHER_TARGETS` that the
            training table measured for every expert.
        averages_: target → mean measured value of each expert in training, shape (n_experts,),
            in the target's unit.
    """

    kind: ClassVar[str]
    slow: ClassVar[bool] = False
    """Whether a fit takes minutes, because the kind trains a network on the texts."""
    on_epoch: Callable[[int, int], None] | None = None
    """While a network trains: called with epochs done and most epochs, before the first one too."""

    experts_: tuple[str, ...]
    targets_: tuple[str, ...]
    averages_: Targets

    def __init__(self, encoder: Encoder | None = None, *, seed: int = 0) -> None:
        self.encoder = encoder
        self.seed = seed

    @property
    def average_loss_(self) -> Floats:
        """Mean measured loss of each expert in training, shape (n_experts,)."""
        return self.averages_[LOSS]

    @abc.abstractmethod
    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Learn from measured cells; cells that are NaN were not measured."""

    @abc.abstractmethod
    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return expected targets and their standard errors."""

    def state(self) -> State:
        """Return JSON-ready configuration and arrays that `from_state` rebuilds it from.

        Raises:
            NotFittedError: `fit` was not called.
        """
        self._check_fitted()
        config = {
            "kind": self.kind,
            "seed": self.seed,
            "experts": list(self.experts_),
            "targets": list(self.targets_),
        }
        arrays: dict[str, NDArray[Any]] = {
            f"{target}.average": average for target, average in self.averages_.items()
        }
        return config | self._config(), arrays | self._arrays()

    @classmethod
    def from_state(
        cls,
        config: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
        encoder: Encoder | None = None,
    ) -> Self:
        """Rebuild a fitted predictor from what `state` returned.

        Raises:
            PredictorError: the state is of another kind, or incomplete.
        """
        if config.get("kind") != cls.kind:
            raise PredictorError(f"expected the state of {cls.kind!r}, got {config.get('kind')!r}")
        try:
            predictor = cls(encoder, seed=int(config["seed"]), **cls._settings(config))
            predictor.experts_ = tuple(config["experts"])
            # Early folders hold the loss alone and do not name it.
            predictor.targets_ = tuple(config.get("targets", (LOSS,)))
            if not all(isinstance(name, str) for name in predictor.experts_ + predictor.targets_):
                raise PredictorError(f"stored predictor {cls.kind!r} has names that are not text")
            predictor.averages_ = stored_targets(arrays, "average", predictor.targets_)
            predictor._restore(config, arrays)
        except KeyError as error:
            raise PredictorError(f"stored predictor {cls.kind!r} lacks {error}") from error
        return predictor

    def with_expert(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Return a predictor with one more expert; the others are not refitted.

        Args:
            prompts: probes, n texts like those it was fitted on.
            table: the new expert's measurements on them, and those of other experts where there
                are any: they tell hard probes from a bad new expert.

        Raises:
            PredictorError: no new expert or several, no measured loss of it, or no measured value
                of a target that is predicted for the others.
        """
        self._check_fitted()
        new = [name for name in table.experts if name not in self.experts_]
        if len(new) != 1:
            raise PredictorError(
                f"experts {', '.join(table.experts)} cannot join {', '.join(self.experts_)}; "
                "add one new expert at a time"
            )
        measured = training_targets(len(prompts), table.reorder(new))
        lacking = [target for target in self.targets_ if target not in measured]
        if lacking:
            raise PredictorError(
                f"the probes do not measure {', '.join(lacking)} of {new[0]!r}, which is "
                "predicted of the other experts; measure it on at least one probe"
            )
        measured = {target: measured[target] for target in self.targets_}
        grown = copy.copy(self)
        grown.experts_ = (*self.experts_, new[0])
        grown.averages_ = {
            target: np.append(self.averages_[target], new_expert_average(values, averages))
            for (target, values), averages in zip(
                measured.items(), self.averages_.values(), strict=True
            )
        }
        grown._add_expert(prompts, measured, self._others(table))
        return grown

    def _others(self, table: ScoreTable) -> Targets:
        """Return a table's values of the fitted experts, (n, n_experts), NaN where not measured."""
        columns = {name: column for column, name in enumerate(table.experts)}
        others = {}
        for target in self.targets_:
            values = table.losses if target == LOSS else table.targets[target]
            wide = np.full((len(table), len(self.experts_)), np.nan)
            for place, name in enumerate(self.experts_):
                if name in columns:
                    wide[:, place] = values[:, columns[name]]
            others[target] = wide
        return others

    def without_expert(self, name: str) -> Self:
        """Return a predictor without an expert; the others are not refitted.

        Raises:
            PredictorError: it lacks the expert, or has no other.
        """
        self._check_fitted()
        if name not in self.experts_ or len(self.experts_) == 1:
            raise PredictorError(
                f"cannot remove {name!r} from the experts {', '.join(self.experts_)}"
            )
        columns = [i for i, expert in enumerate(self.experts_) if expert != name]
        smaller = copy.copy(self)
        smaller.experts_ = tuple(self.experts_[column] for column in columns)
        smaller.averages_ = {target: row[columns] for target, row in self.averages_.items()}
        smaller._keep_columns(columns)
        return smaller

    @abc.abstractmethod
    def _add_expert(self, prompts: Sequence[str], measured: Targets, others: Targets) -> None:
        """Learn a new expert and append its column.

        Args:
            prompts: the probes, n texts.
            measured: target → the new expert's values, each (n, 1).
            others: target → those of the other experts, each (n, n_experts), mostly NaN.
        """

    @abc.abstractmethod
    def _keep_columns(self, columns: list[int]) -> None:
        """Keep the columns of some experts only."""

    def _check_fitted(self) -> None:
        if not hasattr(self, "experts_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet; call fit(prompts, table) first"
            )

    def _learn_averages(self, n_prompts: int, table: ScoreTable) -> Targets:
        measured = training_targets(n_prompts, table)
        self.averages_ = {name: np.nanmean(values, axis=0) for name, values in measured.items()}
        self.targets_ = tuple(measured)
        self.experts_ = tuple(table.experts)
        return measured

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the kind's constructor from a stored configuration."""
        return {}

    def _config(self) -> dict[str, Any]:
        """Return what `_settings` and `_restore` read, besides kind, seed and experts."""
        return {}

    @abc.abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return the fitted arrays, besides the averages."""

    @abc.abstractmethod
    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore the fitted arrays."""
