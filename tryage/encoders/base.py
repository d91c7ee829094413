"""The encoder protocol, and how every encoder prepares a prompt.

Prompts longer than 10,000 characters are cut: the first 8,000 characters and the last 2,000
stay. That bounds the time of a decision and keeps both the instruction that opens a long prompt and
the question that closes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tryage.errors import PromptError
from tryage.prompts import prompt_list

HEAD_CHARACTERS = 8_000
TAIL_CHARACTERS = 2_000


@runtime_checkable
class Encoder(Protocol):
    """Turns prompts into vectors, which predictors compare by cosine."""

    @property
    def name(self) -> str:
        """The encoder's name in reports."""

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


def prepare_all(prompts: Sequence[str]) -> list[str]:
    """Prepare every prompt of a sequence.

    Raises:
        PromptError: `prompts` is a single str, or holds something that is not text.
    """
    return [prepare(prompt) for prompt in prompt_list(prompts)]
