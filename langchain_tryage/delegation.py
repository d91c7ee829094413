"""Calls of a chat model inside a run that is already open.

`BaseChatModel.invoke` would open a second run: tokens would count twice and stream twice. Its
`_generate_with_cache` is called instead, which keeps the model's cache and rate limiter; for
streams, where the model's public method holds the rate limiter, it is acquired here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableBinding

_TRACING = ("ls_structured_output_format", "structured_output_format")


class ChatExpert(NamedTuple):
    """A chat model, and the call arguments bound to it."""

    model: BaseChatModel
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, given: Any) -> ChatExpert:
        """Unwrap a chat model, or one with bound arguments.

        Raises:
            TypeError: it is something else, or carries a config, which a call inside an open run
                cannot honour.
        """
        kwargs: dict[str, Any] = {}
        model = given
        while isinstance(model, RunnableBinding) and not isinstance(model, BaseChatModel):
            if any(model.config.values()) or model.config_factories:
                raise TypeError(
                    f"expert {name!r} carries a config; ChatTryage calls experts inside its own "
                    "run. Pass the config to ChatTryage, or use TryageRouter"
                )
            kwargs = {**model.kwargs, **kwargs}
            model = model.bound
        if not isinstance(model, BaseChatModel):
            raise TypeError(
                f"expert {name!r} is a {type(given).__name__}; ChatTryage takes chat models, "
                "TryageRouter takes any runnable"
            )
        return cls(model, {key: kwargs[key] for key in kwargs if key not in _TRACING})

    def generate(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> ChatResult:
        """Answer, through the model's cache and rate limiter."""
        return self.model._generate_with_cache(messages, **self._arguments(stop, kwargs))

    async def agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> ChatResult:
        """Answer, through the model's cache and rate limiter."""
        return await self.model._agenerate_with_cache(messages, **self._arguments(stop, kwargs))

    def stream(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> Iterator[ChatGenerationChunk]:
        """Stream; a model that cannot answers in one chunk."""
        arguments = self._arguments(stop, kwargs)
        if not self.model._should_stream(async_api=False, **{**arguments, "stream": True}):
            yield _as_chunk(self.generate(messages, stop, kwargs))
            return
        if self.model.rate_limiter is not None:
            self.model.rate_limiter.acquire(blocking=True)
        yield from self.model._stream(messages, **arguments)

    async def astream(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> AsyncIterator[ChatGenerationChunk]:
        """Stream; a model that cannot answers in one chunk."""
        arguments = self._arguments(stop, kwargs)
        if not self.model._should_stream(async_api=True, **{**arguments, "stream": True}):
            yield _as_chunk(await self.agenerate(messages, stop, kwargs))
            return
        if self.model.rate_limiter is not None:
            await self.model.rate_limiter.aacquire(blocking=True)
        async for chunk in self.model._astream(messages, **arguments):
            yield chunk

    def _arguments(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        arguments = {**self.kwargs, **kwargs}
        return arguments if stop is None else {**arguments, "stop": stop}


def _as_chunk(result: ChatResult) -> ChatGenerationChunk:
    generation: ChatGeneration = result.generations[0]
    fields = generation.message.model_dump(exclude={"type"})
    message = AIMessageChunk(**fields, chunk_position="last")
    return ChatGenerationChunk(message=message, generation_info=generation.generation_info)
