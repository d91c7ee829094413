"""Chat models and text models as experts, called inside a run that is already open.

`BaseChatModel.invoke` would open a second run: tokens would count twice and stream twice. Its
`_generate_with_cache` is called instead, which keeps the model's cache and rate limiter; for
streams, where the model's public method holds the rate limiter, it is acquired here.
`BaseLLM.generate` holds the cache and opens the run; so the cache is read here, under the key
that a direct call of the model uses, and the model's own `_generate` and `_stream` are called.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from langchain_core.language_models import BaseChatModel, BaseLanguageModel, BaseLLM
from langchain_core.language_models.llms import (
    aget_prompts,
    aupdate_cache,
    get_prompts,
    update_cache,
)
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    GenerationChunk,
    LLMResult,
)
from langchain_core.runnables import RunnableBinding

from langchain_tryage._tools import NO_KWARGS, is_forced, joined_tools, originals
from tryage.binding import tells_logprobs, wrong_expert
from tryage.dispatch import (
    aclose,
    blaming_request,
    close,
    describe_error,
    nothing,
    present,
)
from tryage.errors import ExpertError, MissingExtraError, missing_extra

R = TypeVar("R")

_logger = logging.getLogger(__name__)

_TRACING = ("ls_structured_output_format", "structured_output_format")


class ChatExpert:
    """A chat model, and the call arguments bound to it.

    Args:
        name: what errors call it.
        expert: a chat model, one with bound arguments, or a ``"provider:model"`` string, of
            which the model is made when it is first needed.
        settings: call arguments that those bound to the expert replace.

    Raises:
        TypeError: it is something else, or carries a config, which a call inside an open run
            cannot honour.
    """

    def __init__(self, name: str, expert: Any, settings: Mapping[str, Any] = NO_KWARGS) -> None:
        self.name = name
        self._model: BaseChatModel | str = ""
        bound: dict[str, Any] = {}
        if isinstance(expert, str):
            self._model = expert
        else:
            self._model, bound = _chat_model(name, expert)
        self.kwargs: dict[str, Any] = {**settings, **bound}

    @cached_property
    def model(self) -> BaseChatModel:
        """The chat model.

        Raises:
            ExpertError: LangChain could not make it of its ``"provider:model"`` string.
            MissingExtraError: a package that it needs is not installed.
        """
        model = self._model
        return _init_model(self.name, model) if isinstance(model, str) else model

    def generate(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> ChatResult:
        """Answer, through the model's cache and rate limiter."""
        model, arguments = self._call(stop, kwargs)
        return self._whole(model, messages, arguments)

    async def agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> ChatResult:
        """Answer, through the model's cache and rate limiter."""
        model, arguments = self._call(stop, kwargs)
        return await self._awhole(model, messages, arguments)

    def stream(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> Iterator[ChatGenerationChunk]:
        """Stream; a model that cannot answers in one chunk."""
        model, arguments = self._call(stop, kwargs)
        if not model._should_stream(async_api=False, **{**arguments, "stream": True}):
            yield _as_chunk(self._whole(model, messages, arguments))
            return
        if model.rate_limiter is not None:
            model.rate_limiter.acquire(blocking=True)
        formatted = _chunk_format(model)
        chunks = present(self.name, model._stream(messages, **arguments))
        try:
            for chunk in chunks:
                yield formatted(chunk)
        finally:
            close(chunks)

    async def astream(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> AsyncIterator[ChatGenerationChunk]:
        """Stream; a model that cannot answers in one chunk."""
        model, arguments = self._call(stop, kwargs)
        if not model._should_stream(async_api=True, **{**arguments, "stream": True}):
            yield _as_chunk(await self._awhole(model, messages, arguments))
            return
        if model.rate_limiter is not None:
            await model.rate_limiter.aacquire(blocking=True)
        formatted = _chunk_format(model)
        chunks = present(self.name, model._astream(messages, **arguments))
        try:
            async for chunk in chunks:
                yield formatted(chunk)
        finally:
            # Now, not at garbage collection: it may hold a connection.
            await aclose(chunks)

    def _whole(
        self, model: BaseChatModel, messages: list[BaseMessage], arguments: dict[str, Any]
    ) -> ChatResult:
        with none_is_an_error(self.name):
            result = model._generate_with_cache(messages, **arguments)
        return self._checked(result)

    async def _awhole(
        self, model: BaseChatModel, messages: list[BaseMessage], arguments: dict[str, Any]
    ) -> ChatResult:
        with none_is_an_error(self.name):
            result = await model._agenerate_with_cache(messages, **arguments)
        return self._checked(result)

    def _checked(self, result: ChatResult) -> ChatResult:
        if not result.generations:
            raise nothing(self.name)
        return result

    def _call(
        self, stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> tuple[BaseChatModel, dict[str, Any]]:
        """Return the model and the arguments of a call, its tools converted by the model itself.

        Tools bound to the expert come on top, unless the call forces one of its own.
        """
        model, arguments, own = self.model, dict(kwargs), self.kwargs
        tools = arguments.pop("tools", None)
        if tools or (tools is not None and "response_format" in arguments):
            forces = is_forced(arguments.get("tool_choice"))
            # A model that binds no tools says so by `NotImplementedError`.
            with blaming_request(NotImplementedError):
                bound = model.bind_tools(originals(tools), **arguments)
            model, arguments = _chat_model(self.name, bound)
            own = {key: value for key, value in own.items() if key != "tool_choice"}
            if own.get("tools") and not forces:
                arguments["tools"] = joined_tools(own["tools"], arguments.get("tools") or ())
        return model, with_stop(stop, own, arguments)


def ask_model(expert: Any, question: Callable[[Any], R], otherwise: R) -> R:
    """Ask an expert's model something beside a call, for what all experts have in common.

    A model that cannot be made, or cannot tell, must keep no other expert from answering: where
    the router chooses it, its call fails, and the next expert answers.
    """
    try:
        return question(expert.model)
    except Exception as error:  # noqa: BLE001 - vendors' classes raise anything
        _logger.debug("expert %s cannot tell: %s", expert.name, describe_error(error))
        return otherwise


class TextExpert(NamedTuple):
    """A text model, the call arguments bound to it, and what errors call it."""

    model: BaseLLM
    kwargs: Mapping[str, Any]
    name: str

    @classmethod
    def of(cls, name: str, expert: Any, settings: Mapping[str, Any] = NO_KWARGS) -> TextExpert:
        """Unwrap a text model, or one with bound arguments; these replace the settings.

        Raises:
            TypeError: it is something else, or carries a config, which a call inside an open run
                cannot honour.
        """
        model, kwargs = unwrap(name, expert, "TryageLLM")
        if not isinstance(model, BaseLLM):
            wanted = (
                "TryageLLM takes text models, ChatTryage takes chat models, TryageRouter takes "
                "any runnable"
            )
            raise wrong_expert(name, expert, wanted)
        return cls(model, {**settings, **kwargs}, name)

    def generate(
        self, prompts: list[str], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> LLMResult:
        """Answer prompts, through the model's cache."""
        model = self.model
        arguments = with_stop(stop, self.kwargs, kwargs)
        params = self._params(arguments["stop"])
        answers, key, rows, missing = get_prompts(params, prompts, model.cache)
        output: dict[str, Any] | None = {}
        if missing:
            with none_is_an_error(self.name):
                result = model._generate(missing, **arguments)
                output = update_cache(model.cache, answers, key, rows, result, prompts)
        return LLMResult(generations=[answers[i] for i in range(len(prompts))], llm_output=output)

    async def agenerate(
        self, prompts: list[str], stop: list[str] | None, kwargs: Mapping[str, Any]
    ) -> LLMResult:
        """Answer prompts, through the model's cache."""
        model = self.model
        arguments = with_stop(stop, self.kwargs, kwargs)
        params = self._params(arguments["stop"])
        answers, key, rows, missing = await aget_prompts(params, prompts, model.cache)
        output: dict[str, Any] | None = {}
        if missing:
            with none_is_an_error(self.name):
                result = await model._agenerate(missing, **arguments)
                output = await aupdate_cache(model.cache, answers, key, rows, result, prompts)
        return LLMResult(generations=[answers[i] for i in range(len(prompts))], llm_output=output)

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


def chat_pipeline(runtime: Any, expert: Any, settings: Mapping[str, Any] = NO_KWARGS) -> ChatExpert:
    """Return one of the library's own Hugging Face pipelines, as a chat model."""
    from langchain_tryage.pipelines import ChatTryagePipeline

    return ChatExpert(
        expert.name,
        ChatTryagePipeline(runtime=runtime, expert=expert.name, logprobs=tells_logprobs(expert)),
        settings,
    )


def with_stop(
    stop: list[str] | None, bound: Mapping[str, Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Join the arguments of a call and those bound to its model; the call's win."""
    arguments = {"stop": None, **bound, **kwargs}
    return arguments if stop is None else {**arguments, "stop": stop}


@contextmanager
def none_is_an_error(name: str) -> Iterator[None]:
    """Turn the error that LangChain makes of a model's None into an `ExpertError`."""
    try:
        yield
    except AttributeError as error:
        if error.obj is None and error.name == "generations":
            raise nothing(name) from error
        raise


def unwrap(name: str, expert: Any, owner: str) -> tuple[Any, dict[str, Any]]:
    """Return a model, and the call arguments that were bound to it.

    Args:
        name: what errors call the expert.
        expert: a model, or a binding of one.
        owner: the class that calls it.

    Raises:
        TypeError: it carries a config, which a call inside an open run cannot honour.
    """
    kwargs: dict[str, Any] = {}
    model = expert
    while isinstance(model, RunnableBinding) and not isinstance(model, BaseLanguageModel):
        if any(model.config.values()) or model.config_factories:
            raise TypeError(
                f"expert {name!r} carries a config; {owner} calls experts inside its own run. "
                f"Pass the config to {owner}, or use TryageRouter"
            )
        kwargs = {**model.kwargs, **kwargs}
        model = model.bound
    return model, kwargs


def _chat_model(name: str, expert: Any) -> tuple[BaseChatModel, dict[str, Any]]:
    model, kwargs = unwrap(name, expert, "ChatTryage")
    if not isinstance(model, BaseChatModel):
        wanted = "ChatTryage takes chat models, TryageRouter takes any runnable"
        raise wrong_expert(name, expert, wanted)
    return model, {key: kwargs[key] for key in kwargs if key not in _TRACING}


def _init_model(name: str, model: str) -> BaseChatModel:
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise missing_extra("langchain", f"expert {name!r}, given as {model!r},") from error
    failure = f"expert {name!r}: LangChain cannot make a chat model of {model!r}"
    try:
        return init_chat_model(model)
    except ImportError as error:
        raise MissingExtraError(f"{failure}: {error}") from error
    # Every vendor's client raises errors of its own, e.g. for an absent key.
    except Exception as error:
        raise ExpertError(f"{failure}: {describe_error(error)}") from error


def _chunk_format(model: BaseChatModel) -> Callable[[ChatGenerationChunk], ChatGenerationChunk]:
    """Return what turns chunks of `_stream` into those of the model's `stream`."""
    return _Blocks() if model.output_version == "v1" else lambda chunk: chunk


class _Blocks:
    """Writes a stream's content as blocks, numbered as `BaseChatModel.stream` does."""

    def __init__(self) -> None:
        self._number = -1
        self._kind = ""

    def __call__(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        blocks: list[Any] = chunk.message.content_blocks
        for block in blocks:
            if block["type"] != self._kind:
                self._kind = block["type"]
                self._number += 1
            block.setdefault("index", self._number)
        metadata = {**chunk.message.response_metadata, "output_version": "v1"}
        update = {"content": blocks, "response_metadata": metadata}
        return chunk.model_copy(update={"message": chunk.message.model_copy(update=update)})


def _as_chunk(result: ChatResult) -> ChatGenerationChunk:
    generation: ChatGeneration = result.generations[0]
    fields = generation.message.model_dump(exclude={"type"})
    message = AIMessageChunk(**fields, chunk_position="last")
    return ChatGenerationChunk(message=message, generation_info=generation.generation_info)
