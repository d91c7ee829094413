"""The static encoder: token vectors and surface features; no torch, no download."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes
from tokenizers import Tokenizer

from tryage.encoders.base import HEAD_CHARACTERS, TAIL_CHARACTERS, prepare_all
from tryage.encoders.surface import FEATURES, surface_vector
from tryage.encoders.wordpiece import Ids, WordCache
from tryage.errors import EncoderError
from tryage.paths import user_path
from tryage.prompts import prompt_list

TOKENIZER_FILE = "tokenizer.json"
VECTORS_FILE = "encoder.safetensors"
CONFIG_FILE = "encoder.json"

_AT_ONCE = 8192
"""Prompts whose tokens are in memory at once."""

_UNKNOWN_TOKEN = "[UNK]"
_SILENT_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")


class StaticEncoder:
    """One vector and one weight per token, and what the prompt looks like.

    A prompt's vector is the weighted sum of its tokens' vectors at unit length, followed by its
    surface features, the whole at unit length again. A prompt without any token has the zero
    vector. Needs neither torch nor a download.

    Args:
        tokenizer: splits a prompt into token ids.
        vectors: int8, shape (n_tokens, dim), one direction per token.
        weights: float, shape (n_tokens,), what a token's vector is multiplied by.
        surface: shape (3, 9): mean, deviation and weight of each feature of
            `tryage.encoders.surface.FEATURES`; None leaves them out.
        name: what the encoder is called in reports.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        vectors: NDArray[np.int8],
        weights: NDArray[np.floating[Any]],
        *,
        surface: NDArray[np.float32] | None = None,
        name: str = "static",
    ) -> None:
        size = tokenizer.get_vocab_size()
        if vectors.ndim != 2 or len(vectors) != size or weights.shape != (size,):
            raise EncoderError(
                f"encoder {name!r}: the tokenizer knows {size} tokens, but vectors have shape "
                f"{vectors.shape} and weights {weights.shape}; the files do not belong together"
            )
        if surface is not None and surface.shape != (3, len(FEATURES)):
            raise EncoderError(
                f"encoder {name!r}: surface has shape {surface.shape}, but this version knows "
                f"{len(FEATURES)} features and needs (3, {len(FEATURES)})"
            )
        if surface is not None and not (surface[1] > 0).all():
            raise EncoderError(f"encoder {name!r}: a surface feature has no deviation above zero")
        self.name = name
        self._surface = surface
        scales = [] if surface is None else zip(*surface.tolist(), strict=True)
        self._scales = [(mean, deviation, weight) for mean, deviation, weight in scales]
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._words = WordCache.of(tokenizer)
        self._vectors = vectors
        self._weights = weights
        self._table = vectors.astype(np.float32) * weights.astype(np.float32)[:, None]
        silent = (tokenizer.token_to_id(token) for token in _SILENT_TOKENS)
        self._table[[token for token in silent if token is not None]] = 0.0

    @classmethod
    def bundled(cls) -> StaticEncoder:
        """Return the encoder that ships with Tryage; loaded once per process."""
        return _bundled()[0]

    @classmethod
    def load(cls, folder: str | Path, *, name: str | None = None) -> StaticEncoder:
        """Load an encoder that `save` wrote.

        Raises:
            EncoderError: a file is missing, cut, or belongs to another encoder.
        """
        folder = user_path(folder)
        if name is None:
            name = str(_read_config(folder).get("name", folder.name))
        return cls.from_files(_read_files(folder), folder, name=name)

    @classmethod
    def from_files(
        cls, files: Mapping[str, bytes], folder: Path, *, name: str = "static"
    ) -> StaticEncoder:
        """Build an encoder from the contents of its files.

        Args:
            files: name → content; others than the encoder's may be among them.
            folder: where they lie, for messages.
            name: what the encoder is called in reports.

        Raises:
            EncoderError: a file is missing, cut, or belongs to another encoder.
        """
        vectors_path = folder / VECTORS_FILE
        for file in (TOKENIZER_FILE, VECTORS_FILE):
            if file not in files:
                raise EncoderError(f"encoder folder {str(folder)!r} has no file {file!r}")
        try:
            arrays = from_bytes(files[VECTORS_FILE])
        except SafetensorError as error:
            raise EncoderError(f"{vectors_path}: not a whole safetensors file: {error}") from error
        if not {"vectors", "weights"} <= arrays.keys():
            raise EncoderError(f"{vectors_path}: needs 'vectors' and 'weights', has {list(arrays)}")
        tokenizer = _read_tokenizer(files[TOKENIZER_FILE], folder / TOKENIZER_FILE)
        surface = arrays.get("surface")
        return cls(tokenizer, arrays["vectors"], arrays["weights"], surface=surface, name=name)

    @classmethod
    def bundled_as(cls, sha256: str) -> StaticEncoder:
        """Return the bundled encoder if its files have not changed since a fit.

        Args:
            sha256: the `bundled_digest` at the time of fitting.

        Raises:
            EncoderError: this version of Tryage ships another one.
        """
        digest = bundled_digest()
        if digest != sha256:
            raise EncoderError(
                f"fitted on a bundled encoder with SHA-256 {sha256[:12]}…, but this version of "
                f"tryage ships {digest[:12]}…; use the version it came with, or fit it again"
            )
        return cls.bundled()

    @property
    def surface(self) -> list[tuple[float, float, float]] | None:
        """Mean, deviation and weight of each surface feature, (features, 3); None without."""
        return self._scales or None

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._table.shape[1]) + (0 if self._surface is None else len(FEATURES))

    def encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per prompt, shape (n_prompts, dim), of unit length or all zero.

        A prompt's vector does not depend on the other prompts of the batch, to the last bit.

        Raises:
            PromptError: `prompts` is a single str, or holds something that is not text.
        """
        prompts = prompt_list(prompts)
        if len(prompts) <= _AT_ONCE:
            return self.pooled(*self.tokenized(prompts))
        starts = range(0, len(prompts), _AT_ONCE)
        parts = (self.tokenized(prompts[start : start + _AT_ONCE]) for start in starts)
        return np.concatenate([self.pooled(texts, token_ids) for texts, token_ids in parts])

    def tokenized(self, prompts: Sequence[str]) -> tuple[list[str], list[Ids]]:
        """Return n prepared prompts, and the token ids of each, without special ones.

        Raises:
            PromptError: `prompts` is a single str, or holds something that is not text.
        """
        texts = prepare_all(prompts)
        return texts, self._token_ids(texts)

    def pooled(self, texts: Sequence[str], token_ids: Sequence[Ids]) -> NDArray[np.float32]:
        """Return the vectors of n prompts from what `tokenized` returned, shape (n, dim)."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for text, ids, row in zip(texts, token_ids, vectors, strict=True):
            total = np.add.reduce(self._table.take(ids, axis=0), axis=0)
            length = math.sqrt(total @ total)
            if length == 0.0:
                continue
            np.divide(total, length, out=row[: len(total)])
            if self._scales:
                row[len(total) :] = surface_vector(text, self._scales)
                row /= math.sqrt(row @ row)
        return vectors

    @property
    def vocabulary(self) -> int:
        """How many tokens the tokenizer knows."""
        return len(self._table)

    def token_vectors(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Return the weighted vectors of tokens, shape (len(ids), dim without surface features)."""
        vectors: NDArray[np.float32] = self._table[ids]
        return vectors

    def unknown_share(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """Return the share of tokens of each prompt that the vocabulary lacks, (n_prompts,)."""
        unknown = self._tokenizer.token_to_id(_UNKNOWN_TOKEN)
        counts, lengths = [], []
        for start in range(0, len(prompts), _AT_ONCE):
            _, token_ids = self.tokenized(prompts[start : start + _AT_ONCE])
            counts += [
                0 if unknown is None else np.count_nonzero(ids == unknown) for ids in token_ids
            ]
            lengths += [len(ids) for ids in token_ids]
        return np.array(counts) / np.maximum(lengths, 1)

    def _token_ids(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of every text, without special ones."""
        words = self._words
        token_ids = [None if words is None else words.ids(text) for text in texts]
        uncached = [row for row, ids in enumerate(token_ids) if ids is None]
        if uncached:
            uncached_texts = [texts[row] for row in uncached]
            encodings = self._tokenizer.encode_batch_fast(uncached_texts, add_special_tokens=False)
            for row, encoding in zip(uncached, encodings, strict=True):
                token_ids[row] = np.array(encoding.ids, dtype=np.int32)
        return [ids for ids in token_ids if ids is not None]

    def save(self, folder: Path) -> dict[str, Any]:
        """Write tokenizer and vectors into a folder; return the configuration."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TOKENIZER_FILE).write_text(self._tokenizer.to_str(), encoding="utf-8")
        arrays = {"vectors": self._vectors, "weights": self._weights}
        if self._surface is not None:
            arrays["surface"] = self._surface
        whole = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        (folder / VECTORS_FILE).write_bytes(to_bytes(whole))
        return {
            "kind": "static",
            "name": self.name,
            "dim": self.dim,
            "cut": {"head": HEAD_CHARACTERS, "tail": TAIL_CHARACTERS},
        }

    def __repr__(self) -> str:
        return f"StaticEncoder(name={self.name!r}, dim={self.dim})"


_BUNDLED = Path(__file__).parents[1] / "pretrained" / "static"


@functools.cache
def _bundled() -> tuple[StaticEncoder, str]:
    """Return the bundled encoder, and the digest of its files."""
    files = _read_files(_BUNDLED)
    digest = hashlib.sha256()
    for name in (TOKENIZER_FILE, VECTORS_FILE):
        digest.update(files[name])
    name = str(_read_config(_BUNDLED).get("name", _BUNDLED.name))
    return StaticEncoder.from_files(files, _BUNDLED, name=name), digest.hexdigest()


def bundled_digest() -> str:
    """Return the SHA-256, in hex, of the bundled encoder's tokenizer and vectors."""
    return _bundled()[1]


def _read_files(folder: Path) -> dict[str, bytes]:
    paths = (folder / name for name in (TOKENIZER_FILE, VECTORS_FILE))
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def _read_tokenizer(data: bytes, path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(data.decode("utf-8"))
    except Exception as error:  # the library raises nothing more precise
        raise EncoderError(f"{path}: not a tokenizer file: {error}") from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise EncoderError(f"{path}: not a JSON file: {error}") from error
    return config if isinstance(config, dict) else {}
