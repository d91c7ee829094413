"""An encoder that caches the vectors of some prompts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tryage.encoders.base import Encoder
from tryage.prompts import prompt_list


class CachedEncoder:
    """Encodes some prompts once, at first use, and caches their vectors.

    Args:
        encoder: encodes the prompts; any other prompt is encoded at every call.
        prompts: the prompts whose vectors are cached.
    """

    def __init__(self, encoder: Encoder, prompts: Sequence[str]) -> None:
        self._encoder = encoder
        self._rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}

    @functools.cached_property
    def _vectors(self) -> NDArray[np.float32]:
        return self._encoder.encode(list(self._rows))

    @property
    def behind(self) -> Encoder:
        """The encoder whose vectors are cached."""
        return self._encoder

    @property
    def name(self) -> str:
        """The name of that encoder."""
        return self._encoder.name

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._encoder.dim

    def encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per prompt, shape (n_prompts, dim), of unit length or all zero."""
        prompts = prompt_list(prompts)
        rows = [self._rows.get(prompt) for prompt in prompts]
        cached = [row for row in rows if row is not None]
        return self._vectors[cached] if len(cached) == len(rows) else self._encoder.encode(prompts)

    def save(self, folder: Path) -> dict[str, Any]:
        """Save the encoder without the cached vectors."""
        return self._encoder.save(folder)
