"""Scripted LLMs that answer from their input, and a listener to LlamaIndex's events."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import LLM, CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

CODE = "def alpha_count(total, count=3):\n    if total > count:\n        return total - count\n"
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

    def _text(self, given, kwargs):
        self._calls.append((given, kwargs))
        if self.fault is not None:
            raise self.fault
        text = given if isinstance(given, str) else given[-1].content
        return f"{self.label} says {text}"

    def _pieces(self, given, kwargs):
        so_far = ""
        try:
            for number, word in enumerate(self._text(given, kwargs).split(" ")):
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


class _Listener(BaseEventHandler):
    events: list[str]

    @classmethod
    def class_name(cls):
        return "listener"

    def handle(self, event, **kwargs):
        self.events.append(type(event).__name__)


@pytest.fixture
def heard():
    """Names of the events that LlamaIndex's dispatcher sends during the test."""
    dispatcher = get_dispatcher()
    listener = _Listener(events=[])
    dispatcher.add_event_handler(listener)
    yield listener.events
    dispatcher.event_handlers.remove(listener)


@pytest.fixture(scope="session")
def kit():
    """Prompts of both kinds, and a set of scripted LLMs for the fitted router."""

    def experts(kind=Scripted, **faults):
        names = ("coder", "writer", "giant")
        return {name: kind(label=name, **faults.get(name, {})) for name in names}

    return SimpleNamespace(
        code=CODE, prose=PROSE, experts=experts, Scripted=Scripted, Simple=Simple
    )
