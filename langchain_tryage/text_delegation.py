"""Calls of a text model inside a run that is already open.

`BaseLLM.generate` holds the cache and opens the run; so the cache is asked here, under the key
that a direct call of the model uses, and the model's own `_generate` and `_stream` are called.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

from langchain_core.language_models import BaseLLM
from langchain_core.language_models.llms import (
    aget_prompts,
    aupdate_cache,
    get_prompts,
    update_cache,
)
from langchain_core.outputs import GenerationChunk, LLMResult
from langchain_core.runnables import RunnableBinding

from langchain_tryage.delegation import answering, with_stop
from tryage.binding import wrong_expert
from tryage.dispatch import aclose, nothing, present


class TextExpert(NamedTuple):
    """A text model, the call arguments bound to it, and what errors call it."""

    model: BaseLLM
    kwargs: Mapping[str, Any]
    name: str

    @classmethod
    def of(cls, name: str, given: Any) -> TextExpert:
        """Unwrap a text model, or one with bound arguments.

        Raises:
            TypeError: it is something else, or carries a config, which a call inside an open run
                cannot honour.
        """
        kwargs: dict[str, Any] = {}
        model = given
        while isinstance(model, RunnableBinding):
            if any(model.config.values()) or model.config_factories:
                raise TypeError(
                    f"expert {name!r} carries a config; TryageLLM calls experts inside its own "
                    "run. Pass the config to TryageLLM, or use TryageRouter"
                )
            kwargs = {**model.kwargs, **kwargs}
            model = model.bound
        if not isinstance(model, BaseLLM):
            raise wrong_expert(
                name,
                given,
                "TryageLLM takes text models, ChatTryage takes chat models, TryageRouter takes "
                "any runnable",
            )
        return cls(model, kwargs, name)

    def generate(
        self, prompts: list[str], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> LLMResult:
        """Answer prompts, through the model's cache."""
        model = self.model
        given = with_stop(stop, self.kwargs, kwargs)
        params = self._params(given["stop"])
        found, key, rows, missing = get_prompts(params, prompts, model.cache)
        output: dict[str, Any] | None = {}
        if missing:
            with answering(self.name):
                made = model._generate(missing, **given)
                output = update_cache(model.cache, found, key, rows, made, prompts)
        return LLMResult(generations=[found[i] for i in range(len(prompts))], llm_output=output)

    async def agenerate(
        self, prompts: list[str], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> LLMResult:
        """Answer prompts, through the model's cache."""
        model = self.model
        given = with_stop(stop, self.kwargs, kwargs)
        params = self._params(given["stop"])
        found, key, rows, missing = await aget_prompts(params, prompts, model.cache)
        output: dict[str, Any] | None = {}
        if missing:
            with answering(self.name):
                made = await model._agenerate(missing, **given)
                output = await aupdate_cache(model.cache, found, key, rows, made, prompts)
        return LLMResult(generations=[found[i] for i in range(len(prompts))], llm_output=output)

    def stream(
        self, prompt: str, stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> Iterator[GenerationChunk]:
        """Stream; a model that cannot answers in one chunk."""
        if type(self.model)._stream is BaseLLM._stream:
            yield self._as_chunk(self.generate([prompt], stop, kwargs))
            return
        chunks = self.model._stream(prompt, **with_stop(stop, self.kwargs, kwargs))
        yield from present(self.name, chunks)

    async def astream(
        self, prompt: str, stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> AsyncIterator[GenerationChunk]:
        """Stream; a model that cannot answers in one chunk."""
        kind = type(self.model)
        if kind._astream is BaseLLM._astream and kind._stream is BaseLLM._stream:
            yield self._as_chunk(await self.agenerate([prompt], stop, kwargs))
            return
        chunks = self.model._astream(prompt, **with_stop(stop, self.kwargs, kwargs))
        chunks = present(self.name, chunks)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await aclose(chunks)

    def _params(self, stop: list[str] | None) -> dict[str, Any]:
        """Return what a direct call of the model makes its cache key of."""
        return {**self.model._dict_for_compat(), "stop": stop}

    def _as_chunk(self, result: LLMResult) -> GenerationChunk:
        (generations,) = result.generations
        if not generations:
            raise nothing(self.name)
        generation = generations[0]
        return GenerationChunk(text=generation.text, generation_info=generation.generation_info)
