"""`TryageLLM`: an LLM that answers with the expert a router chooses."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, TypeVar, Unpack

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import LLM
from llama_index.core.types import BaseOutputParser, PydanticProgramMode

from llama_index_tryage._fields import apresent
from llama_index_tryage._metadata import annotate, note_answer
from llama_index_tryage._structured import StructuredRouting
from tryage import Decision, Router
from tryage.binding import TOP, CallOptions, Sticky, check_arguments, check_options
from tryage.dispatch import (
    AsyncStream,
    DispatchedDecision,
    Stream,
    amarked,
    marked,
    present,
    record,
)

R = TypeVar("R", ChatResponse, CompletionResponse)


class LLMOptions(CallOptions, total=False):
    """Keyword arguments of `TryageLLM`: those of both adapters, and these of LlamaIndex's LLMs."""

    context_window: int | None
    text_from: Callable[[Any], str] | None
    sticky: Sticky
    callback_manager: CallbackManager
    system_prompt: str | None
    messages_to_prompt: Any
    completion_to_prompt: Any
    output_parser: Any
    pydantic_program_mode: PydanticProgramMode
    query_wrapper_prompt: Any
    rate_limiter: Any


class TryageLLM(StructuredRouting):
    """Answers with the expert that a router chooses, and with the next one if it fails.

    Every response, streamed ones too, carries the decision in ``additional_kwargs["tryage"]`` and
    the expert's own ``raw``. Callbacks and events are the expert's; the router adds one
    `TryageDecisionEvent` a call.

    Attributes:
        router: a router, a router folder, the name of a bundled router or a Hub id.
        experts: expert name → LLM; None runs the library's own Hugging Face pipelines.
        **options: those of `tryage.binding.CallOptions`.
        context_window: tokens that prompts are packed for; None takes the smallest window of the
            experts that may generate, since prompts are packed before they are routed.
        text_from: a function of the prompt or the messages that returns the text to route.
        sticky: whether to stay with the expert that answered last in the conversation, while it is
            eligible. True always does; a number while its total is at most that much above the
            lowest; ``"price"`` weighs what its vendor's prompt cache saves against what switching
            gains (`tryage.binding.staying`). Whatever it is, nobody else is chosen while a
            tool's result is awaited, or while a vendor's encrypted reasoning is in the messages;
            where that expert fails, another one answers. This object remembers who gave its last
            4096 answers, by digests without text.
    """

    def __init__(
        self,
        router: Router | str | Path,
        experts: Mapping[str, LLM] | None = None,
        **options: Unpack[LLMOptions],
    ) -> None:
        check_arguments(type(self).__name__, options, type(self).model_fields)
        check_options(options)
        _check_own(options)
        fields: dict[str, Any] = {"router": router, "experts": experts, **options}
        super().__init__(**fields)
        # What cannot work is reported here, not at the first call.
        _ = self._source, self._binding

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex knows this class."""
        return "TryageLLM"

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages with the chosen expert; `kwargs` reach it."""
        response: ChatResponse = self._answer("chat", messages, kwargs)
        return response

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a prompt with the chosen expert; `kwargs` reach it."""
        kwargs["formatted"] = formatted
        response: CompletionResponse = self._answer("complete", prompt, kwargs)
        return response

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        return self._stream("stream_chat", messages, kwargs)

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        return self._stream("stream_complete", prompt, {"formatted": formatted, **kwargs})

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages with the chosen expert; `kwargs` reach it."""
        response: ChatResponse = await self._aanswer("achat", messages, kwargs)
        return response

    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Complete a prompt with the chosen expert; `kwargs` reach it."""
        kwargs["formatted"] = formatted
        response: CompletionResponse = await self._aanswer("acomplete", prompt, kwargs)
        return response

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        return await self._astream("astream_chat", messages, kwargs)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        return await self._astream("astream_complete", prompt, {"formatted": formatted, **kwargs})

    def _answer(self, method: str, call_input: Any, kwargs: dict[str, Any]) -> Any:
        call_input, decision = self._routed(call_input, kwargs)
        method_of = self._method_of(method, kwargs)
        response, dispatched = self._binding.dispatch(
            decision, lambda name, expert: present(name, method_of(name, expert)(call_input))
        )
        return self._noted(_annotated(response, dispatched))

    async def _aanswer(self, method: str, call_input: Any, kwargs: dict[str, Any]) -> Any:
        call_input, decision = await self._arouted(call_input, kwargs)
        method_of = self._method_of(method, kwargs)
        response, dispatched = await self._binding.adispatch(
            decision, lambda name, expert: apresent(name, method_of(name, expert)(call_input))
        )
        return self._noted(_annotated(response, dispatched))

    def _noted(self, response: R) -> R:
        self._answerers.note(response, self.sticky)
        return response

    def _stream(
        self, method: str, call_input: Any, kwargs: dict[str, Any]
    ) -> Generator[Any, None, None]:
        call_input, decision = self._routed(call_input, kwargs)
        method_of = self._method_of(method, kwargs)
        stream = self._binding.stream(
            decision, lambda name, expert: method_of(name, expert)(call_input)
        )
        chunks = _chunks(decision, stream)
        return self._answerers.noting(chunks, self.sticky)

    async def _astream(
        self, method: str, call_input: Any, kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        call_input, decision = await self._arouted(call_input, kwargs)
        method_of = self._method_of(method, kwargs)
        stream = self._binding.astream(
            decision, lambda name, expert: method_of(name, expert)(call_input)
        )
        chunks = await _achunks(decision, stream)
        return self._answerers.anoting(chunks, self.sticky)


_OWN: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "callback_manager": (lambda value: isinstance(value, CallbackManager), "a CallbackManager"),
    "output_parser": (
        lambda value: value is None or isinstance(value, BaseOutputParser),
        "a BaseOutputParser, or None",
    ),
    "rate_limiter": (
        lambda value: value is None or hasattr(value, "async_acquire"),
        "a rate limiter with acquire and async_acquire, or None",
    ),
}
"""Options that LlamaIndex itself takes unchecked → whether a value will do, and in words."""


def _check_own(options: Mapping[str, Any]) -> None:
    for name in _OWN.keys() & options.keys():
        will_do, words = _OWN[name]
        if not will_do(options[name]):
            raise TypeError(f"{name} is {options[name]!r}; it is {words}")


def _annotated(response: R, decision: DispatchedDecision) -> R:
    note_answer(decision)
    return annotate(response, decision.to_dict(top=TOP))


def _chunks(decision: Decision, stream: Stream[R]) -> Generator[R, None, None]:
    """Wait for the first chunk, so that failures show in the call, and return them all."""
    first = next(stream)
    data = record(decision, stream).to_dict(top=TOP)

    def chunks() -> Generator[R, None, None]:
        current = data
        with closing(stream):
            responses = itertools.chain([first], stream)
            for response, is_marked in marked(responses, late=stream.is_checked_late):
                if is_marked:
                    current = record(decision, stream).to_dict(top=TOP)
                yield annotate(response, current)

    return chunks()


async def _achunks(decision: Decision, stream: AsyncStream[R]) -> AsyncGenerator[R, None]:
    """Wait for the first chunk, so that failures show in the call, and return them all."""
    first = await anext(stream)
    data = record(decision, stream).to_dict(top=TOP)

    async def responses() -> AsyncGenerator[R, None]:
        yield first
        async for response in stream:
            yield response

    async def chunks() -> AsyncGenerator[R, None]:
        current = data
        async with aclosing(stream):
            async for response, is_marked in amarked(responses(), late=stream.is_checked_late):
                if is_marked:
                    current = record(decision, stream).to_dict(top=TOP)
                yield annotate(response, current)

    return chunks()
