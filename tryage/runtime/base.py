"""What every local pipeline of the runtime shares: the model, its lock, its place in memory."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, Self

from tryage.errors import ExpertError, PromptError
from tryage.experts import Expert
from tryage.runtime.models import Parts, context_length

MODEL_FAULTS = (IndexError, MemoryError, OSError, RuntimeError, ValueError)
"""What a model call raises where the model, its input or the memory is at fault.

Running out of a GPU's memory is a RuntimeError. A TypeError or an AttributeError is a fault of
the code around the model, and is not among them.
"""


class Cancelled(Exception):
    """The caller gave up before the work began."""


class Cancellation(Protocol):
    """Says whether anybody still waits, as `threading.Event` does."""

    def is_set(self) -> bool:
        """Whether the caller has given up."""
        ...


class ModelMemory(Protocol):
    """Keeps models in memory; `tryage.runtime.memory.Memory` is the one there is."""

    def ensure_loaded(self, pipeline: Pipeline, cancel: Cancellation | None = None) -> None:
        """Load a pipeline's model unless it is loaded."""

    def holding(
        self, pipeline: Pipeline, cancel: Cancellation | None
    ) -> contextlib.AbstractContextManager[None]:
        """Keep a pipeline's model loaded during a `with` block."""
        ...


class Pipeline:
    """One expert. One batch at a time uses its model; others wait their turn.

    The model comes into memory at the first use, and again after it was unloaded.

    Attributes:
        expert: the expert's record in the library.
        context: tokens that the model takes at most, special tokens included.
        unknown_token: the token for what its tokenizer cannot express, if it has one.
        estimate: returns the bytes that the model will take.
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
        """Forget the model. Only the pipeline's `ModelMemory` calls this."""
        self._parts = None

    def prepare(self) -> None:
        """Read off the loaded model what calls need."""
        self.context = context_length(self.expert, self.model, self.tokenizer)
        # Kept, since a tokenizer looks its special tokens up anew each time.
        self.unknown_token = self.tokenizer.unk_token_id

    def twin(self) -> Self:
        """Return a pipeline for another thread: modules and tokenizer of its own, shared weights.

        Both read at the same time. The twin keeps the weights in memory as long as it lives.
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
        """Hold the model in memory and alone, without gradients.

        Raises:
            Cancelled: `cancel` was set while others held the model.
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
        """Return the token ids of a text of any length, without a note about long ones.

        Raises:
            ExpertError: the tokenizer failed.
        """
        return list(self.tokenize(text, add_special_tokens=special)["input_ids"])

    def tokenize(self, text: str | list[str], **options: Any) -> Any:
        """Call the tokenizer on a text of any length, or several, without a note about long ones.

        Raises:
            ExpertError: the tokenizer failed.
        """
        try:
            return self.tokenizer(text, verbose=False, return_attention_mask=False, **options)
        except Exception as error:  # tokenizers raise nothing more precise
            raise self.failure(error) from error

    def failure(self, error: BaseException) -> ExpertError:
        """Name the expert in an error that its model raised; raise the result `from` it."""
        if isinstance(error, ExpertError):
            return error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        return ExpertError(f"expert {self.expert.name!r} failed: {reason}")


class _AlwaysLoaded:
    """The memory of a twin, whose model stays loaded."""

    def ensure_loaded(self, pipeline: Pipeline, cancel: Cancellation | None = None) -> None:
        """Leave the model where it is."""

    def holding(
        self, pipeline: Pipeline, cancel: Cancellation | None
    ) -> contextlib.AbstractContextManager[None]:
        """Keep nothing: the model stays by itself."""
        return contextlib.nullcontext()


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
