"""Scripted LLMs that answer from their input, and a listener to LlamaIndex's events."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import heapq
import inspect
from types import SimpleNamespace

import pytest
from llama_index.core import Document, Settings
from llama_index.core.base.llms.types import (
    CompletionResponse,
    LLMMetadata,
)
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_completion_callback

from llama_index_tryage.testing import ScriptedLLM, ScriptedToolLLM, recorded_events
from tryage.encoders import StaticEncoder

CODE = "def alpha_count(total, count=3):\n    if total > count:\n        return total - count\n"
DATES = (datetime.date, datetime.datetime, datetime.timedelta, datetime.tzinfo)
PROSE = "The quiet river follows the garden, and the garden watches a small village."


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


@pytest.fixture
def heard():
    """The events that LlamaIndex's dispatcher sends during the test."""
    with recorded_events() as events:
        yield events


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

    def experts(kind=ScriptedLLM, **faults):
        names = ("coder", "writer", "giant")
        return {name: kind(label=name, **faults.get(name, {})) for name in names}

    return SimpleNamespace(
        code=CODE,
        prose=PROSE,
        experts=experts,
        Scripted=ScriptedLLM,
        Simple=Simple,
        Caller=ScriptedToolLLM,
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
