"""The experts of a library, loaded when first used."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from tryage.errors import TaskError
from tryage.library import Expert, Library
from tryage.runtime.answers import Answer
from tryage.runtime.fill_mask import FillMaskPipeline
from tryage.runtime.generation import Prompt, TextGenerationPipeline
from tryage.runtime.models import check_runnable, load_pipeline, locate

_PIPELINES: dict[str, type[TextGenerationPipeline] | type[FillMaskPipeline]] = {
    kind.task: kind for kind in (TextGenerationPipeline, FillMaskPipeline)
}
"""Task → the pipeline that does it."""


class Runtime:
    """Runs the experts of a library as Hugging Face pipelines in this process.

    A model is loaded at its first use and kept. Weights are read as safetensors only, no code
    from a model folder is run, and nothing is fetched unless `download` is set.

    Args:
        library: the experts.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, or ``"auto"``.
        dtype: ``"auto"`` keeps the weights' own type; else ``"float32"``, ``"bfloat16"`` and so on.
        download: whether a Hub model that is not in the local cache may be fetched.
    """

    def __init__(
        self, library: Library, *, device: str = "cpu", dtype: str = "auto", download: bool = False
    ) -> None:
        self.library = library
        self.device = device
        self.dtype = dtype
        self.download = download
        self._pipelines: dict[str, TextGenerationPipeline | FillMaskPipeline] = {}
        self._locks: dict[str, threading.Lock] = {name: threading.Lock() for name in library.names}

    def check(self, name: str) -> Path:
        """Look whether an expert could be loaded, without loading it.

        Returns:
            The local folder of its model.

        Raises:
            LibraryError: the library has no expert of that name.
            ModelNotFoundError: its folder does not exist or holds no model, or its Hub model is
                not in the local cache and `download` is not set.
            TaskError: the runtime does not know its task.
            ExpertError: it is served by an endpoint.
        """
        expert = self.library[name]
        check_runnable(expert)
        return locate(self.library, expert, download=self.download)

    def load(self, name: str) -> TextGenerationPipeline | FillMaskPipeline:
        """Return an expert's pipeline, loading it if this is its first use.

        Raises:
            LibraryError, ModelNotFoundError, TaskError, ExpertError: as for `check`.
            MissingExtraError: torch or transformers is not installed.
        """
        expert = self.library[name]
        with self._locks[name]:
            if name not in self._pipelines:
                self._pipelines[name] = self._load(expert)
            return self._pipelines[name]

    def _load(self, expert: Expert) -> TextGenerationPipeline | FillMaskPipeline:
        check_runnable(expert)
        folder = locate(self.library, expert, download=self.download)
        pipe = load_pipeline(expert, folder, device=self.device, dtype=self.dtype)
        return _PIPELINES[expert.task](expert, pipe)

    def unload(self, name: str) -> None:
        """Forget an expert's pipeline; its memory is free once no call uses it."""
        with self._locks[name]:
            self._pipelines.pop(name, None)

    def run(self, name: str, prompt: Prompt, **options: Any) -> Answer:
        """Answer a prompt with an expert, by its task; options as its pipeline takes them."""
        pipeline = self.load(name)
        if isinstance(pipeline, TextGenerationPipeline):
            return pipeline.generate(prompt, **options)
        return pipeline.fill(_plain(pipeline, prompt))

    async def arun(self, name: str, prompt: Prompt, **options: Any) -> Answer:
        """Answer a prompt with an expert; the event loop stays free, loading included."""
        import asyncio

        pipeline = await asyncio.to_thread(self.load, name)
        if isinstance(pipeline, TextGenerationPipeline):
            return await pipeline.agenerate(prompt, **options)
        return await pipeline.afill(_plain(pipeline, prompt))


def _plain(pipeline: FillMaskPipeline, prompt: Prompt) -> str:
    if not isinstance(prompt, str):
        raise TaskError(
            f"expert {pipeline.expert.name!r} does {pipeline.task}, which takes text, not messages"
        )
    return prompt
