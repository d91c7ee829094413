"""An encoder made from the training text itself: latent semantic analysis, no labels, no torch.

The experts of the quickstart differ in what a general encoder of meaning looks past: indentation,
punctuation, spelling. So the router looks through token vectors that come from the same text as
the experts. Each token's vector says in which windows of text it occurs: the leading right
singular vectors of the window × token matrix of weighted counts (Deerwester et al., 1990).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer

from tryage.encoders import StaticEncoder

_SILENT = ("[PAD]", "[MASK]")
_WINDOW = 400  # characters
_OVERSAMPLED = 16
_POWER_ITERATIONS = 3


def train_encoder(
    domains: Iterable[Sequence[str]],
    *,
    dim: int = 64,
    vocabulary: int = 4096,
    windows: int = 800,
    seed: int = 0,
) -> StaticEncoder:
    """Train a static encoder on unlabelled text.

    Args:
        domains: for each domain the texts of its training files; every domain weighs the same.
        dim: length of a vector.
        vocabulary: tokens of its byte-level tokenizer.
        windows: at most this many windows of text per domain.
        seed: of the randomized decomposition.

    Returns:
        The encoder; ``save`` writes it into the router's folder as it does the bundled one.
    """
    pieces = [piece for texts in domains for piece in _windows("\n".join(texts), windows)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SILENT),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pieces, trainer)
    counts = np.zeros((len(pieces), tokenizer.get_vocab_size()), dtype=np.float32)
    for row, encoding in zip(counts, tokenizer.encode_batch(pieces), strict=True):
        np.add.at(row, encoding.ids, 1.0)
    rarity = np.log((1.0 + len(pieces)) / (1.0 + (counts > 0).sum(axis=0))).astype(np.float32)
    counts *= rarity
    counts /= np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)
    directions = _right_singular_vectors(counts, min(dim, *counts.shape), seed)
    # Each token's vector uses the whole range of int8; a token that never occurs stays zero.
    steps = np.maximum(np.abs(directions).max(axis=1) / 127.0, 1e-12)  # (tokens,)
    vectors = np.rint(directions / steps[:, None]).astype(np.int8)
    weights = (steps * rarity).astype(np.float32)
    return StaticEncoder(tokenizer, vectors, weights, name="quickstart")


def _windows(text: str, count: int) -> list[str]:
    """Cut at most `count` windows, evenly spread over the text."""
    number = max(1, min(count, len(text) // _WINDOW))
    starts = (index * (len(text) - _WINDOW) // number for index in range(number))
    return [text[max(0, start) : max(0, start) + _WINDOW] for start in starts]


def _right_singular_vectors(
    matrix: NDArray[np.float32], count: int, seed: int
) -> NDArray[np.float32]:
    """Leading right singular vectors, (columns, count), by subspace iteration."""
    rng = np.random.default_rng(seed)
    width = min(count + _OVERSAMPLED, *matrix.shape)
    basis = rng.standard_normal((matrix.shape[1], width)).astype(np.float32)
    for _ in range(_POWER_ITERATIONS):
        basis, _ = np.linalg.qr(matrix.T @ (matrix @ basis))
    _, _, rotation = np.linalg.svd(matrix @ basis, full_matrices=False)
    vectors: NDArray[np.float32] = (basis @ rotation.T)[:, :count]
    return vectors
