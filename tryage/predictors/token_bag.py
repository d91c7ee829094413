"""Bags of tokens, token pairs and characters, and the small networks on them; numpy alone."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import StaticEncoder
from tryage.predictors.targets import Vectors

Indices = NDArray[np.int64]
Tokens = Sequence[int] | NDArray[np.int32]

PAIRS = 1 << 16
"""Buckets that pairs of neighbouring tokens are hashed to."""

CHARACTERS = 1 << 13
"""Buckets that short runs of characters beyond Latin script are hashed to."""

FEWEST_PROMPTS = 3
"""Training prompts that a feature must occur in; rarer ones are left out."""

MOST_ROWS = 40_000
"""Features with a vector of their own at most, so that a saved router stays below 8 MB."""

_BEYOND_LATIN = re.compile(r"[^\x00-\u024f\u2000-\u206f]+")
_LONGEST_RUN = 3
_MOST_RUNS = 4096
_MULTIPLIER, _MIXER, _SHIFT = 1_000_003, 2_654_435_761, 7


def feature_ids(text: str, token_ids: Tokens, vocabulary: int) -> Indices:
    """Return the features of a text: its tokens, pairs of them, and characters beyond Latin.

    Word pieces tell most scripts apart badly or not at all, so runs of one to three characters
    beyond Latin script stand beside them.

    Args:
        text: prepared by the encoder.
        token_ids: its tokens.
        vocabulary: how many tokens the tokenizer knows.

    Returns:
        Ids below ``vocabulary + PAIRS + CHARACTERS``, in order of occurrence, with repetitions.
    """
    tokens = np.array(token_ids, dtype=np.int64)
    mixed = ((tokens[:-1] * _MULTIPLIER + tokens[1:]) * _MIXER >> _SHIFT) & (PAIRS - 1)
    parts = [tokens, mixed + vocabulary]
    if not text.isascii() and (runs := _character_runs(text)):
        parts.append(np.array(runs, dtype=np.int64) + (vocabulary + PAIRS))
    return np.concatenate(parts)


def _character_runs(text: str) -> list[int]:
    """Return the buckets of all runs of one to three characters within words beyond Latin."""
    runs: list[int] = []
    for word in _BEYOND_LATIN.findall(text):
        for start in range(len(word)):
            for length in range(1, min(_LONGEST_RUN, len(word) - start) + 1):
                run = word[start : start + length]
                runs.append(zlib.crc32(run.encode()) & (CHARACTERS - 1))
        if len(runs) >= _MOST_RUNS:
            break
    return runs[:_MOST_RUNS]


@dataclass(frozen=True, eq=False)
class TokenBag:
    """Turns prompts into the hidden layers of small networks on bags of features.

    A network adds up the vectors of a text's features, brings the sum to unit length, joins it
    with the vector of the static encoder, and applies one layer of rectified units.

    Attributes:
        keys: (rows,) the features that have vectors, ascending.
        table: int8, (rows, networks, dim), the vectors, each divided by its scale.
        scales: float32, (rows, networks), what `table` is multiplied by.
        bag_weights: float32, (networks, dim, hidden), of the sums.
        static_weights: float32, (networks, static dim, hidden), of the static encoder's vectors.
        offsets: float32, (networks, hidden).
        vocabulary: tokens that the encoder's tokenizer knows.

    Raises:
        ValueError, IndexError: the arrays do not fit together.
    """

    keys: Indices
    table: NDArray[np.int8]
    scales: Vectors
    bag_weights: Vectors
    static_weights: Vectors
    offsets: Vectors
    vocabulary: int

    def __post_init__(self) -> None:
        rows, networks, dim = self.table.shape
        hidden = self.offsets.shape[1]
        static = self.static_weights.shape[1]
        expected = {
            "keys": (rows,),
            "scales": (rows, networks),
            "bag_weights": (networks, dim, hidden),
            "static_weights": (networks, static, hidden),
            "offsets": (networks, hidden),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} of shape {getattr(self, name).shape}, expected {shape}")
        # The last row stands for all features without a vector.
        row_of = np.full(self.vocabulary + PAIRS + CHARACTERS, rows, dtype=np.int32)
        row_of[self.keys] = np.arange(rows, dtype=np.int32)
        vectors = np.zeros((rows + 1, networks * dim), dtype=np.float32)
        vectors[:-1] = (self.table * self.scales[:, :, None]).reshape(rows, -1)
        object.__setattr__(self, "_row_of", row_of)
        object.__setattr__(self, "_vectors", vectors)

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]], vocabulary: int) -> TokenBag:
        """Rebuild a bag from what `arrays` returned.

        Raises:
            KeyError, ValueError, IndexError: they are incomplete or do not fit together.
        """
        return cls(**{name: arrays[f"bag.{name}"] for name in _ARRAYS}, vocabulary=vocabulary)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what is stored, by name."""
        return {f"bag.{name}": getattr(self, name) for name in _ARRAYS}

    @property
    def width(self) -> int:
        """Length of the hidden layers of all networks together."""
        return int(self.offsets.size)

    def hidden(self, texts: Sequence[str], token_ids: Sequence[Tokens], static: Vectors) -> Vectors:
        """Return the hidden layers of n prompts, joined, (n, width).

        Args:
            texts: n prepared prompts.
            token_ids: the tokens of each.
            static: their vectors by the static encoder, (n, static dim).
        """
        networks, dim, _ = self.bag_weights.shape
        row_of, vectors = self._row_of, self._vectors  # type: ignore[attr-defined]
        sums = np.empty((len(texts), networks * dim), dtype=np.float32)
        for text, ids, total in zip(texts, token_ids, sums, strict=True):
            rows = row_of.take(feature_ids(text, ids, self.vocabulary))
            np.add.reduce(vectors.take(rows, axis=0), axis=0, out=total)
        sums = sums.reshape(len(texts), networks, dim).transpose(1, 0, 2)  # (networks, n, dim)
        lengths = np.sqrt(np.square(sums).sum(axis=2, keepdims=True))
        units = sums / np.maximum(lengths, 1e-12)
        layer = units @ self.bag_weights + static @ self.static_weights + self.offsets[:, None]
        hidden: Vectors = np.maximum(layer, 0.0).transpose(1, 0, 2).reshape(len(texts), self.width)
        return hidden


_ARRAYS = ("keys", "table", "scales", "bag_weights", "static_weights", "offsets")


def common_features(features: Sequence[NDArray[np.integer[Any]]]) -> Indices:
    """Return the features that enough texts have, the most frequent `MOST_ROWS`, ascending."""
    counts = Counter[int]()
    for ids in features:
        counts.update(np.unique(ids).tolist())
    # Equally frequent features come in order of their ids, whatever the order of the texts.
    ranked = sorted((-count, key) for key, count in counts.items() if count >= FEWEST_PROMPTS)
    return np.array(sorted(key for _, key in ranked[:MOST_ROWS]), dtype=np.int64)


def quantized(table: Vectors) -> tuple[NDArray[np.int8], Vectors]:
    """Return float vectors (rows, networks, dim) as int8, and their scales (rows, networks)."""
    scales = np.abs(table).max(axis=2, initial=0.0) / 127.0
    divisors = np.where(scales > 0, scales, 1.0)[:, :, None]
    return np.rint(table / divisors).astype(np.int8), scales.astype(np.float32)


def token_vectors(encoder: StaticEncoder, keys: Indices, dim: int, seed: int) -> Vectors:
    """Return the vectors that training starts from, (len(keys), dim).

    Tokens start from a random projection of the encoder's vectors, everything else from zero.
    """
    start = np.zeros((len(keys), dim), dtype=np.float32)
    are_tokens = keys < encoder.vocabulary
    pretrained = encoder.token_vectors(keys[are_tokens])
    rng = np.random.default_rng([seed, 14])
    projection = rng.standard_normal((pretrained.shape[1], dim)) / np.sqrt(dim)
    start[are_tokens] = (pretrained @ projection).astype(np.float32)
    return start
