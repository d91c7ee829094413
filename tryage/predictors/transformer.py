"""A fine-tuned transformer with one output per expert: the paper's perceptive router."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import Encoder, SentenceEncoder
from tryage.errors import PredictorError, missing_extra
from tryage.paths import check_folder, user_path
from tryage.predictors.linear import LinearPredictor
from tryage.predictors.targets import LOSS, Vectors, training_targets
from tryage.scores import ScoreTable

if TYPE_CHECKING:
    from tryage.predictors.network import Network


class TransformerPredictor(LinearPredictor):
    """Fine-tunes a network on the losses (extra `hf`); its outputs are the predicted losses.

    Training minimises the squared error of the losses plus the expected regret of choosing by
    them, and stops early on held-out prompts. Standard errors and the other targets come from a
    ridge regression on the fine-tuned vectors. These standard errors ignore the uncertainty of
    the vectors; treat them as lower bounds.

    Args:
        encoder: the pretrained model to start from; its weights are copied, never changed.
        seed: drives training.
        checkpoints: folder of the last epoch's checkpoint, from which training can resume.
        max_tokens: prompts are truncated to this many tokens.
        **recipe: settings of `tryage.predictors.finetuning.Recipe`.
    """

    kind: ClassVar[str] = "transformer"
    slow: ClassVar[bool] = True

    def __init__(
        self,
        encoder: Encoder | None = None,
        *,
        seed: int = 0,
        checkpoints: str | Path | None = None,
        max_tokens: int = 128,
        **recipe: Any,
    ) -> None:
        super().__init__(None, seed=seed)
        self.start = encoder
        self.checkpoints = checkpoints
        self.max_tokens = max_tokens
        self.recipe = recipe
        self._lock = threading.Lock()
        self._stored: tuple[Mapping[str, Any], Mapping[str, NDArray[Any]]] | None = None
        self._network: Network | None = None

    def fit(self, prompts: Sequence[str], table: ScoreTable) -> Self:
        """Fine-tune on the measured losses; cells that are NaN were not measured.

        Raises:
            PredictorError: there is nothing to learn from, an expert was never measured, the
                encoder is not one that can be fine-tuned, or an unknown setting.
            EncoderError: the pretrained model cannot be loaded.
            MissingExtraError: torch or transformers is not installed.
        """
        losses = training_targets(len(prompts), table)[LOSS]
        folder = None if self.checkpoints is None else user_path(self.checkpoints)
        if folder is not None:
            check_folder(folder)
        if not isinstance(self.start, SentenceEncoder):
            encoder = "none" if self.start is None else repr(self.start.name)
            raise PredictorError(
                f"predictor 'transformer' fine-tunes a transformers model, and the encoder is "
                f"{encoder}; name one, such as sentence-transformers/all-MiniLM-L6-v2 or a folder"
            )
        try:
            from tryage.predictors.finetuning import FineTuning, Recipe
            from tryage.predictors.network import Network
        except ImportError as error:
            raise missing_extra("hf", "the predictor 'transformer'") from error
        try:
            recipe = Recipe(**self.recipe)
        except TypeError as error:
            raise PredictorError(f"unknown setting of predictor 'transformer': {error}") from error
        self._network = Network.start(
            self.start.model,
            revision=self.start.revision,
            download=self.start.download,
            max_tokens=self.max_tokens,
        )
        training = FineTuning(
            self._network,
            prompts,
            losses,
            recipe,
            seed=self.seed,
            checkpoints=folder,
            on_epoch=self.on_epoch,
        )
        coefficients, intercepts, self.history_ = training.run()
        self._stored = None
        self.fit_vectors(self._encode(prompts), table)
        self.fitted_[LOSS] |= {"coefficients": coefficients, "intercepts": intercepts}
        return self

    def _encode(self, prompts: Sequence[str]) -> Vectors:
        return self._built().encode(prompts)

    def _built(self) -> Network:
        """Return the network, built on first use, so that loading a router needs no torch."""
        with self._lock:
            if self._network is None:
                if self._stored is None:
                    self._check_fitted()
                    raise PredictorError("this TransformerPredictor has no network; fit it again")
                try:
                    from tryage.predictors.network import Network
                except ImportError as error:
                    raise missing_extra("hf", "the predictor 'transformer'") from error
                self._network = Network.restore(*self._stored)
                self._stored = None
            return self._network

    @classmethod
    def _settings(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"max_tokens": int(config["max_tokens"]), **config["recipe"]}

    def _config(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "history": self.history_,
            **self._built().config(),
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | self._built().arrays()

    def _restore(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        super()._restore(config, arrays)
        self.history_ = [float(value) for value in config["history"]]
        stored = {k: np.asarray(v) for k, v in arrays.items() if k.startswith("network.")}
        architecture = {"architecture": config["architecture"], "max_tokens": self.max_tokens}
        self._stored = (architecture, stored | {"tokenizer": np.asarray(arrays["tokenizer"])})
