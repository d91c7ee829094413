"""Chat models as experts, called inside a run that is already open.

`BaseChatModel.invoke` would open a second run: tokens would count twice and stream twice. Its
`_generate_with_cache` is called instead, which keeps the model's cache and rate limiter; for
streams, where the model's public method holds the rate limiter, it is acquired here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables.retry import RunnableRetry

from langchain_tryage._experts import (
    NO_LABELS,
    Call,
    Labels,
    ask_model,
    labels_of,
    none_is_an_error,
    unwrap,
    with_stop,
)
from langchain_tryage._own_runs import OwnRuns
from langchain_tryage._plans import as_goals
from langchain_tryage._rate_limits import aacquire, acquire, in_turn
from langchain_tryage._structured import STRUCTURED, Structure
from langchain_tryage._tools import NO_KWARGS, is_forced, joined_tools, originals
from tryage.binding import DecidingModel, joined_goals, off_loop, tells_logprobs, wrong_expert
from tryage.dispatch import (
    aclose,
    blaming_request,
    close,
    describe_error,
    mask_error,
    nothing,
    present,
)
from tryage.errors import ExpertError, MissingExtraError, missing_extra

_FORCING = ("response_format", "tool_choice", "tools")
"""Arguments bound to an expert that a structure replaces."""

_TRACING = ("ls_structured_output_format", "structured_output_format")


class ChatExpert:
    """A chat model, the call arguments bound to it, and its callbacks, tags and metadata.

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
        self.labels = NO_LABELS
        self._model: BaseChatModel | str = ""
        bound: dict[str, Any] = {}
        if isinstance(expert, str):
            self._model = expert
        else:
            self._model, bound, self.labels = _chat_model(name, expert)
        self.kwargs: dict[str, Any] = {**settings, **bound}

    @cached_property
    def model(self) -> BaseChatModel:
        """The chat model.

        Raises:
            ExpertError: LangChain could not make it from its ``"provider:model"`` string.
            MissingExtraError: a package that it needs is not installed.
        """
        model = self._model
        return _init_model(self.name, model) if isinstance(model, str) else model

    @property
    def is_made(self) -> bool:
        """Whether the model exists; one that is given as a string is made when it is needed."""
        return not isinstance(self._model, str) or "model" in self.__dict__

    async def amake(self) -> None:
        """Make the model where it does not exist yet, off the event loop."""
        if not self.is_made:
            await off_loop(getattr, self, "model")

    def identity(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> str:
        """Return the expert's cache key, without loading its model."""
        if isinstance(self._model, str):
            return self._model
        return ask_model(self, lambda model: model._get_llm_string(stop=stop, **kwargs), "")

    def streams(self, *, async_api: bool) -> bool:
        """Whether the model streams; one that cannot say so is taken to."""
        return ask_model(self, lambda m: m._should_stream(async_api=async_api, stream=True), True)

    def generate(self, messages: list[BaseMessage], call: Call) -> ChatResult:
        """Answer, through the model's cache and rate limiter; an answer must fit a structure."""
        model, arguments = self._call(call)
        runs = OwnRuns(labels_of(self), model, [messages], call, arguments)
        return self._fitting(call, runs.answer(lambda: self._whole(model, messages, arguments)))

    async def agenerate(self, messages: list[BaseMessage], call: Call) -> ChatResult:
        """Answer, through the model's cache and rate limiter; an answer must fit a structure."""
        await self.amake()
        model, arguments = self._call(call)
        runs = OwnRuns(labels_of(self), model, [messages], call, arguments)
        result = await runs.aanswer(lambda: self._awhole(model, messages, arguments))
        return self._fitting(call, result)

    def stream(self, messages: list[BaseMessage], call: Call) -> Iterator[ChatGenerationChunk]:
        """Stream; a model that cannot answers in one chunk."""
        model, arguments = self._call(call)
        if not model._should_stream(async_api=False, **{**arguments, "stream": True}):
            yield _as_chunk(self.generate(messages, call))
            return
        runs = OwnRuns(labels_of(self), model, [messages], call, arguments)
        yield from runs.stream(self._chunks(model, messages, arguments))

    async def astream(
        self, messages: list[BaseMessage], call: Call
    ) -> AsyncIterator[ChatGenerationChunk]:
        """Stream; a model that cannot answers in one chunk."""
        await self.amake()
        model, arguments = self._call(call)
        if not model._should_stream(async_api=True, **{**arguments, "stream": True}):
            yield _as_chunk(await self.agenerate(messages, call))
            return
        runs = OwnRuns(labels_of(self), model, [messages], call, arguments)
        chunks = runs.astream(self._achunks(model, messages, arguments))
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            await aclose(chunks)

    def _chunks(
        self, model: BaseChatModel, messages: list[BaseMessage], arguments: dict[str, Any]
    ) -> Iterator[ChatGenerationChunk]:
        acquire(model)
        formatted = _chunk_format(model)
        chunks = present(self.name, model._stream(messages, **arguments))
        try:
            for chunk in chunks:
                yield formatted(chunk)
        finally:
            close(chunks)

    async def _achunks(
        self, model: BaseChatModel, messages: list[BaseMessage], arguments: dict[str, Any]
    ) -> AsyncIterator[ChatGenerationChunk]:
        await aacquire(model)
        formatted = _chunk_format(model)
        chunks = present(self.name, model._astream(messages, **arguments))
        try:
            async for chunk in chunks:
                yield formatted(chunk)
        finally:
            # Closed now, not at garbage collection: it may hold a connection.
            await aclose(chunks)

    def _whole(
        self, model: BaseChatModel, messages: list[BaseMessage], arguments: dict[str, Any]
    ) -> ChatResult:
        with none_is_an_error(self.name):
            result = in_turn(model)._generate_with_cache(messages, **arguments)
        return self._checked(result)

    async def _awhole(
        self, model: BaseChatModel, messages: list[BaseMessage], arguments: dict[str, Any]
    ) -> ChatResult:
        with none_is_an_error(self.name):
            result = await in_turn(model)._agenerate_with_cache(messages, **arguments)
        return self._checked(result)

    def _checked(self, result: ChatResult) -> ChatResult:
        if not result.generations:
            raise nothing(self.name)
        return result

    def _fitting(self, call: Call, result: ChatResult) -> ChatResult:
        structure: Structure | None = call.kwargs.get(STRUCTURED)
        if structure is not None:
            _, parser = structure.binding_of(self.model)
            structure.require_fit(self.name, parser, result.generations[0].message)
        return result

    def _call(self, call: Call) -> tuple[BaseChatModel, dict[str, Any]]:
        """Return the model and the arguments of a call, its tools converted by the model itself.

        Tools bound to the expert come on top, unless the call forces one of its own. The goals of
        the call hold for a model that routes, too.
        """
        model, arguments, expert_kwargs = self.model, dict(call.kwargs), self.kwargs
        structure: Structure | None = arguments.pop(STRUCTURED, None)
        tools = arguments.pop("tools", None)
        if structure is not None:
            with blaming_request(NotImplementedError):
                bound, _ = structure.binding_of(model)
            model, structure_kwargs, _ = _chat_model(self.name, bound)
            expert_kwargs = {
                key: value for key, value in expert_kwargs.items() if key not in _FORCING
            }
            arguments = {**structure_kwargs, **arguments}
        elif tools or (tools is not None and "response_format" in arguments):
            forces = is_forced(arguments.get("tool_choice"))
            # A model that binds no tools says so by `NotImplementedError`.
            with blaming_request(NotImplementedError):
                bound = model.bind_tools(originals(tools), **arguments)
            model, arguments, _ = _chat_model(self.name, bound)
            expert_kwargs = {
                key: value for key, value in expert_kwargs.items() if key != "tool_choice"
            }
            if expert_kwargs.get("tools") and not forces:
                arguments["tools"] = joined_tools(
                    expert_kwargs["tools"], arguments.get("tools") or ()
                )
        if call.goals is not None and isinstance(model, DecidingModel):
            arguments["tryage"] = joined_goals(as_goals(expert_kwargs.get("tryage")), call.goals)
        return model, with_stop(call.stop, expert_kwargs, arguments)


def chat_pipeline(runtime: Any, expert: Any, settings: Mapping[str, Any] = NO_KWARGS) -> ChatExpert:
    """Return one of the library's own Hugging Face pipelines, as a chat model."""
    from langchain_tryage.pipelines import ChatTryagePipeline

    return ChatExpert(
        expert.name,
        ChatTryagePipeline(runtime=runtime, expert=expert.name, logprobs=tells_logprobs(expert)),
        settings,
    )


def _chat_model(name: str, expert: Any) -> tuple[BaseChatModel, dict[str, Any], Labels]:
    model, kwargs, labels = unwrap(name, expert, "ChatTryage")
    if not isinstance(model, BaseChatModel):
        expected = "ChatTryage takes chat models, TryageRouter takes any runnable"
        if isinstance(model, RunnableRetry):
            expected += "; for retries give the model max_retries= of its own"
        raise wrong_expert(name, expert, expected)
    return model, {key: kwargs[key] for key in kwargs if key not in _TRACING}, labels


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
    except Exception as error:  # noqa: BLE001 - it is raised as one of ours
        raise ExpertError(f"{failure}: {describe_error(error)}") from mask_error(error)


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
    message = whole_chunk(generation.message)
    return ChatGenerationChunk(message=message, generation_info=generation.generation_info)


def whole_chunk(message: BaseMessage) -> AIMessageChunk:
    """Return a whole answer as the one chunk of a stream."""
    return AIMessageChunk(**message.model_dump(exclude={"type"}), chunk_position="last")
