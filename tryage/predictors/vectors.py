"""Base of the predictors that see a prompt as its encoder's vector."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import StaticEncoder
from tryage.errors import PredictorError
from tryage.predictors.base import Predictor
from tryage.predictors.novelty import NoveltyTest
from tryage.predictors.targets import (
    LOSS,
    Floats,
    Prediction,
    Targets,
    Vectors,
    stored_targets,
    training_targets,
)
from tryage.scores import ScoreTable


class VectorPredictor(Predictor):
    """A predictor that looks at prompts through an encoder's vectors.

    Callers that have encoded the prompts already use `fit_vectors` and `predict_vectors`.
    A kind learns once what all targets share (`_fit_space`), then each target (`_fit_target`).
    The arrays learned for a target are in `fitted_` and stored by name.

    Attributes:
        fitted_: target → name → array, the names being those of `TARGET_ARRAYS`.
    """

    TARGET_ARRAYS: ClassVar[tuple[str, ...]]
    SHARED_ARRAYS: ClassVar[tuple[str, ...]] = ()
    """Those of `TARGET_ARRAYS` without an axis of experts; it is the last axis of all others."""

    SINGLE_ARRAYS: ClassVar[tuple[str, ...]] = ()
    """Those that may be stored in single precision, and stay in it then."""

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
        self.novelty_ = NoveltyTest.fit(self._compared(vectors), seed=self.seed)
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
        likeness = self.novelty_.likeness(self._compared(vectors))
        return Prediction(mean, std, likeness < self.novelty_.threshold, likeness)

    def _add_expert(self, prompts: Sequence[str], measured: Targets, others: Targets) -> None:
        vectors = self._encode(prompts)
        grown = {}
        for target, arrays in self.fitted_.items():
            new = self._fit_new_expert(target, vectors, measured[target], others[target])
            grown[target] = {
                name: array
                if name in self.SHARED_ARRAYS
                else np.concatenate([array, new[name]], axis=-1)
                for name, array in arrays.items()
            }
        self.fitted_ = grown
        self._prepare()

    def _fit_new_expert(
        self, target: str, vectors: Vectors, values: Floats, others: Floats
    ) -> Targets:
        """Learn one target of a new expert from its values on probes (n, 1).

        `others` holds the other experts' values on the same probes, (n, n_experts).
        """
        return self._fit_target(target, vectors, values)

    def _keep_columns(self, columns: list[int]) -> None:
        self.fitted_ = {
            target: {
                # The memory layout of a loaded array, so that sums round alike.
                name: array
                if name in self.SHARED_ARRAYS
                else np.ascontiguousarray(array[..., columns])
                for name, array in arrays.items()
            }
            for target, arrays in self.fitted_.items()
        }
        self._prepare()

    def _encode(self, prompts: Sequence[str]) -> Vectors:
        if self.encoder is None:
            raise PredictorError(
                f"predictor {self.kind!r} needs an encoder; give it one, such as "
                "tryage.encoders.StaticEncoder.bundled()"
            )
        return self.encoder.encode(prompts)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        stored: dict[str, NDArray[Any]] = {
            "novelty.centres": self.novelty_.centres,
            "novelty.threshold": np.array([self.novelty_.threshold]),
        }
        for target, arrays in self.fitted_.items():
            stored |= {f"{target}.{name}": array for name, array in arrays.items()}
        return stored

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        centres = np.asarray(arrays["novelty.centres"], dtype=np.float32)
        # Only a static encoder knows its vectors' length without loading a model.
        if isinstance(self.encoder, StaticEncoder) and centres.shape[1] != self.encoder.dim:
            raise PredictorError(
                f"fitted on vectors of length {centres.shape[1]}, but {self.encoder.name!r} makes "
                f"{self.encoder.dim}; give the encoder that it was fitted with"
            )
        self.novelty_ = NoveltyTest(centres, float(arrays["novelty.threshold"][0]))
        by_name = {
            name: stored_targets(arrays, name, self.targets_, single=name in self.SINGLE_ARRAYS)
            for name in self.TARGET_ARRAYS
        }
        self.fitted_ = {
            target: {name: by_name[name][target] for name in self.TARGET_ARRAYS}
            for target in self.targets_
        }
        self._restore_space(config, arrays)
        self._prepare()
        self._check_shapes(self._length(centres.shape[1]))

    def _compared(self, vectors: Vectors) -> Vectors:
        """Return the part of vectors by which prompts are compared with the training prompts."""
        return vectors

    def _length(self, compared: int) -> int:
        """Return the length of vectors of which a part of length `compared` is compared."""
        return compared

    def _check_shapes(self, dim: int) -> None:
        """Predict for made-up vectors, so that arrays that do not fit together are found at once.

        Raises:
            ValueError, IndexError: they do not, or hold numbers that no fit gives.
        """
        wave = np.sin(np.arange(1, dim + 1, dtype=np.float32))
        wave /= max(float(np.linalg.norm(wave)), 1e-6)
        with np.errstate(all="ignore"):
            prediction = self.predict_vectors(np.stack([0 * wave, wave, -wave]))
        expected = (3, len(self.experts_))
        for values in (*prediction.mean.values(), *prediction.std.values()):
            if values.shape != expected:
                raise ValueError(f"predictions of shape {values.shape}, expected {expected}")
        if not np.isfinite(prediction.mean[LOSS]).all():
            raise ValueError("a predicted loss is not finite")

    def _fit_space(self, vectors: Vectors, losses: Floats) -> None:
        """Learn what all targets share, from vectors (n, dim) and losses (n, n_experts)."""

    @abc.abstractmethod
    def _fit_target(self, target: str, vectors: Vectors, values: Floats) -> Targets:
        """Learn one target from its values (n, n_experts), NaN where not measured."""

    def _restore_space(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `_fit_space` learned."""

    def _prepare(self) -> None:
        """Derive what `_predict` needs from the fitted or restored arrays."""

    @abc.abstractmethod
    def _predict(self, vectors: Vectors) -> tuple[Targets, Targets]:
        """Return mean and standard error of every target, each (n, n_experts)."""
