"""The predictor protocol, and what predictors share."""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder, StaticEncoder
from tryage.errors import NotFittedError, PredictorError
from tryage.predictors.novelty import NoveltyTest
from tryage.scores import ScoreTable

LOSS = "loss"

OTHER_TARGETS = ("cost", "response_chars", "readability", "latency")
"""What is predicted beside the loss, where a table measured it for every expert."""

LARGEST_VALUE = 1e100
"""Squares of larger losses overflow."""

Floats = NDArray[np.float64]
Targets = dict[str, Floats]
Vectors = NDArray[np.float32]
State = tuple[dict[str, Any], dict[str, NDArray[Any]]]


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
    """

    mean: Targets
    std: Targets
    ood: NDArray[np.bool_]


class Predictor(Protocol):
    """Predicts the targets of every expert from the prompt alone.

    A prompt gets the same numbers in any batch, within 1e-4 of what it gets alone.

    Attributes:
        kind: the name it is asked for by.
        experts_: names of the columns, in the table's order.
        targets_: what is predicted: "loss" first, then those of `OTHER_TARGETS` that the
            training table measured for every expert.
        averages_: target → mean measured value of each expert in training, shape
            (n_experts,), in the target's unit.
    """

    kind: ClassVar[str]
    experts_: tuple[str, ...]
    targets_: tuple[str, ...]
    averages_: Targets

    @property
    def average_loss_(self) -> Floats:
        """Mean measured loss of each expert in training, shape (n_experts,)."""

    @property
    def encoder(self) -> Encoder | None:
        """Turns prompts into vectors; None where none is needed."""

    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Learn from what the table measured; cells that are NaN were not measured."""

    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return expected targets and their standard errors."""

    def with_expert(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Return a predictor that knows one more expert, the table's only new one."""

    def without_expert(self, name: str) -> Self:
        """Return a predictor that does not know an expert."""

    def state(self) -> State:
        """Return JSON-ready configuration and arrays that `from_state` rebuilds it from."""

    @classmethod
    def from_state(
        cls,
        config: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
        encoder: Encoder | None = None,
    ) -> Self:
        """Rebuild a fitted predictor."""


def training_targets(n_prompts: int, table: ScoreTable) -> Targets:
    """Return what a table measured, after checking that a predictor can learn from it.

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
    found = {LOSS: losses}
    for name in OTHER_TARGETS:
        values = table.targets.get(name)
        if values is not None and not np.isnan(values).all(axis=0).any():
            found[name] = np.asarray(values, dtype=np.float64)
    for name, values in found.items():
        beyond = np.argwhere(np.abs(values) > LARGEST_VALUE)
        if len(beyond):
            row, column = beyond[0]
            raise PredictorError(
                f"expert {table.experts[column]!r} has the {name} {values[row, column]:g} on "
                f"prompt {row + 1}; values up to {LARGEST_VALUE:g} can be learned from"
            )
    return found


class FittedPredictor(abc.ABC):
    """What all predictors keep: experts, targets, averages, and how they are stored.

    Args:
        encoder: turns prompts into vectors; needed by the kinds that look at prompts.
        seed: drives everything random.
    """

    kind: ClassVar[str]
    slow: ClassVar[bool] = False
    """Whether a fit takes minutes, because the kind trains a network of its own on the texts."""

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
        """Learn from what the table measured; cells that are NaN were not measured."""

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
            PredictorError: the state is another predictor's, or something is missing in it.
        """
        if config.get("kind") != cls.kind:
            raise PredictorError(
                f"expected the state of {cls.kind!r}, found {config.get('kind')!r}"
            )
        try:
            predictor = cls(encoder, seed=int(config["seed"]), **cls._settings(config))
            predictor.experts_ = tuple(config["experts"])
            # Folders from before there were several targets do not name the one they have.
            predictor.targets_ = tuple(config.get("targets", (LOSS,)))
            predictor.averages_ = _of_targets(arrays, "average", predictor.targets_)
            predictor._restore(config, arrays)
        except KeyError as error:
            raise PredictorError(f"stored predictor {cls.kind!r} lacks {error}") from error
        return predictor

    def with_expert(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Return a predictor that knows one more expert; what it knows of the others stays.

        Args:
            prompts: probes, n texts like those it was fitted on.
            table: the new expert's measurements on them. What known experts scored on the same
                probes may stand beside: it tells hard probes from a bad newcomer.

        Raises:
            PredictorError: no new expert or several, nothing measured of it, or a target that is
                predicted of the others but was not measured.
        """
        self._check_fitted()
        fresh = [name for name in table.experts if name not in self.experts_]
        if len(fresh) != 1:
            raise PredictorError(
                f"experts {', '.join(table.experts)} cannot join {', '.join(self.experts_)}; "
                "add one new expert at a time"
            )
        measured = training_targets(len(prompts), table.reorder(fresh))
        lacking = [target for target in self.targets_ if target not in measured]
        if lacking:
            raise PredictorError(
                f"the probes do not measure {', '.join(lacking)} of {fresh[0]!r}, which is "
                "predicted of the other experts; measure it on at least one probe"
            )
        measured = {target: measured[target] for target in self.targets_}
        grown = copy.copy(self)
        grown.experts_ = (*self.experts_, fresh[0])
        grown.averages_ = {
            target: np.append(self.averages_[target], _newcomers_average(values, known))
            for (target, values), known in zip(
                measured.items(), self.averages_.values(), strict=True
            )
        }
        grown._join(prompts, measured, self._beside(table))
        return grown

    def _beside(self, table: ScoreTable) -> Targets:
        """Return what a table measured of the known experts, (n, n_experts), else NaN."""
        columns = {name: column for column, name in enumerate(table.experts)}
        found = {}
        for target in self.targets_:
            values = table.losses if target == LOSS else table.targets[target]
            wide = np.full((len(table), len(self.experts_)), np.nan)
            for place, name in enumerate(self.experts_):
                if name in columns:
                    wide[:, place] = values[:, columns[name]]
            found[target] = wide
        return found

    def without_expert(self, name: str) -> Self:
        """Return a predictor that does not know an expert; what it knows of the others stays.

        Raises:
            PredictorError: it does not know the expert, or knows no other.
        """
        self._check_fitted()
        if name not in self.experts_ or len(self.experts_) == 1:
            raise PredictorError(
                f"cannot take {name!r} out of the experts {', '.join(self.experts_)}"
            )
        columns = [i for i, expert in enumerate(self.experts_) if expert != name]
        left = copy.copy(self)
        left.experts_ = tuple(self.experts_[column] for column in columns)
        left.averages_ = {target: row[columns] for target, row in self.averages_.items()}
        left._keep_columns(columns)
        return left

    @abc.abstractmethod
    def _join(self, prompts: Sequence[str], measured: Targets, beside: Targets) -> None:
        """Append what is learned of a new expert.

        Args:
            prompts: the probes, n texts.
            measured: target → the new expert's values, each (n, 1).
            beside: target → those of the known experts, each (n, n_experts), mostly NaN.
        """

    @abc.abstractmethod
    def _keep_columns(self, columns: list[int]) -> None:
        """Keep only what is known of some experts."""

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
        """Return the constructor's own arguments from a stored configuration."""
        return {}

    def _config(self) -> dict[str, Any]:
        """Return what `_settings` and `_restore` read beside kind, seed and experts."""
        return {}

    @abc.abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return the fitted arrays beside the averages."""

    @abc.abstractmethod
    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the fitted arrays back."""


class VectorPredictor(FittedPredictor):
    """A predictor that looks at prompts through an encoder's vectors.

    `fit_vectors` and `predict_vectors` serve callers that have encoded the prompts already.
    A kind learns once how prompts lie (`_fit_space`) and then each target the same way
    (`_fit_target`); what it learned of a target is in `fitted_` and stored by name.

    Attributes:
        fitted_: target → name → array, the names being those of `TARGET_ARRAYS`.
    """

    TARGET_ARRAYS: ClassVar[tuple[str, ...]]
    SHARED_ARRAYS: ClassVar[tuple[str, ...]] = ()
    """Those of `TARGET_ARRAYS` that are not about single experts; all others have the experts
    along their last axis."""

    fitted_: dict[str, Targets]

    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Learn from what the table measured; cells that are NaN were not measured.

        Raises:
            PredictorError: there is nothing to learn from, or an expert was never measured.
        """
        training_targets(len(prompts), table)
        return self.fit_vectors(self._encode(prompts), table)

    def fit_vectors(self, vectors: Vectors, table: ScoreTable) -> Self:
        """Like `fit`, from the prompts' vectors, shape (n_prompts, dim)."""
        measured = self._learn_averages(len(vectors), table)
        self.novelty_ = NoveltyTest.fit(vectors, seed=self.seed)
        self._fit_space(vectors, measured[LOSS])
        self.fitted_ = {
            name: self._fit_target(name, vectors, values) for name, values in measured.items()
        }
        self._prepare()
        return self

    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return expected targets, their standard errors, and which prompts are unlike training.

        Raises:
            NotFittedError: `fit` was not called.
            PromptError: something in `prompts` is not text.
        """
        self._check_fitted()
        return self.predict_vectors(self._encode(prompts))

    def predict_vectors(self, vectors: Vectors) -> Prediction:
        """Like `predict`, from the prompts' vectors, shape (n_prompts, dim)."""
        mean, std = self._predict(vectors)
        return Prediction(mean, std, self.novelty_.flag(vectors))

    def _join(self, prompts: Sequence[str], measured: Targets, beside: Targets) -> None:
        vectors = self._encode(prompts)
        grown = {}
        for target, own in self.fitted_.items():
            new = self._fit_newcomer(target, vectors, measured[target], beside[target])
            grown[target] = {
                name: array
                if name in self.SHARED_ARRAYS
                else np.concatenate([array, new[name]], axis=-1)
                for name, array in own.items()
            }
        self.fitted_ = grown
        self._prepare()

    def _fit_newcomer(
        self, target: str, vectors: Vectors, values: Floats, beside: Floats
    ) -> Targets:
        """Learn one target of a new expert from its values on probes (n, 1).

        `beside` holds the known experts' values on the same probes, (n, n_experts).
        """
        return self._fit_target(target, vectors, values)

    def _keep_columns(self, columns: list[int]) -> None:
        self.fitted_ = {
            target: {
                # Laid out as when it is loaded again, so that sums round alike.
                name: array
                if name in self.SHARED_ARRAYS
                else np.ascontiguousarray(array[..., columns])
                for name, array in own.items()
            }
            for target, own in self.fitted_.items()
        }
        self._prepare()

    def _encode(self, prompts: Sequence[str]) -> Vectors:
        if self.encoder is None:
            raise PredictorError(
                f"predictor {self.kind!r} looks at prompts through an encoder; give it one, such "
                "as tryage.encoders.StaticEncoder.bundled()"
            )
        return self.encoder.encode(prompts)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        own: dict[str, NDArray[Any]] = {
            "novelty.centres": self.novelty_.centres,
            "novelty.threshold": np.array([self.novelty_.threshold]),
        }
        for target, arrays in self.fitted_.items():
            own |= {f"{target}.{name}": array for name, array in arrays.items()}
        return own

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        centres = np.asarray(arrays["novelty.centres"], dtype=np.float32)
        # A sentence-transformers model would have to be loaded to tell its length.
        if isinstance(self.encoder, StaticEncoder) and centres.shape[1] != self.encoder.dim:
            raise PredictorError(
                f"fitted on vectors of length {centres.shape[1]}, but encoder "
                f"{self.encoder.name!r} makes {self.encoder.dim}; give the one it was fitted with"
            )
        self.novelty_ = NoveltyTest(centres, float(arrays["novelty.threshold"][0]))
        by_name = {name: _of_targets(arrays, name, self.targets_) for name in self.TARGET_ARRAYS}
        self.fitted_ = {
            target: {name: by_name[name][target] for name in self.TARGET_ARRAYS}
            for target in self.targets_
        }
        self._restore_space(config, arrays)
        self._prepare()

    def _fit_space(self, vectors: Vectors, losses: Floats) -> None:
        """Learn what all targets share from vectors (n, dim) and losses (n, n_experts)."""

    @abc.abstractmethod
    def _fit_target(self, target: str, vectors: Vectors, values: Floats) -> Targets:
        """Learn one target from its values (n, n_experts), NaN where not measured."""

    def _restore_space(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `_fit_space` learned."""

    def _prepare(self) -> None:
        """Derive what `_predict` needs from what was fitted or restored."""

    @abc.abstractmethod
    def _predict(self, vectors: Vectors) -> tuple[Targets, Targets]:
        """Return mean and standard error of every target, each (n, n_experts)."""


def _of_targets(arrays: Mapping[str, NDArray[Any]], name: str, targets: Sequence[str]) -> Targets:
    return {t: np.asarray(arrays[f"{t}.{name}"], dtype=np.float64) for t in targets}


def _newcomers_average(values: Floats, known: Floats) -> float:
    """Return a new expert's average, shrunk towards those of the known experts.

    A few probes leave an average so uncertain that the newcomer would often be chosen for its
    luck; how much the known experts differ tells how much of it to believe.
    """
    measured = values[~np.isnan(values)]
    average = float(measured.mean())
    spread = float(known.var(ddof=1)) if len(known) > 2 else 0.0
    if spread == 0.0:
        return average
    believed = spread / (spread + float(measured.var()) / len(measured))
    middle = float(known.mean())
    return middle + believed * (average - middle)
