"""Scripted chat models that answer from their input."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr

CODE = "def alpha_count(total, count=3):\n    if total > count:\n        return total - count\n"
PROSE = "The quiet river follows the garden, and the garden watches a small village."


class Whole(BaseChatModel):
    """Answers with its label and the last message; cannot stream."""

    label: str
    fault: Any = None
    _calls: list[Any] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self):
        return "scripted"

    @property
    def _identifying_params(self):
        return {"label": self.label}

    def _get_ls_params(self, stop=None, **kwargs):
        params = super()._get_ls_params(stop=stop, **kwargs)
        return params | {"ls_model_name": f"{self.label}-model", "ls_provider": "scripted"}

    def _text(self, messages, stop, kwargs):
        self._calls.append({"messages": messages, "stop": stop, "kwargs": kwargs})
        if self.fault is not None:
            raise self.fault
        text = f"{self.label} says {messages[-1].text}"
        for mark in stop or []:
            text = text.partition(mark)[0]
        return text

    def _facts(self, text):
        written = len(text.split())
        usage = {"input_tokens": 5, "output_tokens": written, "total_tokens": 5 + written}
        return {
            "response_metadata": {"model_name": f"{self.label}-model"},
            "usage_metadata": usage,
        }

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        text = self._text(messages, stop, kwargs)
        message = AIMessage(content=text, **self._facts(text))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages, stop, **kwargs)


class Streaming(Whole):
    """The same, word by word; `late` is raised after the first."""

    late: Any = None

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        text = self._text(messages, stop, kwargs)
        for number, word in enumerate(text.split(" ")):
            if number == 1 and self.late is not None:
                raise self.late
            piece = word if number == 0 else f" {word}"
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        last = AIMessageChunk(content="", **self._facts(text), chunk_position="last")
        yield ChatGenerationChunk(message=last)

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        for chunk in self._stream(messages, stop, **kwargs):
            yield chunk


class Recorder(BaseCallbackHandler):
    """Keeps what callbacks are told."""

    def __init__(self):
        self.starts = []
        self.tokens = []
        self.ends = []
        self.errors = []

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self.starts.append(kwargs | {"messages": messages, "serialized": serialized})

    def on_chain_start(self, serialized, inputs, **kwargs):
        pass

    def on_chain_error(self, error, **kwargs):
        self.errors.append(error)

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)

    def on_llm_end(self, response, **kwargs):
        self.ends.append(response)

    def on_llm_error(self, error, **kwargs):
        self.errors.append(error)


@pytest.fixture(scope="session")
def kit():
    """Prompts of both kinds, the scripted models, and a set of them for the fitted router."""

    def experts(kind=Streaming, **faults):
        names = ("coder", "writer", "giant")
        return {name: kind(label=name, **faults.get(name, {})) for name in names}

    return SimpleNamespace(
        code=CODE,
        prose=PROSE,
        experts=experts,
        Whole=Whole,
        Streaming=Streaming,
        Recorder=Recorder,
    )
