"""Any sentence-transformers model as an encoder (extra `hf`)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.encoders.base import prepare_all
from tryage.errors import EncoderError, missing_extra


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
        texts = prepare_all(prompts)
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
