"""What a check sees of LlamaIndex's responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse, ToolCallBlock
from llama_index.core.llms import LLM

from tryage.binding import Views
from tryage.dispatch import AnswerView


def response_view(response: Any) -> AnswerView:
    """Return the view of a response, or of the object that a structured call made."""
    if isinstance(response, CompletionResponse):
        return AnswerView(response.text, _logprobs(response.logprobs))
    if not isinstance(response, ChatResponse):
        return AnswerView(response)
    message = response.message
    calls = any(isinstance(block, ToolCallBlock) for block in message.blocks)
    calls = calls or bool(message.additional_kwargs.get("tool_calls"))
    return AnswerView(message.content or "", _logprobs(response.logprobs), calls)


def _last(responses: list[Any]) -> AnswerView:
    """Return the view of a stream: of tokens, or of responses that hold the whole answer so far."""
    if isinstance(responses[-1], str):
        return AnswerView("".join(responses))
    return response_view(responses[-1])


def _logprobs(logprobs: Any) -> Sequence[float] | None:
    """Return the log-probability of every token; LlamaIndex lists the alternatives of each."""
    if not logprobs:
        return None
    return [float(token[0].logprob) for token in logprobs if token]


def _ask(expert: LLM, text: str) -> str:
    return expert.complete(text).text


VIEWS = Views(response_view, _last, _ask)
