"""Token vectors fine-tuned on the score table, with a small network on their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder, StaticEncoder
from tryage.errors import PredictorError, missing_extra
from tryage.predictors.features import Inputs
from tryage.predictors.linear import LinearPredictor
from tryage.predictors.targets import LOSS, Vectors, training_targets
from tryage.predictors.token_bag import TokenBag
from tryage.scores import ScoreTable


class EmbeddingBagPredictor(LinearPredictor):
    """Fine-tunes vectors of tokens and token pairs on the losses (training: extra `hf`).

    A prompt is the sum of the vectors of its tokens, of pairs of neighbouring tokens, and of short
    runs of characters beyond Latin script, beside the static encoder's vector; one hidden layer and
    one output per expert follow. Training minimises the squared error of the losses plus the
    expected regret of choosing by them, drops tokens at random, and stops early on held-out
    prompts. The outputs of several networks are averaged. Predicting needs numpy alone.

    Standard errors and the other targets come from a ridge regression on the hidden layers. These
    standard errors ignore the uncertainty of the layers; treat them as lower bounds. Whether a
    prompt is out of distribution is decided on the static encoder's vector.

    Args:
        encoder: a static encoder.
        seed: drives training.
        networks: how many are averaged.
        dim: length of a feature's vector in one network.
        hidden: units of the hidden layer of one network.
        **recipe: settings of `tryage.predictors.finetuning.Recipe`.
    """

    kind: ClassVar[str] = "embedding-bag"
    slow: ClassVar[bool] = True
    RECIPE: ClassVar[Mapping[str, Any]] = {
        "epochs": 10,
        "patience": 3,
        "rate": 4e-3,
        "head_rate": 4e-3,
    }
    STEPS: ClassVar[int] = 64
    """Steps of an epoch that the size of a batch is chosen for, from 16 to 128 prompts."""

    def __init__(
        self,
        encoder: Encoder | None = None,
        *,
        seed: int = 0,
        networks: int = 2,
        dim: int = 64,
        hidden: int = 128,
        **recipe: Any,
    ) -> None:
        super().__init__(encoder, seed=seed)
        self.networks = networks
        self.dim = dim
        self.hidden = hidden
        self.recipe = recipe

    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Train on the measured losses; cells that are NaN were not measured.

        Raises:
            PredictorError: there is nothing to learn from, an expert was never measured, the
                encoder is no static one, or an unknown setting.
            MissingExtraError: torch is not installed.
        """
        losses = training_targets(len(prompts), table)[LOSS]
        encoder = self._static()
        try:
            from tryage.predictors.bag_network import train_bags
            from tryage.predictors.finetuning import Recipe
        except ImportError as error:
            raise missing_extra("hf", "training the predictor 'embedding-bag'") from error
        try:
            batch = min(max(len(prompts) // self.STEPS, 16), 128)
            recipe = Recipe(**{"batch": batch, **self.RECIPE, **self.recipe})
        except TypeError as error:
            raise PredictorError(
                f"unknown setting of predictor 'embedding-bag': {error}"
            ) from error
        self.bag_, coefficients, intercepts, self.history_ = train_bags(
            encoder,
            prompts,
            losses,
            recipe,
            networks=self.networks,
            dim=self.dim,
            hidden=self.hidden,
            seed=self.seed,
            on_epoch=self.on_epoch,
        )
        self.fit_vectors(self._encode(prompts), table)
        beside = np.zeros((encoder.dim, losses.shape[1]))
        outputs = {"coefficients": np.vstack([beside, coefficients]), "intercepts": intercepts}
        self.fitted_[LOSS] |= outputs
        return self

    def _static(self) -> StaticEncoder:
        if not isinstance(self.encoder, StaticEncoder):
            name = "none" if self.encoder is None else repr(self.encoder.name)
            raise PredictorError(
                "predictor 'embedding-bag' fine-tunes the vectors of a static encoder, and the "
                f"encoder is {name}; name the bundled one, 'static', or the folder of another"
            )
        return self.encoder

    def _encode(self, prompts: Sequence[str]) -> Vectors:
        """Return the static vectors and the hidden layers, joined, (n, dim)."""
        size = len(prompts) if len(prompts) <= Inputs.WHOLE else Inputs.BLOCK
        starts = range(0, len(prompts), max(size, 1)) or range(1)
        return np.concatenate([self._joined(prompts[at : at + size]) for at in starts])

    def _joined(self, prompts: Sequence[str]) -> Vectors:
        encoder = self._static()
        texts, token_ids = encoder.tokenized(prompts)
        static = encoder.pooled(texts, token_ids)
        return np.hstack([static, self.bag_.hidden(texts, token_ids, static)])

    def _compared(self, vectors: Vectors) -> Vectors:
        return vectors[:, : -self.bag_.width]

    def _length(self, compared: int) -> int:
        return compared + self.bag_.width

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        sizes = {name: int(config[name]) for name in ("networks", "dim", "hidden")}
        return {**sizes, **config["recipe"]}

    def _config(self) -> dict[str, Any]:
        return {
            "networks": self.networks,
            "dim": self.dim,
            "hidden": self.hidden,
            "recipe": self.recipe,
            "history": self.history_,
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | self.bag_.arrays()

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.history_ = [[float(value) for value in epochs] for epochs in config["history"]]
        self.bag_ = TokenBag.of_arrays(arrays, self._static().vocabulary)
        super()._restore(config, arrays)
