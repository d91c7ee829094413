"""Prompt → vector: the bundled static encoder, and any sentence-transformers model.

Prompts longer than 10,000 characters are cut before anything reads them: the first 8,000
characters and the last 2,000 stay. So the time of a decision has a ceiling, and both the
instruction that opens a long prompt and the question that closes it are seen.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes
from tokenizers import Tokenizer

from tryage.errors import EncoderError, PromptError, did_you_mean, missing_extra

HEAD_CHARACTERS = 8_000
TAIL_CHARACTERS = 2_000
TOKENIZER_FILE = "tokenizer.json"
VECTORS_FILE = "encoder.safetensors"
CONFIG_FILE = "encoder.json"

_SILENT_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")


@runtime_checkable
class Encoder(Protocol):
    """Turns prompts into vectors; predictors compare those by their cosine."""

    @property
    def name(self) -> str:
        """What the encoder is called in reports."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    def encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per prompt, shape (n_prompts, dim), of unit length or all zero."""

    def save(self, folder: Path) -> dict[str, Any]:
        """Write what `load_encoder` needs into a folder; return its configuration as JSON."""


def prepare(prompt: str) -> str:
    """Cut a long prompt and replace what UTF-8 cannot hold (lone surrogates).

    Raises:
        PromptError: the prompt is not text.
    """
    if not isinstance(prompt, str):
        raise PromptError(f"a prompt must be text (str), found {type(prompt).__name__}")
    if len(prompt) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        prompt = f"{prompt[:HEAD_CHARACTERS]} {prompt[-TAIL_CHARACTERS:]}"
    return prompt if prompt.isascii() else prompt.encode("utf-8", "replace").decode("utf-8")


def _prepare_all(prompts: Sequence[str]) -> list[str]:
    if isinstance(prompts, str):
        raise PromptError("expected a sequence of prompts, found one str; wrap it in a list")
    return [prepare(prompt) for prompt in prompts]


class StaticEncoder:
    """One vector and one weight per token; a prompt is the weighted sum, at unit length.

    Needs neither torch nor a download. A prompt without any known token has the zero vector.

    Args:
        tokenizer: splits a prompt into token ids.
        vectors: int8, shape (n_tokens, dim), one direction per token.
        weights: float, shape (n_tokens,), what a token's vector is multiplied by.
        name: what the encoder is called in reports.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        vectors: NDArray[np.int8],
        weights: NDArray[np.floating[Any]],
        *,
        name: str = "static",
    ) -> None:
        size = tokenizer.get_vocab_size()
        if vectors.ndim != 2 or len(vectors) != size or weights.shape != (size,):
            raise EncoderError(
                f"encoder {name!r}: the tokenizer knows {size} tokens, but vectors have shape "
                f"{vectors.shape} and weights {weights.shape}; the files do not belong together"
            )
        self.name = name
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._vectors = vectors
        self._weights = weights
        self._table = vectors.astype(np.float32) * weights.astype(np.float32)[:, None]
        silent = (tokenizer.token_to_id(token) for token in _SILENT_TOKENS)
        self._table[[token for token in silent if token is not None]] = 0.0

    @classmethod
    def bundled(cls) -> StaticEncoder:
        """Return the encoder that ships with Tryage; loaded once per process."""
        return _bundled()

    @classmethod
    def load(cls, folder: str | Path, *, name: str | None = None) -> StaticEncoder:
        """Load an encoder that `save` wrote.

        Raises:
            EncoderError: a file is missing, cut, or belongs to another encoder.
        """
        folder = Path(folder)
        tokenizer_path, vectors_path = folder / TOKENIZER_FILE, folder / VECTORS_FILE
        for path in (tokenizer_path, vectors_path):
            if not path.is_file():
                raise EncoderError(f"encoder folder {str(folder)!r} has no file {path.name!r}")
        try:
            arrays = load_file(vectors_path)
        except (SafetensorError, OSError) as error:
            raise EncoderError(f"{vectors_path}: not a whole safetensors file: {error}") from error
        if not {"vectors", "weights"} <= arrays.keys():
            raise EncoderError(f"{vectors_path}: needs 'vectors' and 'weights', has {list(arrays)}")
        tokenizer = _read_tokenizer(tokenizer_path)
        if name is None:
            name = str(_read_config(folder).get("name", folder.name))
        return cls(tokenizer, arrays["vectors"], arrays["weights"], name=name)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._table.shape[1])

    def encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per prompt, shape (n_prompts, dim), of unit length or all zero.

        A prompt's vector does not depend on the other prompts of the batch, to the last bit.

        Raises:
            PromptError: `prompts` is a single str, or holds something that is not text.
        """
        texts = _prepare_all(prompts)
        found = np.zeros((len(texts), self.dim), dtype=np.float32)
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        for row, encoding in enumerate(encodings):
            total = self._table.take(encoding.ids, axis=0).sum(axis=0)
            length = float(np.sqrt(total @ total))
            if length > 0.0:
                np.divide(total, length, out=found[row])
        return found

    def save(self, folder: Path) -> dict[str, Any]:
        """Write tokenizer and vectors into a folder; return the configuration."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TOKENIZER_FILE).write_text(self._tokenizer.to_str(), encoding="utf-8")
        arrays = {"vectors": self._vectors, "weights": self._weights}
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


class SentenceEncoder:
    """A sentence-transformers model, loaded at first use (extra `hf`).

    Args:
        model: Hub id or folder.
        revision: pins a Hub model to a commit.
        download: fetch the model from the Hub when it is not in the local cache.
        device: where it runs.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        revision: str | None = None,
        download: bool = False,
        device: str = "cpu",
    ) -> None:
        self.model = str(model)
        self.revision = revision
        self.download = download
        self.device = device

    @property
    def name(self) -> str:
        """What the encoder is called in reports: the model's id or folder."""
        return self.model

    @property
    def dim(self) -> int:
        """Length of a vector; loads the model."""
        network = self._network
        renamed = hasattr(network, "get_embedding_dimension")
        older = "get_sentence_embedding_dimension"
        return int(getattr(network, "get_embedding_dimension" if renamed else older)())

    @functools.cached_property
    def _network(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise missing_extra("hf", f"the encoder {self.model!r}") from error
        try:
            return SentenceTransformer(
                self.model,
                revision=self.revision,
                device=self.device,
                local_files_only=not self.download,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError) as error:
            raise EncoderError(
                f"encoder {self.model!r} could not be loaded: it is neither a folder with a "
                "sentence-transformers model nor in the local Hub cache. Fetch it with "
                f"SentenceEncoder({self.model!r}, download=True), or use 'static'"
            ) from error

    def encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per prompt, shape (n_prompts, dim).

        Raises:
            EncoderError: the model cannot be loaded.
            MissingExtraError: sentence-transformers is not installed.
            PromptError: `prompts` is a single str, or holds something that is not text.
        """
        texts = _prepare_all(prompts)
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        vectors = self._network.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write nothing; the configuration returned names the model, a folder by its full path."""
        path = Path(self.model)
        model = str(path.resolve()) if path.is_dir() else self.model
        config = {"kind": "sentence", "model": model}
        return config | ({"revision": self.revision} if self.revision else {})

    def __repr__(self) -> str:
        return f"SentenceEncoder({self.model!r})"


def resolve_encoder(encoder: str | Path | Encoder) -> Encoder:
    """Return the encoder that a name stands for.

    Args:
        encoder: "static" (the bundled one), the folder of a static encoder, the folder or Hub
            id of a sentence-transformers model, or an encoder, which is returned as it is.

    Raises:
        EncoderError: the name is none of these.
    """
    if not isinstance(encoder, str | Path):
        if isinstance(encoder, Encoder):
            return encoder
        raise EncoderError(f"expected an encoder or its name, found {type(encoder).__name__}")
    if encoder == "static":
        return StaticEncoder.bundled()
    folder = Path(encoder)
    if folder.is_dir():
        static = (folder / VECTORS_FILE).is_file()
        return StaticEncoder.load(folder) if static else SentenceEncoder(folder)
    if str(encoder).count("/") != 1 or str(encoder).startswith((".", "/", "~")):
        hint = did_you_mean(str(encoder), ("static",))
        raise EncoderError(
            f"unknown encoder {str(encoder)!r}: it is not 'static', not a folder and not a Hub "
            f"id such as 'sentence-transformers/all-MiniLM-L6-v2'.{hint}"
        )
    return SentenceEncoder(encoder)


def load_encoder(config: Mapping[str, Any], folder: str | Path) -> Encoder:
    """Load the encoder that `Encoder.save` wrote into a folder.

    Args:
        config: what `save` returned.
        folder: where it wrote its files.

    Raises:
        EncoderError: the kind is unknown, or a file is missing or damaged.
    """
    kind = config.get("kind")
    if kind == "static":
        return StaticEncoder.load(folder, name=str(config.get("name", "static")))
    if kind == "sentence" and "model" in config:
        return SentenceEncoder(config["model"], revision=config.get("revision"))
    raise EncoderError(f"unknown encoder kind {kind!r}; this version knows 'static', 'sentence'")


@functools.cache
def _bundled() -> StaticEncoder:
    return StaticEncoder.load(Path(__file__).parent / "pretrained" / "static")


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing more precise
        raise EncoderError(f"{path}: not a tokenizer file: {error}") from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EncoderError(f"{path}: not a JSON file: {error}") from error
    return config if isinstance(config, dict) else {}
