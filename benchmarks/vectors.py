"""Vectors of an encoder that takes minutes, kept between runs outside the checkout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.encoders import resolve_encoder
from tryage.files import replacing
from tryage.quickstart.workspace import cache_folder

BATCH = 512


class StoredEncoder:
    """A sentence-transformers model whose vectors are kept in Tryage's cache, prompt by prompt.

    Args:
        model: folder of the model; its weights and settings name the file that keeps its vectors.
    """

    def __init__(self, model: str) -> None:
        self.behind = resolve_encoder(model)
        self.name = Path(model).name
        digest = hashlib.sha256((Path(model) / "model.safetensors").read_bytes())
        settings = {k: v for k, v in self.behind.save(Path(model)).items() if k != "model"}
        digest.update(json.dumps(settings, sort_keys=True).encode())
        self._file = cache_folder() / "benchmarks" / f"vectors-{digest.hexdigest()[:16]}.npz"
        self._by_key: dict[str, NDArray[np.float32]] = {}
        if self._file.is_file():
            with np.load(self._file, allow_pickle=False) as stored:
                self._by_key = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.behind.dim

    def encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one unit vector per prompt, shape (n_prompts, dim); new ones are kept."""
        keys = [_key(prompt) for prompt in prompts]
        fresh = {k: p for k, p in zip(keys, prompts, strict=True) if k not in self._by_key}
        lacking = sorted(fresh, key=lambda key: len(fresh[key]))  # alike lengths pad least
        for start in range(0, len(lacking), BATCH):
            part = lacking[start : start + BATCH]
            vectors = self.behind.encode([fresh[key] for key in part])
            self._by_key.update(zip(part, vectors, strict=True))
            self._keep()
        return np.stack([self._by_key[key] for key in keys])

    def save(self, folder: Path) -> dict[str, Any]:
        """Save what names the model; the vectors are not part of it."""
        return self.behind.save(folder)

    def _keep(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._file) as temporary, temporary.open("wb") as file:
            np.savez(
                file, keys=np.array(list(self._by_key)), vectors=np.stack([*self._by_key.values()])
            )


def _key(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cached(
    use: str, prompts: Sequence[str], make: Callable[[], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return an array about some prompts, made once and kept in Tryage's cache."""
    digest = hashlib.sha256("".join(_key(prompt) for prompt in prompts).encode()).hexdigest()
    file = cache_folder() / "benchmarks" / f"{use}-{digest[:16]}.npy"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        made = make()
        with replacing(file) as temporary, temporary.open("wb") as opened:
            np.save(opened, made)
    stored: NDArray[np.float64] = np.load(file, allow_pickle=False)
    return stored
