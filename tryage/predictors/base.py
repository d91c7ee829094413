"""The predictor protocol, and what predictors share."""

from __future__ import annotations

import abc
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

LARGEST_LOSS = 1e100
"""Squares of larger losses overflow."""

Floats = NDArray[np.float64]
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

    mean: dict[str, Floats]
    std: dict[str, Floats]
    ood: NDArray[np.bool_]


class Predictor(Protocol):
    """Predicts the targets of every expert from the prompt alone.

    A prompt gets the same numbers in any batch, within 1e-4 of what it gets alone.

    Attributes:
        kind: the name it is asked for by.
        experts_: names of the columns, in the table's order.
        average_loss_: mean measured loss of each expert in training, shape (n_experts,).
    """

    kind: ClassVar[str]
    experts_: tuple[str, ...]
    average_loss_: Floats

    @property
    def encoder(self) -> Encoder | None:
        """Turns prompts into vectors; None where none is needed."""

    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Learn from measured losses; cells that are NaN were not measured."""

    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return expected targets and their standard errors."""

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


def training_losses(n_prompts: int, table: ScoreTable) -> Floats:
    """Return the table's losses after checking that a predictor can learn from them.

    Returns:
        Losses, shape (n_prompts, n_experts), NaN where not measured.

    Raises:
        PredictorError: there are no prompts or experts, prompts and table do not match, a
            loss is too large, or an expert was never measured.
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
    beyond = np.argwhere(np.abs(losses) > LARGEST_LOSS)
    if len(beyond):
        row, column = beyond[0]
        raise PredictorError(
            f"expert {table.experts[column]!r} has the loss {losses[row, column]:g} on prompt "
            f"{row + 1}; losses up to {LARGEST_LOSS:g} can be learned from"
        )
    never = np.isnan(losses).all(axis=0)
    if never.any():
        names = ", ".join(repr(table.experts[column]) for column in np.flatnonzero(never)[:20])
        raise PredictorError(
            f"no measured loss for {names} on {n_prompts} prompts; measure each expert on at "
            "least one of them, or leave it out of the table"
        )
    return losses


class FittedPredictor(abc.ABC):
    """What all predictors keep: experts, average losses, and how they are stored.

    Args:
        encoder: turns prompts into vectors; needed by the kinds that look at prompts.
        seed: drives everything random.
    """

    kind: ClassVar[str]
    experts_: tuple[str, ...]
    average_loss_: Floats

    def __init__(self, encoder: Encoder | None = None, *, seed: int = 0) -> None:
        self.encoder = encoder
        self.seed = seed

    @abc.abstractmethod
    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Learn from measured losses; cells that are NaN were not measured."""

    @abc.abstractmethod
    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return expected targets and their standard errors."""

    def state(self) -> State:
        """Return JSON-ready configuration and arrays that `from_state` rebuilds it from.

        Raises:
            NotFittedError: `fit` was not called.
        """
        self._check_fitted()
        config = {"kind": self.kind, "seed": self.seed, "experts": list(self.experts_)}
        arrays: dict[str, NDArray[Any]] = {f"{LOSS}.average": self.average_loss_}
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
            predictor.average_loss_ = np.asarray(arrays[f"{LOSS}.average"], dtype=np.float64)
            predictor._restore(config, arrays)
        except KeyError as error:
            raise PredictorError(f"stored predictor {cls.kind!r} lacks {error}") from error
        return predictor

    def _check_fitted(self) -> None:
        if not hasattr(self, "experts_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet; call fit(prompts, table) first"
            )

    def _learn_averages(self, n_prompts: int, table: ScoreTable) -> Floats:
        losses = training_losses(n_prompts, table)
        self.average_loss_ = np.nanmean(losses, axis=0)
        self.experts_ = tuple(table.experts)
        return losses

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
    """

    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Learn from measured losses; cells that are NaN were not measured.

        Raises:
            PredictorError: there is nothing to learn from, or an expert was never measured.
        """
        training_losses(len(prompts), table)
        return self.fit_vectors(self._encode(prompts), table)

    def fit_vectors(self, vectors: Vectors, table: ScoreTable) -> Self:
        """Like `fit`, from the prompts' vectors, shape (n_prompts, dim)."""
        losses = self._learn_averages(len(vectors), table)
        self.novelty_ = NoveltyTest.fit(vectors, seed=self.seed)
        self._fit(vectors, losses)
        return self

    def predict(self, prompts: Sequence[str]) -> Prediction:
        """Return expected losses, their standard errors, and which prompts are unlike training.

        Raises:
            NotFittedError: `fit` was not called.
            PromptError: something in `prompts` is not text.
        """
        self._check_fitted()
        return self.predict_vectors(self._encode(prompts))

    def predict_vectors(self, vectors: Vectors) -> Prediction:
        """Like `predict`, from the prompts' vectors, shape (n_prompts, dim)."""
        mean, std = self._predict(vectors)
        return Prediction({LOSS: mean}, {LOSS: std}, self.novelty_.flag(vectors))

    def _encode(self, prompts: Sequence[str]) -> Vectors:
        if self.encoder is None:
            raise PredictorError(
                f"predictor {self.kind!r} looks at prompts through an encoder; give it one, such "
                "as tryage.encoders.StaticEncoder.bundled()"
            )
        return self.encoder.encode(prompts)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "novelty.centres": self.novelty_.centres,
            "novelty.threshold": np.array([self.novelty_.threshold]),
        }

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        centres = np.asarray(arrays["novelty.centres"], dtype=np.float32)
        # A sentence-transformers model would have to be loaded to tell its length.
        if isinstance(self.encoder, StaticEncoder) and centres.shape[1] != self.encoder.dim:
            raise PredictorError(
                f"fitted on vectors of length {centres.shape[1]}, but encoder "
                f"{self.encoder.name!r} makes {self.encoder.dim}; give the one it was fitted with"
            )
        self.novelty_ = NoveltyTest(centres, float(arrays["novelty.threshold"][0]))

    @abc.abstractmethod
    def _fit(self, vectors: Vectors, losses: Floats) -> None:
        """Learn from vectors (n, dim) and losses (n, n_experts), NaN where not measured."""

    @abc.abstractmethod
    def _predict(self, vectors: Vectors) -> tuple[Floats, Floats]:
        """Return mean and standard error of the loss, each (n, n_experts)."""
