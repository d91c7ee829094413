"""Scripted experts for tests: LlamaIndex LLMs that stream, fail, hang and call tools.

They need no network and no weights; what they answer follows from what they are sent.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import LLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index_instrumentation import get_dispatcher

__all__ = ["ScriptedLLM", "ScriptedToolLLM", "recorded_events"]


class ScriptedLLM(LLM):
    """An LLM that answers with its label and the last message, in all eight ways.

    Attributes:
        label: its name; answers begin with it.
        window: its context window, in tokens.
        output: tokens that it writes at most.
        chatty: whether it says that it is a chat model.
        answer: text of every answer, or a function from the prompt or the messages to it; None:
            as above.
        fault: exception that every call raises.
        late: exception that a stream raises after its first word.
        gate: a `tryage.testing.Gate` that holds every call before its answer.
    """

    label: str
    window: int = 4096
    output: int = 256
    chatty: bool = True
    answer: str | Callable[[Any], str] | None = None
    fault: Any = None
    late: Any = None
    gate: Any = None
    _calls: list[tuple[Any, dict[str, Any]]] = PrivateAttr(default_factory=list)
    _closed: list[str] = PrivateAttr(default_factory=list)

    @property
    def calls(self) -> list[tuple[Any, dict[str, Any]]]:
        """The calls so far: (prompt or messages, keyword arguments)."""
        return self._calls

    @property
    def closed(self) -> list[str]:
        """Its label, for every stream that was read to its end or closed."""
        return self._closed

    @classmethod
    def class_name(cls) -> str:
        """Return its name in saved settings."""
        return "scripted"

    @property
    def metadata(self) -> LLMMetadata:
        """What it can do."""
        return LLMMetadata(
            context_window=self.window,
            num_output=self.output,
            is_chat_model=self.chatty,
            model_name=self.label,
        )

    def _hold(self) -> None:
        if self.gate is not None:
            self.gate.wait()

    async def _ahold(self) -> None:
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait_async()

    def _text(self, call_input: Any, kwargs: dict[str, Any]) -> str:
        self._calls.append((call_input, kwargs))
        if self.fault is not None:
            raise self.fault
        if self.answer is not None:
            return self.answer(call_input) if callable(self.answer) else self.answer
        text = call_input if isinstance(call_input, str) else call_input[-1].content
        return f"{self.label} says {text}"

    def _pieces(self, call_input: Any, kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the text so far and the word that is new."""
        so_far = ""
        try:
            for number, word in enumerate(self._text(call_input, kwargs).split(" ")):
                if number == 1 and self.late is not None:
                    raise self.late
                piece = word if number == 0 else f" {word}"
                so_far += piece
                yield so_far, piece
        finally:
            self._closed.append(self.label)

    def _chat(self, text: str, delta: Any = None) -> ChatResponse:
        message = ChatMessage(text, role="assistant")
        return ChatResponse(message=message, delta=delta, raw={"model": self.label})

    def _completion(self, text: str, delta: Any = None) -> CompletionResponse:
        return CompletionResponse(text=text, delta=delta, raw={"model": self.label})

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages."""
        self._hold()
        return self._whole(messages, kwargs)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt."""
        self._hold()
        return self._completion(self._text(prompt, kwargs | {"formatted": formatted}))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer messages, word by word."""

        def gen() -> ChatResponseGen:
            self._hold()
            for text, delta in self._pieces(messages, kwargs):
                yield self._chat(text, delta)

        return gen()

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Answer a prompt, word by word."""

        def gen() -> CompletionResponseGen:
            self._hold()
            for text, delta in self._pieces(prompt, kwargs):
                yield self._completion(text, delta)

        return gen()

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages."""
        await self._ahold()
        return self._whole(messages, kwargs)

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Answer a prompt."""
        await self._ahold()
        return self._completion(self._text(prompt, kwargs))

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Answer messages, word by word."""

        async def gen() -> ChatResponseAsyncGen:
            await self._ahold()
            for text, delta in self._pieces(messages, kwargs):
                await asyncio.sleep(0)
                yield self._chat(text, delta)

        return gen()

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Answer a prompt, word by word."""

        async def gen() -> CompletionResponseAsyncGen:
            await self._ahold()
            for text, delta in self._pieces(prompt, kwargs):
                await asyncio.sleep(0)
                yield self._completion(text, delta)

        return gen()

    def _whole(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatResponse:
        return self._chat(self._text(messages, kwargs))


class ScriptedToolLLM(ScriptedLLM, FunctionCallingLLM):
    """Calls the tool that the user's text names with two numbers, then says what came back.

    ``"please add 2 and 3"`` calls the tool ``add`` with a=2 and b=3. Tools and calls are in a
    dialect of its own, which no other expert can read: a call that reaches the wrong expert fails.

    Attributes:
        calls_functions: whether it says that it can call tools.
    """

    calls_functions: bool = True

    @property
    def metadata(self) -> LLMMetadata:
        """What it can do."""
        return super().metadata.model_copy(
            update={"is_function_calling_model": self.calls_functions}
        )

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        messages = list(chat_history or [])
        if user_msg is not None:
            messages.append(ChatMessage(user_msg) if isinstance(user_msg, str) else user_msg)
        tool_names = [f"{self.label}:{tool.metadata.get_name()}" for tool in tools]
        choice = kwargs.pop("tool_choice", None)
        return {
            "messages": messages,
            "tools": tool_names,
            "tool_choice": choice or ("any" if tool_required else "auto"),
            **kwargs,
        }

    def _requested_call(
        self, messages: Sequence[ChatMessage], tools: Sequence[str]
    ) -> tuple[str, dict[str, int]] | None:
        """Return (tool, arguments) of the call to make, or None."""
        for tool in tools:
            if not tool.startswith(f"{self.label}:"):
                raise AssertionError(f"{self.label} was sent the tool of another expert: {tool}")
        names = [tool.partition(":")[2] for tool in tools]
        if messages[-1].role == "tool":
            return None
        operations = re.findall(r"(\w+) (\d+) and (\d+)", messages[-1].content or "")
        for name, one, two in reversed(operations):
            if name in names:
                return name, {"a": int(one), "b": int(two)}
        return None

    def _pieces(self, call_input: Any, kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        call = self._requested_call(call_input, kwargs.get("tools", ()))
        if call is None:
            yield from super()._pieces(call_input, kwargs)
            return
        self._text(call_input, kwargs)
        yield "", ("calling", call)

    def _chat(self, text: str, delta: Any = None) -> ChatResponse:
        call = delta[1] if isinstance(delta, tuple) else None
        response = super()._chat(text, "" if call else delta)
        if call:
            response.message.additional_kwargs["tool_calls"] = [(self.label, *call)]
        return response

    def _whole(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> ChatResponse:
        last = list(self._pieces(messages, kwargs))[-1]
        response = self._chat(*last)
        response.delta = None
        return response

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Read the tool calls of an answer of its own."""
        calls = response.message.additional_kwargs.get("tool_calls", [])
        if not calls and error_on_no_tool_call:
            raise ValueError(f"{self.label} called nothing")
        for dialect, *_ in calls:
            if dialect != self.label:
                raise AssertionError(f"{self.label} was sent the call of {dialect}")
        return [
            ToolSelection(tool_id=f"{self.label}-{number}", tool_name=name, tool_kwargs=arguments)
            for number, (_, name, arguments) in enumerate(calls)
        ]


class _EventRecorder(BaseEventHandler):
    """Keeps every event."""

    events: list[Any]

    @classmethod
    def class_name(cls) -> str:
        return "event-recorder"

    def handle(self, event: Any, **kwargs: Any) -> None:
        """Keep an event."""
        self.events.append(event)


@contextmanager
def recorded_events() -> Generator[list[Any], None, None]:
    """Record the events that LlamaIndex's dispatcher sends inside the ``with`` block."""
    dispatcher = get_dispatcher()
    recorder = _EventRecorder(events=[])
    dispatcher.add_event_handler(recorder)
    try:
        yield recorder.events
    finally:
        dispatcher.event_handlers.remove(recorder)
