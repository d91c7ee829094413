"""Training of the networks of a `TokenBag` (extra `hf`).

Imported only when one is trained, because it needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tryage.encoders import StaticEncoder
from tryage.predictors.finetuning import FineTuning, Recipe
from tryage.predictors.targets import Floats, Vectors
from tryage.predictors.token_bag import (
    TokenBag,
    common_features,
    feature_ids,
    quantized,
    token_vectors,
)

_AT_ONCE = 8192
"""Prompts whose tokens are in memory at once."""

_TOKEN_DROPOUT, _HIDDEN_DROPOUT = 0.5, 0.2


class _Layers(torch.nn.Module):  # type: ignore[misc]
    """Sum of feature vectors at unit length, joined with a given vector, and one hidden layer."""

    def __init__(self, start: Vectors, static: int, hidden: int) -> None:
        super().__init__()
        self.bag = torch.nn.EmbeddingBag.from_pretrained(
            torch.from_numpy(start), freeze=False, mode="sum"
        )
        self.layer = torch.nn.Linear(start.shape[1] + static, hidden)
        self.dropout = torch.nn.Dropout(_HIDDEN_DROPOUT)

    def forward(self, rows: Any, offsets: Any, static: Any) -> Any:
        weights = torch.ones(len(rows))
        if self.training:
            weights = (torch.rand(len(rows)) >= _TOKEN_DROPOUT).float()
        total = self.bag(rows, offsets, per_sample_weights=weights)
        unit = torch.nn.functional.normalize(total, dim=1)
        return self.dropout(torch.relu(self.layer(torch.cat([unit, static], dim=1))))


class BagNetwork:
    """One network, as `FineTuning` trains it.

    Args:
        rows: text → rows of its features.
        static: text → its vector by the static encoder.
        start: (rows, dim) vectors of the features that training starts from.
        hidden: units of the hidden layer.
        seed: drives the start of the layer.
    """

    def __init__(
        self,
        rows: dict[str, NDArray[np.int32]],
        static: dict[str, Vectors],
        start: Vectors,
        hidden: int,
        seed: int,
    ) -> None:
        self._rows = rows
        self._static = static
        width = len(next(iter(static.values())))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = _Layers(start, width, hidden)
        self._hidden = hidden

    @property
    def dim(self) -> int:
        """Length of the hidden layer."""
        return self._hidden

    def config(self) -> dict[str, Any]:
        """Return what tells one network from another, as JSON types."""
        return {"bag": list(self.model.bag.weight.shape), "hidden": self.dim}

    def vectors(self, texts: Sequence[str]) -> Any:
        """Return the hidden layer of texts as a torch tensor with gradients, (n, dim)."""
        rows = [self._rows[text] for text in texts]
        offsets = np.cumsum([0, *map(len, rows[:-1])])
        static = np.stack([self._static[text] for text in texts])
        joined = torch.from_numpy(np.concatenate(rows).astype(np.int64))
        return self.model(joined, torch.from_numpy(offsets), torch.from_numpy(static))


def train_bags(
    encoder: StaticEncoder,
    prompts: Sequence[str],
    losses: Floats,
    recipe: Recipe,
    *,
    networks: int,
    dim: int,
    hidden: int,
    seed: int,
    on_epoch: Callable[[int, int], None] | None = None,
) -> tuple[TokenBag, Floats, Floats, list[list[float]]]:
    """Train networks on measured losses, each from its own start and on its own split.

    Args:
        encoder: gives tokens, their first vectors, and the vector beside the bag.
        prompts: n texts.
        losses: (n, n_experts), lower is better, NaN where not measured.
        recipe: how to train.
        networks: how many.
        dim: length of a feature's vector in one network.
        hidden: units of the hidden layer of one network.
        seed: drives everything random.
        on_epoch: called with the epochs done and the most epochs of all networks together.

    Returns:
        The bag; coefficients (networks * hidden, n_experts) and intercepts (n_experts,) of the
        losses on its hidden layers, averaged over networks; and the held-out objective of every
        epoch, by network.
    """
    texts, features, vectors = _read(encoder, prompts)
    keys = common_features(features)
    row_of = np.full(int(max((ids.max(initial=0) for ids in features), default=0)) + 1, -1)
    row_of[keys] = np.arange(len(keys))
    rows = {text: _rows(row_of, ids) for text, ids in zip(texts, features, strict=True)}
    del features
    static = dict(zip(texts, vectors, strict=True))
    tables, layers, coefficients, intercepts, histories = [], [], [], [], []
    for number in range(networks):
        start = token_vectors(encoder, keys, dim, seed + number)
        network = BagNetwork(rows, static, start, hidden, seed + number)
        report = None if on_epoch is None else _of_network(on_epoch, number, networks)
        training = FineTuning(network, prompts, losses, recipe, seed=seed + number, on_epoch=report)
        weights, offsets, history = training.run()
        tables.append(network.model.bag.weight.detach().numpy())
        layers.append(network.model.layer)
        coefficients.append(weights / networks)
        intercepts.append(offsets / networks)
        histories.append(history)
    table, scales = quantized(np.stack(tables, axis=1))
    joined = np.stack([layer.weight.detach().numpy().T for layer in layers])
    bag = TokenBag(
        keys=keys,
        table=table,
        scales=scales,
        bag_weights=np.ascontiguousarray(joined[:, :dim]),
        static_weights=np.ascontiguousarray(joined[:, dim:]),
        offsets=np.stack([layer.bias.detach().numpy() for layer in layers]),
        vocabulary=encoder.vocabulary,
    )
    return bag, np.concatenate(coefficients), np.sum(intercepts, axis=0), histories


def _read(
    encoder: StaticEncoder, prompts: Sequence[str]
) -> tuple[list[str], list[NDArray[np.int32]], Vectors]:
    """Return n prepared texts, the features of each, and their static vectors, (n, dim)."""
    texts: list[str] = []
    features: list[NDArray[np.int32]] = []
    vectors = [np.zeros((0, encoder.dim), dtype=np.float32)]
    # In parts, since lists of tokens take several times the memory of their features.
    for start in range(0, len(prompts), _AT_ONCE):
        part, token_ids = encoder.tokenized(prompts[start : start + _AT_ONCE])
        texts += part
        features += [
            feature_ids(text, ids, encoder.vocabulary).astype(np.int32)
            for text, ids in zip(part, token_ids, strict=True)
        ]
        vectors.append(encoder.pooled(part, token_ids))
    return texts, features, np.concatenate(vectors)


def _of_network(
    on_epoch: Callable[[int, int], None], number: int, networks: int
) -> Callable[[int, int], None]:
    """Return what tells of the epochs of one network among several."""
    return lambda done, most: on_epoch(number * most + done, networks * most)


def _rows(row_of: NDArray[np.int64], ids: NDArray[np.int32]) -> NDArray[np.int32]:
    rows = row_of[ids]
    return rows[rows >= 0].astype(np.int32)
