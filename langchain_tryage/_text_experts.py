"""Text models as experts, called inside a run that is already open.

`BaseLLM.generate` holds the cache and opens the run; so the cache is read here, under the key
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

from langchain_tryage._experts import (
    NO_LABELS,
    Call,
    Labels,
    labels_of,
    none_is_an_error,
    unwrap,
    with_stop,
)
from langchain_tryage._own_runs import OwnRuns
from langchain_tryage._plans import as_goals
from langchain_tryage._tokens import WholeText
from langchain_tryage._tools import NO_KWARGS
from tryage.binding import DecidingModel, joined_goals, wrong_expert
from tryage.dispatch import aclose, nothing, present


class TextExpert(NamedTuple):
    """A text model, the call arguments bound to it, its name in errors, and its labels."""

    model: BaseLLM
    kwargs: Mapping[str, Any]
    name: str
    labels: Labels = NO_LABELS

    @classmethod
    def of(cls, name: str, expert: Any, settings: Mapping[str, Any] = NO_KWARGS) -> TextExpert:
        """Unwrap a text model, or one with bound arguments; these replace the settings.

        Raises:
            TypeError: it is something else, or carries a config, which a call inside an open run
                cannot honour.
        """
        model, kwargs, labels = unwrap(name, expert, "TryageLLM")
        if not isinstance(model, BaseLLM):
            expected = (
                "TryageLLM takes text models, ChatTryage takes chat models, TryageRouter takes "
                "any runnable"
            )
            raise wrong_expert(name, expert, expected)
        return cls(model, {**settings, **kwargs}, name, labels)

    def streams(self, *, async_api: bool) -> bool:
        """Whether the model streams."""
        kind = type(self.model)
        in_loop = async_api and kind._astream is not BaseLLM._astream
        return in_loop or kind._stream is not BaseLLM._stream

    def generate(self, prompts: list[str], call: Call) -> LLMResult:
        """Answer prompts, through the model's cache."""
        model, arguments = self.model, self._arguments(call)
        params = self._params(arguments["stop"])
        answers, key, rows, missing = get_prompts(params, prompts, model.cache)
        output: dict[str, Any] | None = {}
        if missing:
            runs = OwnRuns(labels_of(self), model, missing, call, arguments)
            with none_is_an_error(self.name):
                result = runs.answer(lambda: model._generate(missing, **arguments))
                output = update_cache(model.cache, answers, key, rows, result, prompts)
        return LLMResult(generations=[answers[i] for i in range(len(prompts))], llm_output=output)

    async def agenerate(self, prompts: list[str], call: Call) -> LLMResult:
        """Answer prompts, through the model's cache."""
        model, arguments = self.model, self._arguments(call)
        params = self._params(arguments["stop"])
        answers, key, rows, missing = await aget_prompts(params, prompts, model.cache)
        output: dict[str, Any] | None = {}
        if missing:
            runs = OwnRuns(labels_of(self), model, missing, call, arguments)
            with none_is_an_error(self.name):
                result = await runs.aanswer(lambda: model._agenerate(missing, **arguments))
                output = await aupdate_cache(model.cache, answers, key, rows, result, prompts)
        return LLMResult(generations=[answers[i] for i in range(len(prompts))], llm_output=output)

    def stream(self, prompt: str, call: Call) -> Iterator[GenerationChunk]:
        """Stream; a model that cannot answers in one chunk."""
        if not self.streams(async_api=False):
            yield self._as_chunk(self.generate([prompt], call))
            return
        arguments = self._arguments(call)
        runs = OwnRuns(labels_of(self), self.model, [prompt], call, arguments)
        yield from runs.stream(present(self.name, self.model._stream(prompt, **arguments)))

    async def astream(self, prompt: str, call: Call) -> AsyncIterator[GenerationChunk]:
        """Stream; a model that cannot answers in one chunk."""
        if not self.streams(async_api=True):
            yield self._as_chunk(await self.agenerate([prompt], call))
            return
        arguments = self._arguments(call)
        runs = OwnRuns(labels_of(self), self.model, [prompt], call, arguments)
        chunks = runs.astream(present(self.name, self.model._astream(prompt, **arguments)))
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await aclose(chunks)

    def _arguments(self, call: Call) -> dict[str, Any]:
        """Return the arguments of a call; its goals also apply to an expert that routes."""
        arguments = with_stop(call.stop, self.kwargs, call.kwargs)
        if call.goals is not None and isinstance(self.model, DecidingModel):
            arguments["tryage"] = joined_goals(as_goals(self.kwargs.get("tryage")), call.goals)
        return arguments

    def _params(self, stop: list[str] | None) -> dict[str, Any]:
        """Return what a direct call of the model makes its cache key of."""
        return {**self.model._dict_for_compat(), "stop": stop}

    def _as_chunk(self, result: LLMResult) -> GenerationChunk:
        (generations,) = result.generations
        if not generations:
            raise nothing(self.name)
        generation = generations[0]
        return WholeText(text=generation.text, generation_info=generation.generation_info)
