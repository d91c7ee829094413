"""Scripted LLMs that answer from their input, and a listener to LlamaIndex's events."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import heapq
import inspect
import re
from types import SimpleNamespace
from typing import Any

import pytest
from llama_index.core import Document, Settings
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import LLM, CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection

from tryage.encoders import StaticEncoder

CODE = "def alpha_count(total, count=3):\n    if total > count:\n        return total - count\n"
DATES = (datetime.date, datetime.datetime, datetime.timedelta, datetime.tzinfo)
PROSE = "The quiet river follows the garden, and the garden watches a small village."


class Scripted(LLM):
    """Answers with its label and the last message, natively in all eight ways."""

    label: str
    window: int = 4096
    output: int = 256
    chatty: bool = True
    fault: Any = None
    late: Any = None
    _calls: list[Any] = PrivateAttr(default_factory=list)
    _closed: list[str] = PrivateAttr(default_factory=list)

    @classmethod
    def class_name(cls):
        return "scripted"

    @property
    def metadata(self):
        return LLMMetadata(
            context_window=self.window,
            num_output=self.output,
            is_chat_model=self.chatty,
            model_name=self.label,
        )

    def _text(self, call_input, kwargs):
        self._calls.append((call_input, kwargs))
        if self.fault is not None:
            raise self.fault
        text = call_input if isinstance(call_input, str) else call_input[-1].content
        return f"{self.label} says {text}"

    def _pieces(self, call_input, kwargs):
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

    def _chat(self, text, delta=None):
        message = ChatMessage(text, role="assistant")
        return ChatResponse(message=message, delta=delta, raw={"model": self.label})

    def _completion(self, text, delta=None):
        return CompletionResponse(text=text, delta=delta, raw={"model": self.label})

    @llm_chat_callback()
    def chat(self, messages, **kwargs):
        return self._chat(self._text(messages, kwargs))

    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        return self._completion(self._text(prompt, kwargs | {"formatted": formatted}))

    @llm_chat_callback()
    def stream_chat(self, messages, **kwargs):
        def gen():
            for text, delta in self._pieces(messages, kwargs):
                yield self._chat(text, delta)

        return gen()

    @llm_completion_callback()
    def stream_complete(self, prompt, formatted=False, **kwargs):
        def gen():
            for text, delta in self._pieces(prompt, kwargs):
                yield self._completion(text, delta)

        return gen()

    @llm_chat_callback()
    async def achat(self, messages, **kwargs):
        await asyncio.sleep(0)
        return self._chat(self._text(messages, kwargs))

    @llm_completion_callback()
    async def acomplete(self, prompt, formatted=False, **kwargs):
        await asyncio.sleep(0)
        return self._completion(self._text(prompt, kwargs))

    @llm_chat_callback()
    async def astream_chat(self, messages, **kwargs):
        async def gen():
            for text, delta in self._pieces(messages, kwargs):
                await asyncio.sleep(0)
                yield self._chat(text, delta)

        return gen()

    @llm_completion_callback()
    async def astream_complete(self, prompt, formatted=False, **kwargs):
        async def gen():
            for text, delta in self._pieces(prompt, kwargs):
                await asyncio.sleep(0)
                yield self._completion(text, delta)

        return gen()


class Caller(Scripted, FunctionCallingLLM):
    """Calls the tool that the user's text names with two numbers, then says what came back.

    Tools and calls are in a dialect of its own, which no other expert can read.
    """

    calls_functions: bool = True

    @property
    def metadata(self):
        return super().metadata.model_copy(
            update={"is_function_calling_model": self.calls_functions}
        )

    def _prepare_chat_with_tools(
        self, tools, user_msg=None, chat_history=None, tool_required=False, **kwargs
    ):
        messages = list(chat_history or [])
        if user_msg is not None:
            messages.append(ChatMessage(user_msg) if isinstance(user_msg, str) else user_msg)
        tool_names = [f"{self.label}:{tool.metadata.get_name()}" for tool in tools]
        choice = kwargs.pop("tool_choice", None)
        for name in ("verbose", "allow_parallel_tool_calls"):
            kwargs.pop(name)
        return {
            "messages": messages,
            "tools": tool_names,
            "tool_choice": choice or ("any" if tool_required else "auto"),
            **kwargs,
        }

    def _requested_call(self, messages, tools):
        """Return (tool, arguments) of the call to make, or None."""
        assert all(tool.startswith(f"{self.label}:") for tool in tools)
        names = [tool.partition(":")[2] for tool in tools]
        if messages[-1].role == "tool":
            return None
        operations = re.findall(r"(\w+) (\d+) and (\d+)", messages[-1].content)
        for name, one, two in reversed(operations):
            if name in names:
                return name, {"a": int(one), "b": int(two)}
        return None

    def _pieces(self, call_input, kwargs):
        call = self._requested_call(call_input, kwargs.get("tools", ()))
        if call is None:
            yield from super()._pieces(call_input, kwargs)
            return
        self._text(call_input, kwargs)
        yield "", ("calling", call)

    def _chat(self, text, delta=None):
        call = delta[1] if isinstance(delta, tuple) else None
        response = super()._chat(text, "" if call else delta)
        if call:
            response.message.additional_kwargs["tool_calls"] = [(self.label, *call)]
        return response

    @llm_chat_callback()
    def chat(self, messages, **kwargs):
        return self._whole(messages, kwargs)

    @llm_chat_callback()
    async def achat(self, messages, **kwargs):
        await asyncio.sleep(0)
        return self._whole(messages, kwargs)

    def _whole(self, messages, kwargs):
        last = list(self._pieces(messages, kwargs))[-1]
        response = self._chat(*last)
        response.delta = None
        return response

    def get_tool_calls_from_response(self, response, error_on_no_tool_call=True, **kwargs):
        calls = response.message.additional_kwargs.get("tool_calls", [])
        if not calls and error_on_no_tool_call:
            raise ValueError(f"{self.label} called nothing")
        assert all(dialect == self.label for dialect, *_ in calls)
        return [
            ToolSelection(tool_id=f"{self.label}-{number}", tool_name=name, tool_kwargs=arguments)
            for number, (_, name, arguments) in enumerate(calls)
        ]


class Simple(CustomLLM):
    """The least that LlamaIndex's own documentation tells to write."""

    label: str

    @property
    def metadata(self):
        return LLMMetadata(model_name=self.label)

    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text=f"{self.label} says {prompt}")

    @llm_completion_callback()
    def stream_complete(self, prompt, formatted=False, **kwargs):
        def gen():
            yield CompletionResponse(text=self.label, delta=self.label)
            yield CompletionResponse(text=f"{self.label} says {prompt}", delta=f" says {prompt}")

        return gen()


class Embedding(BaseEmbedding):
    """A local embedding: the static encoder that ships with Tryage."""

    def _vector(self, text):
        return StaticEncoder.bundled().encode([text])[0].tolist()

    def _get_text_embedding(self, text):
        return self._vector(text)

    def _get_query_embedding(self, query):
        return self._vector(query)

    async def _aget_query_embedding(self, query):
        return self._vector(query)


class _Listener(BaseEventHandler):
    events: list

    @classmethod
    def class_name(cls):
        return "listener"

    def handle(self, event, **kwargs):
        self.events.append(event)


@pytest.fixture
def heard():
    """The events that LlamaIndex's dispatcher sends during the test."""
    dispatcher = get_dispatcher()
    listener = _Listener(events=[])
    dispatcher.add_event_handler(listener)
    yield listener.events
    dispatcher.event_handlers.remove(listener)


@pytest.fixture
def settings():
    """LlamaIndex's settings, put back after the test."""
    saved = dict(vars(Settings))
    yield Settings
    vars(Settings).update(saved)


@pytest.fixture(autouse=True)
def _no_loop_is_left_open(request):
    """Without a current loop, LlamaIndex's synchronous methods open one and close it again."""
    if not inspect.iscoroutinefunction(request.function):
        asyncio.set_event_loop(None)


@pytest.fixture(scope="session")
def kit():
    """Prompts of both kinds, and a set of scripted LLMs for the fitted router."""

    def experts(kind=Scripted, **faults):
        names = ("coder", "writer", "giant")
        return {name: kind(label=name, **faults.get(name, {})) for name in names}

    return SimpleNamespace(
        code=CODE,
        prose=PROSE,
        experts=experts,
        Scripted=Scripted,
        Simple=Simple,
        Caller=Caller,
        Embedding=Embedding,
    )


@pytest.fixture(scope="session")
def shelves():
    """Real text that every Python carries, one document a subject."""
    return {
        "heaps": Document(text=heapq.__about__),
        "money": Document(text=decimal.__doc__ + inspect.getdoc(decimal.Decimal.quantize)),
        "dates": Document(text="\n".join(inspect.getdoc(kind) for kind in DATES)),
    }
