"""What every pipeline of the runtime shares: the loaded model, its lock, its context."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

from tryage.errors import ExpertError, PromptError
from tryage.library import Expert
from tryage.runtime.models import context_length

MODEL_FAULTS = (IndexError, MemoryError, OSError, RuntimeError, ValueError)
"""What a model call raises where the model, its input or the memory is at fault.

Running out of a GPU's memory is a RuntimeError. A TypeError or an AttributeError is a fault of
the code around the model, and is not among them.
"""


class Cancelled(Exception):
    """The caller gave up before the work began."""


class Pipeline:
    """One loaded expert. One call at a time uses the model; the others wait their turn.

    Attributes:
        expert: the expert's record in the library.
        tokenizer: its Transformers tokenizer.
        model: its Transformers model, in evaluation mode.
        context: tokens that the model takes at most, special tokens included.
    """

    task: ClassVar[str]

    def __init__(self, expert: Expert, pipe: Any) -> None:
        self.expert = expert
        self.tokenizer = pipe.tokenizer
        self.model = pipe.model
        self.context = context_length(expert, pipe.model, pipe.tokenizer)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.expert.name!r} on {self.model.device}>"

    @contextlib.contextmanager
    def turn(self, cancel: threading.Event | None = None) -> Iterator[None]:
        """Hold the model alone, without gradients.

        Raises:
            Cancelled: `cancel` was set while others held the model.
        """
        import torch

        while not self._lock.acquire(timeout=-1 if cancel is None else 0.05):
            if cancel is not None and cancel.is_set():
                raise Cancelled
        try:
            with torch.inference_mode():
                yield
        finally:
            self._lock.release()

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the token ids of a text of any length, without a note about long ones.

        Raises:
            ExpertError: the tokenizer failed.
        """
        return list(self.tokenize(text, add_special_tokens=special)["input_ids"])

    def tokenize(self, text: str, **options: Any) -> Any:
        """Call the tokenizer on a text of any length, without a note about long ones.

        Raises:
            ExpertError: the tokenizer failed.
        """
        try:
            return self.tokenizer(text, verbose=False, return_attention_mask=False, **options)
        except Exception as error:  # tokenizers raise nothing more precise
            raise self.failure(error) from error

    def failure(self, error: BaseException) -> ExpertError:
        """Name the expert in an error that its model raised; raise the result `from` it."""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        return ExpertError(f"expert {self.expert.name!r} failed: {reason}")


def check_prompt(prompt: object) -> str:
    """Return the prompt if it is a text that says something.

    Raises:
        PromptError: it is not text, or empty.
    """
    if not isinstance(prompt, str):
        raise PromptError(f"a prompt must be text, not {type(prompt).__name__}")
    if not prompt.strip():
        raise PromptError("the prompt is empty; there is nothing to answer")
    return prompt
