"""The experts of a library, loaded when first used."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tryage.checkpoints import weight_bytes
from tryage.dispatch import describe_error
from tryage.errors import ExpertError, ExpertTimeoutError, PromptError, TaskError
from tryage.experts import MASK, TEXT_GENERATION, Expert
from tryage.library import Library
from tryage.runtime.analysis import (
    AnalysisPipeline,
    FeatureExtractionPipeline,
    TextClassificationPipeline,
    TokenClassificationPipeline,
    ZeroShotClassificationPipeline,
)
from tryage.runtime.answer import Answer
from tryage.runtime.base import Cancelled, Pipeline
from tryage.runtime.batching import Batching, CallCancellation
from tryage.runtime.endpoint_http import EndpointOptions, check_endpoint
from tryage.runtime.endpoint_streams import AsyncEndpointStream, EndpointStream
from tryage.runtime.endpoints import EndpointPipeline
from tryage.runtime.fill_mask import FillMaskPipeline
from tryage.runtime.generation import (
    EncoderDecoderPipeline,
    GenerationPipeline,
    TextGenerationPipeline,
)
from tryage.runtime.inputs import Prompt
from tryage.runtime.memory import Memory, parse_bytes
from tryage.runtime.models import (
    ENCODER_DECODER,
    check_runnable,
    load_parts,
    locate,
    model_class,
    resolve_device,
)
from tryage.runtime.streams import AsyncTextStream, Start, TextStream, start_in_thread

_READING: dict[str, type[Pipeline]] = {
    kind.task: kind
    for kind in (
        FillMaskPipeline,
        TextClassificationPipeline,
        TokenClassificationPipeline,
        ZeroShotClassificationPipeline,
        FeatureExtractionPipeline,
    )
}
"""Task → the pipeline that does it, where it does not write text."""

_WRITING_OPTIONS = {"max_new_tokens", "stop", "seed", "temperature", "chat"}

AnyPipeline = GenerationPipeline | FillMaskPipeline | AnalysisPipeline | EndpointPipeline


@dataclass(frozen=True, slots=True)
class ExpertHealth:
    """How one expert of a runtime does.

    Attributes:
        state: ``"ready"`` if it can answer at once (an endpoint always can, as far as anybody
            knows), ``"not loaded"``, or ``"failing"`` if its last call or load failed.
        calls: calls that ended, failed ones included.
        failures: calls that failed in a row.
        error: what the last failure was, without secrets; None after an answer.
        seconds: moving average of what its answers took; None before the first.
        bytes: memory that its model is held to take; 0 where it is not loaded.
    """

    state: Literal["ready", "not loaded", "failing"] = "not loaded"
    calls: int = 0
    failures: int = 0
    error: str | None = None
    seconds: float | None = None
    bytes: int = 0


class Runtime:
    """Runs the experts of a library: Hugging Face models in this process, and endpoints.

    A model is loaded at its first use and kept, as far as the memory budget allows. Weights are
    read as safetensors only, no code from a model folder is run, and nothing is fetched unless
    `download` is set. Safe to use from many threads and event loops. A context manager: at its
    end all models are unloaded and connections closed.

    Args:
        library: the experts.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"``.
        dtype: ``"auto"`` keeps the weights' own type; else ``"float32"``, ``"bfloat16"`` and so on.
        download: whether a Hub model that is not in the local cache may be fetched.
        memory_budget: what all models together may take: bytes, or text such as ``"8GB"``; the
            least recently used are unloaded for others. None keeps all that were used.
        batching: how concurrent calls of one model are put together.
        endpoints: time-outs and retries of experts that are served elsewhere.
    """

    def __init__(
        self,
        library: Library,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        download: bool = False,
        memory_budget: int | str | None = None,
        batching: Batching | None = None,
        endpoints: EndpointOptions | None = None,
    ) -> None:
        self.library = library
        self.device = device
        self.dtype = dtype
        self.download = download
        self.memory_budget = parse_bytes(memory_budget)
        self.batching = batching or Batching()
        self.endpoints = endpoints or EndpointOptions()
        self._memory: Memory | None = None
        self._pipelines: dict[str, AnyPipeline] = {}
        self._making: dict[str, threading.Lock] = {}
        self._health: dict[str, ExpertHealth] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unload every model and close every connection; the runtime may be used again."""
        for name in list(self._pipelines):
            self.unload(name)

    def check(self, name: str) -> Path | None:
        """Look whether an expert could be run, without loading or calling it.

        Returns:
            The local folder of its model; None where it is served by an endpoint.

        Raises:
            LibraryError: the library has no expert of that name.
            ModelNotFoundError: its folder does not exist or holds no model, or its Hub model is
                not in the local cache and `download` is not set.
            GatedModelError: its Hub model is gated, and nobody here accepted its terms.
            TaskError: the runtime does not know its task.
            ExpertError: it is served by an endpoint whose key is not in the environment.
        """
        expert = self.library[name]
        check_runnable(expert)
        if expert.endpoint is not None:
            check_endpoint(expert)
            return None
        return locate(self.library, expert, download=self.download)

    def load(self, name: str) -> AnyPipeline:
        """Return an expert's pipeline, its model loaded.

        The pipeline stays good for ever: where its model was unloaded meanwhile, its next call
        loads it again.

        Raises:
            LibraryError, ModelNotFoundError, GatedModelError, TaskError, ExpertError: as `check`.
            MemoryBudgetError: the model does not fit into memory or into the budget.
            MissingExtraError: torch or transformers is not installed; for an endpoint, httpx.
            ExpertTimeoutError: a dispatch gave the call up while others used the memory.
        """
        return self._load(name, CallCancellation())

    def _load(self, name: str, cancel: CallCancellation) -> AnyPipeline:
        pipeline = self._pipeline(name)
        if isinstance(pipeline, Pipeline) and not pipeline.loaded:
            try:
                with self._counting(name, whole=False):
                    self._home().ensure_loaded(pipeline, cancel)
            except Cancelled:
                told = f"expert {name!r}: nobody waits for it any more"
                raise ExpertTimeoutError(told) from None
        return pipeline

    def _pipeline(self, name: str) -> AnyPipeline:
        expert = self.library[name]
        known = self._pipelines.get(name)
        if known is not None:
            return known
        with self._lock:
            making = self._making.setdefault(name, threading.Lock())
        # Fetching a model takes minutes, which calls of the others must not wait for.
        with making:
            if name not in self._pipelines:
                self._pipelines[name] = self._make(expert)
            return self._pipelines[name]

    def _make(self, expert: Expert) -> AnyPipeline:
        check_runnable(expert)
        if expert.endpoint is not None:
            return EndpointPipeline(expert, self.endpoints)
        folder = locate(self.library, expert, download=self.download)
        home = self._home()
        load = functools.partial(self._parts, expert, folder)
        estimate = functools.partial(weight_bytes, folder, self.dtype)
        if expert.task != TEXT_GENERATION:
            return _READING[expert.task](expert, load, estimate, home)  # type: ignore[return-value]
        two_parts = model_class(expert, folder) == ENCODER_DECODER
        kind = EncoderDecoderPipeline if two_parts else TextGenerationPipeline
        return kind(expert, load, estimate, home, self.batching)

    def _parts(self, expert: Expert, folder: Any) -> Any:
        return load_parts(expert, folder, device=resolve_device(self.device), dtype=self.dtype)

    def _home(self) -> Memory:
        with self._lock:
            if self._memory is None:
                self._memory = Memory(self.memory_budget, resolve_device(self.device))
            return self._memory

    def unload(self, name: str) -> None:
        """Take an expert's model out of memory once no call uses it, or close its connections."""
        with self._lock:
            pipeline = self._pipelines.get(name)
        if isinstance(pipeline, Pipeline):
            self._home().unload(pipeline)
        elif pipeline is not None:
            pipeline.close()

    def warm_up(self, names: Iterable[str] | None = None) -> dict[str, float]:
        """Load experts and let each answer once, so that the first real call is a fast one.

        Endpoints are not called, since that may cost money. With a memory budget that is too small
        for all, the last ones stay.

        Args:
            names: which experts; None means all.

        Returns:
            Expert → seconds that it took.
        """
        took = {}
        for name in self.library.names if names is None else names:
            started = time.perf_counter()
            pipeline = self.load(name)
            if isinstance(pipeline, GenerationPipeline):
                pipeline.generate("Hello", max_new_tokens=1)
            elif isinstance(pipeline, FillMaskPipeline):
                pipeline.fill(f"Hello {MASK}")
            elif isinstance(pipeline, ZeroShotClassificationPipeline):
                pipeline.run("Hello", labels=["greeting"])
            elif isinstance(pipeline, AnalysisPipeline):
                pipeline.run("Hello")
            took[name] = time.perf_counter() - started
        return took

    def health(self, name: str) -> ExpertHealth:
        """Return how an expert does."""
        known = self._health.get(name, ExpertHealth())
        pipeline = self._pipelines.get(name)
        served = self.library[name].endpoint is not None
        ready = served or (isinstance(pipeline, Pipeline) and pipeline.loaded)
        size = 0 if self._memory is None else self._memory.sizes().get(name, 0)
        state: Literal["ready", "not loaded", "failing"] = "ready" if ready else "not loaded"
        return replace(known, state="failing" if known.error else state, bytes=size)

    def run(self, name: str, prompt: Prompt, **options: Any) -> Answer:
        """Answer a prompt with an expert, by its task.

        Options are those of its pipeline. Options of writing, such as `max_new_tokens`, are left
        out for a task that does not write.
        """
        pipeline = self.load(name)
        with self._counting(name):
            if isinstance(pipeline, GenerationPipeline | EndpointPipeline):
                return pipeline.generate(prompt, **options)
            text = _plain(pipeline, prompt)
            if isinstance(pipeline, FillMaskPipeline):
                return pipeline.fill(text)
            return pipeline.run(text, **_reading_options(options))

    async def arun(self, name: str, prompt: Prompt, **options: Any) -> Answer:
        """Answer a prompt with an expert; the event loop stays free, loading included."""
        pipeline = await self.aload(name)
        with self._counting(name):
            if isinstance(pipeline, GenerationPipeline | EndpointPipeline):
                return await pipeline.agenerate(prompt, **options)
            text = _plain(pipeline, prompt)
            if isinstance(pipeline, FillMaskPipeline):
                return await pipeline.afill(text)
            return await pipeline.arun(text, **_reading_options(options))

    async def aload(self, name: str) -> AnyPipeline:
        """Do what `load` does; the event loop stays free.

        Who is cancelled does not wait: a load that has begun goes on, one that waits for memory
        ends.
        """
        import asyncio

        pipeline = self._pipelines.get(name)
        if isinstance(pipeline, EndpointPipeline) or (pipeline is not None and pipeline.loaded):
            return pipeline
        cancel = CallCancellation()
        try:
            return await asyncio.to_thread(self._load, name, cancel)
        except asyncio.CancelledError:
            cancel.set()
            raise

    def stream(self, name: str, prompt: Prompt, **options: Any) -> TextStream | EndpointStream:
        """Return the pieces of an expert's answer as they come; a task that reads sends one piece.

        Nothing is loaded or sent before the first piece is asked for.
        """
        pipeline = self._pipeline(name)
        if isinstance(pipeline, GenerationPipeline | EndpointPipeline):
            return pipeline.stream(prompt, **options)
        return TextStream(start_in_thread(lambda: self.run(name, prompt, **options)))

    def astream(
        self, name: str, prompt: Prompt, **options: Any
    ) -> AsyncTextStream | AsyncEndpointStream:
        """Do what `stream` does, for ``async for``; the event loop stays free."""
        import asyncio

        known = self._pipelines.get(name)
        if self.library[name].endpoint is not None:
            known = self._pipeline(name)
        if isinstance(known, GenerationPipeline | EndpointPipeline):
            return known.astream(prompt, **options)

        async def begin() -> Start:
            pipeline = await asyncio.to_thread(self._pipeline, name)
            if isinstance(pipeline, GenerationPipeline):
                return pipeline.starting(prompt, **options)
            return start_in_thread(lambda: self.run(name, prompt, **options))

        return AsyncTextStream(begin)

    def _counting(self, name: str, *, whole: bool = True) -> _Counting:
        return _Counting(self._note, name, whole)

    def _note(self, name: str, error: BaseException | None, seconds: float, whole: bool) -> None:
        with self._lock:
            known = self._health.get(name, ExpertHealth())
            if error is not None:
                self._health[name] = replace(
                    known,
                    calls=known.calls + 1,
                    failures=known.failures + 1,
                    error=describe_error(error),
                )
            elif whole:
                before = seconds if known.seconds is None else known.seconds
                average = before + 0.2 * (seconds - before)
                calls = known.calls + 1
                self._health[name] = replace(
                    known, calls=calls, failures=0, error=None, seconds=average
                )


class _Counting:
    """Notes how a call of an expert went."""

    def __init__(
        self, note: Callable[[str, BaseException | None, float, bool], None], name: str, whole: bool
    ) -> None:
        self._note = note
        self._name = name
        self._whole = whole
        self._started = time.perf_counter()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        # A wrong prompt, or a caller that gave up, says nothing about the expert.
        if error is None or (isinstance(error, ExpertError) and not isinstance(error, PromptError)):
            self._note(self._name, error, time.perf_counter() - self._started, self._whole)


def _reading_options(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in _WRITING_OPTIONS}


def _plain(pipeline: Pipeline, prompt: Prompt) -> str:
    if not isinstance(prompt, str):
        raise TaskError(
            f"expert {pipeline.expert.name!r} does {pipeline.task}, which takes text, not messages"
        )
    return prompt
