"""The runtime: loads and calls the experts of a library."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tryage.checkpoints import weight_bytes
from tryage.consent import Consent, Keys
from tryage.errors import ExpertTimeoutError, TaskError
from tryage.experts import MASK, TEXT_GENERATION, Expert
from tryage.folders import Folders
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
from tryage.runtime.health import ExpertHealth, HealthLog
from tryage.runtime.inputs import Prompt
from tryage.runtime.memory import Memory, parse_bytes
from tryage.runtime.models import (
    ENCODER_DECODER,
    Parts,
    check_runnable,
    load_parts,
    locate,
    model_class,
    resolve_device,
)
from tryage.runtime.streams import AsyncTextStream, Start, TextStream, start_in_thread

_PIPELINES: dict[str, type[Pipeline]] = {
    kind.task: kind
    for kind in (
        FillMaskPipeline,
        TextClassificationPipeline,
        TokenClassificationPipeline,
        ZeroShotClassificationPipeline,
        FeatureExtractionPipeline,
    )
}
"""Task → its pipeline, for all tasks but text generation."""

_GENERATION_OPTIONS = {"max_new_tokens", "stop", "seed", "temperature", "chat"}

AnyPipeline = GenerationPipeline | FillMaskPipeline | AnalysisPipeline | EndpointPipeline


class Runtime:
    """Runs the experts of a library: Hugging Face models in this process, and endpoints.

    A model is loaded on first use and kept as far as the memory budget allows. Weights are read
    as safetensors only, no code from a model folder is run, and nothing is fetched unless
    `download` is set. Safe to use from many threads and event loops. As a context manager it
    unloads all models and closes all connections at the end.

    Args:
        library: the experts.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"``.
        dtype: ``"auto"`` keeps the weights' own type; else ``"float32"``, ``"bfloat16"`` and so on.
        download: whether a Hub model that is not in the local cache may be fetched.
        memory_budget: memory of all models together, in bytes or as text such as ``"8GB"``; the
            least recently used are unloaded to make room. None never unloads.
        batching: how concurrent calls of one model are batched.
        endpoints: time-outs and retries of endpoints.
        keys: for a library that was read from a file: host → environment variable whose value
            may be sent there (``{"api.example.com": "EXAMPLE_KEY"}``), or texts HOST=VARIABLE.
        folders: for a library that was read from a file: folders outside its own whose models may
            be used.

    Raises:
        OptionError: a pair of `keys` is not a host and a variable.
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
        keys: Keys = (),
        folders: Folders = (),
    ) -> None:
        self.library = library
        self.device = device
        self.dtype = dtype
        self.download = download
        self.memory_budget = parse_bytes(memory_budget)
        self.batching = batching or Batching()
        self.endpoints = endpoints or EndpointOptions()
        self.consent = Consent.of(keys, folders)
        self._forget()

    def _forget(self) -> None:
        """Start with nothing loaded."""
        self._memory: Memory | None = None
        self._pipelines: dict[str, AnyPipeline] = {}
        self._creation: dict[str, threading.Lock] = {}
        self._health = HealthLog()
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings: a copy or a pickle loads its models again at first use."""
        loaded = ("_memory", "_pipelines", "_creation", "_health", "_lock")
        return {name: value for name, value in self.__dict__.items() if name not in loaded}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the settings, and start with nothing loaded."""
        self.__dict__.update(state)
        self._forget()

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
        """Check that an expert could be run, without loading or calling it.

        Returns:
            The local folder of its model; None for an endpoint.

        Raises:
            LibraryError: the library has no expert of that name.
            ModelNotFoundError: its folder does not exist or holds no model, or its Hub model is
                not in the local cache and `download` is not set.
            GatedModelError: its Hub model is gated, and its terms were not accepted.
            TaskError: the runtime does not know its task.
            ExpertError: it is served by an endpoint whose key is not in the environment.
            ConsentError: a file asks for a key or a folder that the operator did not allow.
        """
        expert = self.library[name]
        check_runnable(expert)
        if expert.endpoint is not None:
            check_endpoint(expert, self.consent)
            return None
        return self._locate(expert)

    def load(self, name: str) -> AnyPipeline:
        """Return an expert's pipeline, its model loaded.

        The pipeline can be kept: if its model is unloaded meanwhile, its next call loads it again.

        Raises:
            LibraryError, ModelNotFoundError, GatedModelError: as `check`.
            TaskError, ExpertError, ConsentError: as `check`.
            MemoryBudgetError: the model does not fit into memory or into the budget.
            MissingExtraError: torch or transformers is not installed; for an endpoint, httpx.
            ExpertTimeoutError: dispatch gave up while the load waited for memory.
        """
        return self._load(name, CallCancellation())

    def _load(self, name: str, cancel: CallCancellation) -> AnyPipeline:
        pipeline = self._pipeline(name)
        if isinstance(pipeline, Pipeline) and not pipeline.loaded:
            try:
                with self._health.recording(name, is_call=False):
                    self._model_memory().ensure_loaded(pipeline, cancel)
            except Cancelled:
                raise ExpertTimeoutError(f"expert {name!r}: nobody waits for it any more") from None
        return pipeline

    def _pipeline(self, name: str) -> AnyPipeline:
        expert = self.library[name]
        if name in self._pipelines:
            return self._pipelines[name]
        with self._lock:
            creation = self._creation.setdefault(name, threading.Lock())
        # One lock per expert: fetching a model takes minutes, and the others must not wait.
        with creation:
            if name not in self._pipelines:
                self._pipelines[name] = self._create(expert)
            return self._pipelines[name]

    def _create(self, expert: Expert) -> AnyPipeline:
        check_runnable(expert)
        if expert.endpoint is not None:
            return EndpointPipeline(expert, self.endpoints, self.consent)
        folder = self._locate(expert)
        memory = self._model_memory()
        load = functools.partial(self._load_parts, expert, folder)
        estimate = functools.partial(weight_bytes, folder, self.dtype)
        if expert.task != TEXT_GENERATION:
            return _PIPELINES[expert.task](expert, load, estimate, memory)  # type: ignore[return-value]
        is_causal = model_class(expert, folder) != ENCODER_DECODER
        pipeline_class = TextGenerationPipeline if is_causal else EncoderDecoderPipeline
        return pipeline_class(expert, load, estimate, memory, self.batching)

    def _locate(self, expert: Expert) -> Path:
        return locate(self.library, expert, download=self.download, consent=self.consent)

    def _load_parts(self, expert: Expert, folder: Path) -> Parts:
        return load_parts(expert, folder, device=resolve_device(self.device), dtype=self.dtype)

    def _model_memory(self) -> Memory:
        with self._lock:
            if self._memory is None:
                self._memory = Memory(self.memory_budget, resolve_device(self.device))
            return self._memory

    def unload(self, name: str) -> None:
        """Unload an expert's model once no call uses it, or close its connections."""
        with self._lock:
            pipeline = self._pipelines.get(name)
        if isinstance(pipeline, Pipeline):
            self._model_memory().unload(pipeline)
        elif pipeline is not None:
            pipeline.close()

    def warm_up(self, names: Iterable[str] | None = None) -> dict[str, float]:
        """Load experts and let each answer once, so that the first real call is fast.

        Endpoints are not called, since that may cost money. If the memory budget is too small for
        all experts, the last ones stay loaded.

        Args:
            names: which experts; by default all.

        Returns:
            Expert → seconds.
        """
        seconds = {}
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
            seconds[name] = time.perf_counter() - started
        return seconds

    def health(self, name: str) -> ExpertHealth:
        """Return the health of an expert."""
        pipeline = self._pipelines.get(name)
        is_endpoint = self.library[name].endpoint is not None
        ready = is_endpoint or (isinstance(pipeline, Pipeline) and pipeline.loaded)
        size = 0 if self._memory is None else self._memory.sizes().get(name, 0)
        return self._health.get(name, ready=ready, size=size)

    def run(self, name: str, prompt: Prompt, **options: Any) -> Answer:
        """Answer a prompt with an expert, by its task.

        Options are those of its pipeline. Options of text generation, such as `max_new_tokens`,
        are ignored for other tasks.
        """
        pipeline = self.load(name)
        with self._health.recording(name):
            if isinstance(pipeline, GenerationPipeline | EndpointPipeline):
                return pipeline.generate(prompt, **options)
            text = _plain(pipeline, prompt)
            if isinstance(pipeline, FillMaskPipeline):
                return pipeline.fill(text)
            return pipeline.run(text, **_other_options(options))

    async def arun(self, name: str, prompt: Prompt, **options: Any) -> Answer:
        """Answer a prompt with an expert; the event loop stays free, loading included."""
        pipeline = await self.aload(name)
        with self._health.recording(name):
            if isinstance(pipeline, GenerationPipeline | EndpointPipeline):
                return await pipeline.agenerate(prompt, **options)
            text = _plain(pipeline, prompt)
            if isinstance(pipeline, FillMaskPipeline):
                return await pipeline.afill(text)
            return await pipeline.arun(text, **_other_options(options))

    async def aload(self, name: str) -> AnyPipeline:
        """Do what `load` does; the event loop stays free.

        Cancelling returns at once: a load that has begun goes on, one that waits for memory ends.
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
        """Return the pieces of an expert's answer as they come; only text generation has several.

        Nothing is loaded or sent before the first piece is read.
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

        pipeline = self._pipelines.get(name)
        if self.library[name].endpoint is not None:
            pipeline = self._pipeline(name)
        if isinstance(pipeline, GenerationPipeline | EndpointPipeline):
            return pipeline.astream(prompt, **options)

        async def begin() -> Start:
            pipeline = await asyncio.to_thread(self._pipeline, name)
            if isinstance(pipeline, GenerationPipeline):
                return pipeline.starting(prompt, **options)
            return start_in_thread(lambda: self.run(name, prompt, **options))

        return AsyncTextStream(begin)


def _other_options(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in _GENERATION_OPTIONS}


def _plain(pipeline: Pipeline, prompt: Prompt) -> str:
    if not isinstance(prompt, str):
        raise TaskError(
            f"expert {pipeline.expert.name!r} does {pipeline.task}, which takes text, not messages"
        )
    return prompt
