"""A score table with its prompts encoded, so that all folds share one pass of the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tryage.encoders import Encoder
from tryage.predictors import PREDICTORS, Prediction, Predictor
from tryage.predictors.features import Inputs
from tryage.predictors.targets import LOSS, Floats
from tryage.predictors.vectors import VectorPredictor
from tryage.scores import ScoreTable

P = TypeVar("P", bound=Predictor)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedTable:
    """A score table, its prompts' vectors, and their encoder.

    Attributes:
        table: n prompts.
        encoder: made the vectors; None for kinds that ignore the prompt.
        vectors: (n, dim); None without an encoder, and for kinds that train a network on the texts.
    """

    table: ScoreTable
    encoder: Encoder | None = None
    vectors: NDArray[np.float32] | None = None

    @classmethod
    def encode(cls, table: ScoreTable, kind: str, encoder: Encoder | None) -> EncodedTable:
        """Encode each different prompt of a table once, where the kind needs vectors."""
        needs_vectors = kind not in PREDICTORS or (
            issubclass(PREDICTORS[kind], VectorPredictor) and not PREDICTORS[kind].slow
        )
        if encoder is None or not needs_vectors:
            return cls(table, encoder)
        row_of = {prompt: row for row, prompt in enumerate(dict.fromkeys(table.prompts))}
        vectors = encoder.encode(list(row_of))
        return cls(table, encoder, vectors[[row_of[prompt] for prompt in table.prompts]])

    def select(self, rows: ArrayLike) -> EncodedTable:
        """Return some rows: indices, or a boolean mask over the prompts."""
        vectors = None if self.vectors is None else self.vectors[np.asarray(rows)]
        return EncodedTable(self.table.select(rows), self.encoder, vectors)

    def with_table(self, table: ScoreTable) -> EncodedTable:
        """Return another table of the same prompts with their vectors."""
        return EncodedTable(table, self.encoder, self.vectors)

    def fit(self, predictor: P) -> P:
        """Fit a predictor on the table."""
        vectors = self._vectors_for(predictor)
        if vectors is not None and isinstance(predictor, VectorPredictor):
            return predictor.fit_vectors(vectors, self.table)
        return predictor.fit(self.table.prompts, self.table)

    def predict(self, predictor: Predictor) -> Prediction:
        """Predict for the table's prompts."""
        vectors = self._vectors_for(predictor)
        if vectors is not None and isinstance(predictor, VectorPredictor):
            return predictor.predict_vectors(vectors)
        return predictor.predict(self.table.prompts)

    def losses(self, predictor: Predictor) -> Floats:
        """Predict the losses that choices are made by, (n, n_experts).

        Prompts that are out of distribution get the averages. Many prompts are predicted in
        parts, so that what is computed on the way fits into memory.
        """
        if len(self.table) > Inputs.WHOLE:
            rows = np.arange(len(self.table))
            parts = np.split(rows, range(Inputs.BLOCK, len(rows), Inputs.BLOCK))
            return np.concatenate([self.select(part).losses(predictor) for part in parts])
        prediction = self.predict(predictor).with_averages(predictor.averages_)
        return prediction.mean[LOSS]

    def _vectors_for(self, predictor: Predictor) -> NDArray[np.float32] | None:
        """Return the vectors; None for a network, which makes its own of the texts."""
        return None if predictor.slow else self.vectors
