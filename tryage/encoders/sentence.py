"""Any sentence-transformers model as an encoder (extra `hf`)."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from tryage.encoders.base import prepare_all
from tryage.encoders.surface import FEATURES, surface_vector
from tryage.errors import EncoderError, missing_extra
from tryage.hub import HubError, cached_snapshot, fetch_snapshot


class SentenceEncoder:
    """A sentence-transformers model, loaded at first use (extra `hf`).

    Weights are read as safetensors only; a model with a module of pickled weights, or with a
    module that is not sentence-transformers' own, is refused.

    Args:
        model: Hub id or folder.
        revision: pins a Hub model to a commit.
        download: fetch the model from the Hub when it is not in the local cache.
        device: where it runs.
        surface: mean, deviation and weight of each of `tryage.encoders.surface.FEATURES`, which
            are then joined to the vectors; None: the model's vectors alone.
        local: whether `model` may name a folder; False takes it for a Hub id.

    Raises:
        EncoderError: `surface` is not three numbers for each feature.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        revision: str | None = None,
        download: bool = False,
        device: str = "cpu",
        surface: Sequence[Sequence[float]] | None = None,
        local: bool = True,
    ) -> None:
        if surface is not None and np.shape(surface) != (len(FEATURES), 3):
            raise EncoderError(
                f"encoder {str(model)!r}: surface has shape {np.shape(surface)}, but this version "
                f"knows {len(FEATURES)} features and needs ({len(FEATURES)}, 3)"
            )
        self.surface = None if surface is None else [(m, d, w) for m, d, w in surface]
        self.model = os.path.expanduser(str(model))
        self.revision = revision
        self.download = download
        self.device = device
        self.local = local

    @property
    def name(self) -> str:
        """Name of the encoder in reports: the model's id or folder."""
        return self.model

    @property
    def dim(self) -> int:
        """Length of a vector; loads the model."""
        network = self._network
        renamed = hasattr(network, "get_embedding_dimension")
        older = "get_sentence_embedding_dimension"
        network_dim = int(getattr(network, "get_embedding_dimension" if renamed else older)())
        return network_dim + (0 if self.surface is None else len(FEATURES))

    @functools.cached_property
    def _network(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise missing_extra("hf", f"the encoder {self.model!r}") from error
        folder = self._folder()
        _refuse_pickles(folder, self.model)
        _refuse_code(folder, self.model)
        try:
            return SentenceTransformer(
                str(folder),
                device=self.device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except _LOADING_FAULTS as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EncoderError(
                f"encoder {self.model!r}: {str(folder)!r} could not be loaded as a "
                f"sentence-transformers model: {type(error).__name__}: {reason}"
            ) from error

    def _folder(self) -> Path:
        """Where the model's files lie, fetched only if that was asked for."""
        if self.local and Path(self.model).is_dir():
            return Path(self.model)
        fetch = fetch_snapshot if self.download else cached_snapshot
        try:
            folder = fetch(self.model, self.revision)
        except HubError as error:
            raise self._not_fetched(error) from error
        if folder is None:
            raise EncoderError(
                f"encoder {self.model!r} is neither a folder nor whole in the local Hub cache; "
                f"fetch it with download=True (--download), as in "
                f"SentenceEncoder({self.model!r}, download=True), or use 'static'"
            )
        return folder

    def _not_fetched(self, error: HubError) -> EncoderError:
        return EncoderError(f"encoder {self.model!r} could not be fetched: {error}")

    def encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per prompt, shape (n_prompts, dim).

        Raises:
            EncoderError: the model cannot be loaded.
            MissingExtraError: sentence-transformers is not installed.
            PromptError: `prompts` is a single str, or holds something that is not text.
        """
        texts = prepare_all(prompts)
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        vectors = self._network.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        if self.surface is None:
            return np.asarray(vectors, dtype=np.float32)
        looks = np.array([surface_vector(text, self.surface) for text in texts])
        joined = np.hstack([vectors, looks])
        lengths = np.linalg.norm(joined, axis=1, keepdims=True)
        return (joined / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write nothing; the configuration returned names the model, a folder by its full path."""
        path = Path(self.model)
        model = str(path.resolve()) if self.local and path.is_dir() else self.model
        config: dict[str, Any] = {"kind": "sentence", "model": model}
        if self.surface is not None:
            config["surface"] = [list(scale) for scale in self.surface]
        return config | ({"revision": self.revision} if self.revision else {})

    def __repr__(self) -> str:
        return f"SentenceEncoder({self.model!r})"


_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")

_LOADING_FAULTS = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
)
"""What sentence-transformers raises on files that make no model: their contents decide."""


def _refuse_pickles(folder: Path, model: str) -> None:
    """Refuse a model one of whose modules would be read from a pickle, which can run code.

    sentence-transformers asks only the Transformer module for safetensors; the others, a Dense
    layer for one, take a `pytorch_model.bin` where they find no `model.safetensors`.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _PICKLES or not path.is_file():
            continue
        twin = {
            "pytorch_model.bin": "model.safetensors",
            "adapter_model.bin": "adapter_model.safetensors",
        }.get(path.name, "*.safetensors")
        if not any(path.parent.glob(twin)):
            raise EncoderError(
                f"encoder {model!r}: {str(path)!r} holds pickled weights, which can run code when "
                f"loaded, and no {twin} lies beside it; save the model again with "
                "SentenceTransformer.save(folder, safe_serialization=True), or delete the file "
                "if no module needs it"
            )


def _refuse_code(folder: Path, model: str) -> None:
    """Refuse modules from elsewhere: importing a class that a file names runs code it chose.

    Older versions of sentence-transformers import what a local folder asks for.
    """
    for path, kind in _module_classes(folder):
        if not str(kind).startswith("sentence_transformers."):
            raise EncoderError(
                f"encoder {model!r}: {str(path)!r} asks for the class {kind!r}, which is not one "
                "of sentence-transformers; code that a model names is not run. Use another model"
            )


def _module_classes(folder: Path) -> Iterator[tuple[Path, object]]:
    """Every class that the files of a model name as a module, with the file."""
    for path in (folder / "modules.json", *sorted(folder.rglob("*config.json"))):
        try:
            data = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue  # missing or not JSON: loading raises if it matters
        if path.name == "modules.json" and isinstance(data, list):
            yield from ((path, entry.get("type")) for entry in data if isinstance(entry, dict))
        elif isinstance(data, dict) and isinstance(data.get("types"), dict):
            yield from ((path, kind) for kind in data["types"].values())
