"""Base of all local pipelines: the model, its lock, its place in memory."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, Self

from tryage.errors import ExpertError, PromptError
from tryage.experts import Expert
from tryage.prompts import half_character
from tryage.runtime.models import Parts, context_length

MODEL_FAULTS = (IndexError, MemoryError, OSError, RuntimeError, ValueError)
"""What a model call raises if the model, its input or the memory is at fault.

A GPU out of memory raises RuntimeError. TypeError and AttributeError are left out: they are bugs
of the calling code.
"""


class Cancelled(Exception):
    """The caller gave up before the work began."""


class Cancellation(Protocol):
    """Tells whether the caller has given up; `threading.Event` fits."""

    def is_set(self) -> bool:
        """Whether the caller has given up."""
        ...


class ModelMemory(Protocol):
    """Keeps models in memory; `tryage.runtime.memory.Memory` implements it."""

    def ensure_loaded(self, pipeline: Pipeline, cancel: Cancellation | None = None) -> None:
        """Load a pipeline's model if it is not loaded."""

    def holding(
        self, pipeline: Pipeline, cancel: Cancellation | None
    ) -> contextlib.AbstractContextManager[None]:
        """Keep a pipeline's model loaded during a `with` block."""
        ...


class Pipeline:
    """A local expert. One batch at a time uses its model.

    The model is loaded on first use, and again after it was unloaded.

    Attributes:
        expert: the expert's record in the library.
        context: longest input in tokens, including special tokens.
        unknown_token: id of the tokenizer's unknown token, if it has one.
        estimate: returns the bytes that the loaded model takes.
    """

    task: ClassVar[str]
    context: int
    unknown_token: int | None

    def __init__(
        self,
        expert: Expert,
        load: Callable[[], Parts],
        estimate: Callable[[], int],
        memory: ModelMemory,
    ) -> None:
        self.expert = expert
        self.estimate = estimate
        self._load = load
        self._memory = memory
        self._parts: Parts | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        where = "not loaded" if self._parts is None else f"on {self._parts.model.device}"
        return f"<{type(self).__name__} {self.expert.name!r} {where}>"

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory now."""
        return self._parts is not None

    @property
    def model(self) -> Any:
        """Its Transformers model, in evaluation mode."""
        return self._ready().model

    @property
    def tokenizer(self) -> Any:
        """Its Transformers tokenizer."""
        return self._ready().tokenizer

    def _ready(self) -> Parts:
        while (parts := self._parts) is None:
            self._memory.ensure_loaded(self)
        return parts

    def load_model(self) -> None:
        """Load the model. Only the pipeline's `ModelMemory` calls this."""
        self._parts = self._load()
        try:
            self.prepare()
        except BaseException:
            self._parts = None
            raise

    def drop_model(self) -> None:
        """Unload the model. Only the pipeline's `ModelMemory` calls this."""
        self._parts = None

    def prepare(self) -> None:
        """Store what calls need from the loaded model."""
        self.context = context_length(self.expert, self.model, self.tokenizer)
        # Stored, since a tokenizer looks up its special tokens at each access.
        self.unknown_token = self.tokenizer.unk_token_id

    def twin(self) -> Self:
        """Return a pipeline for another thread: own modules and tokenizer, shared weights.

        Both can run at once. The twin keeps the weights in memory as long as it exists.
        """
        parts = self._ready()
        weights = {id(tensor): tensor for tensor in parts.model.parameters()}
        twin = copy.copy(self)
        twin._parts = Parts(copy.deepcopy(parts.model, weights), copy.deepcopy(parts.tokenizer))
        twin._lock = threading.Lock()
        twin._memory = _AlwaysLoaded()
        return twin

    @contextlib.contextmanager
    def turn(self, cancel: Cancellation | None = None) -> Iterator[None]:
        """Give the block exclusive use of the loaded model, without gradients.

        Raises:
            Cancelled: `cancel` was set while others used the model.
        """
        import torch

        with self._memory.holding(self, cancel):
            while not self._lock.acquire(timeout=-1 if cancel is None else 0.05):
                if cancel is not None and cancel.is_set():
                    raise Cancelled
            try:
                with torch.inference_mode():
                    yield
            finally:
                self._lock.release()

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the token ids of a text of any length, without the warning about long ones.

        Raises:
            ExpertError: the tokenizer failed.
        """
        return list(self.tokenize(text, add_special_tokens=special)["input_ids"])

    def tokenize(self, text: str | list[str], **options: Any) -> Any:
        """Call the tokenizer on texts of any length, without the warning about long ones.

        Raises:
            ExpertError: the tokenizer failed.
        """
        try:
            return self.tokenizer(text, verbose=False, return_attention_mask=False, **options)
        except Exception as error:  # tokenizers raise nothing more precise
            raise self.failure(error) from error

    def failure(self, error: BaseException) -> ExpertError:
        """Return an error that names the expert; raise it `from` what the model raised."""
        if isinstance(error, ExpertError):
            return error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        return ExpertError(f"expert {self.expert.name!r} failed: {reason}")


class _AlwaysLoaded:
    """The memory of a twin, whose model stays loaded."""

    def ensure_loaded(self, pipeline: Pipeline, cancel: Cancellation | None = None) -> None:
        """Do nothing: the model is loaded."""

    def holding(
        self, pipeline: Pipeline, cancel: Cancellation | None
    ) -> contextlib.AbstractContextManager[None]:
        """Do nothing: the model stays loaded."""
        return contextlib.nullcontext()


def check_prompt(prompt: object) -> str:
    """Return the prompt after checking that it is text and not blank.

    Raises:
        PromptError: it is not text, blank, or holds half a surrogate pair.
    """
    if not isinstance(prompt, str):
        raise PromptError(f"a prompt must be text, not {type(prompt).__name__}")
    if not prompt.strip():
        raise PromptError("the prompt is empty; there is nothing to answer")
    return check_characters(prompt)


def check_characters(text: str) -> str:
    """Return a text after checking that it holds whole characters only.

    Raises:
        PromptError: it holds half a surrogate pair, which no model can read.
    """
    place = half_character(text)
    if place is not None:
        raise PromptError(f"the prompt holds half a character (at {place}); nothing can read it")
    return text
