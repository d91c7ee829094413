"""What a check sees of LangChain's answers."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.outputs import ChatGenerationChunk, ChatResult, GenerationChunk, LLMResult

from tryage.binding import Views
from tryage.dispatch import AnswerView


def message_view(message: BaseMessage) -> AnswerView:
    """Return the view of a message: its text, log-probabilities, and whether it calls tools."""
    calls = isinstance(message, AIMessage) and bool(message.tool_calls)
    return AnswerView(message.text, _logprobs(message.response_metadata), calls)


def value_view(value: Any) -> AnswerView:
    """Return the view of any runnable's output."""
    return message_view(value) if isinstance(value, BaseMessage) else AnswerView(value)


def _logprobs(metadata: Any) -> Sequence[float] | None:
    """Return log-probabilities in the form in which OpenAI's and others' models give them."""
    logprobs = metadata.get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(tokens, list):
        return None
    return [float(token["logprob"]) for token in tokens if "logprob" in token]


def _result(result: ChatResult) -> AnswerView:
    return message_view(result.generations[0].message)


def _chat_chunks(chunks: list[ChatGenerationChunk]) -> AnswerView:
    # Added up at once: one by one each step copies the text so far.
    return message_view((chunks[0] + chunks[1:]).message)


def _text_result(result: LLMResult) -> AnswerView:
    return AnswerView(result.generations[0][0].text)


def _text_chunks(chunks: list[GenerationChunk]) -> AnswerView:
    return AnswerView("".join(chunk.text for chunk in chunks))


def _value_chunks(chunks: list[Any]) -> AnswerView:
    if all(isinstance(chunk, str) for chunk in chunks):
        return value_view("".join(chunks))
    if all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
        return value_view(add_ai_message_chunks(*chunks))
    try:
        return value_view(functools.reduce(operator.add, chunks))
    except TypeError:  # what cannot be added up ends with the whole
        return value_view(chunks[-1])


def _ask_model(expert: Any, text: str) -> str:
    return str(value_view(expert.model.invoke(text)).answer)


def _ask_runnable(expert: Any, text: str) -> str:
    return str(value_view(expert.invoke(text)).answer)


CHAT_VIEWS = Views(_result, _chat_chunks, _ask_model)
TEXT_VIEWS = Views(_text_result, _text_chunks, _ask_model)
RUNNABLE_VIEWS = Views(value_view, _value_chunks, _ask_runnable)
