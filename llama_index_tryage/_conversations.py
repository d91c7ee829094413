"""Who answered last in a conversation, for LLMs that stay with an expert.

Histories of LlamaIndex hold messages and not responses, and what is put on a message is sent to its
service. So an LLM remembers by a digest of each answer which expert gave it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)

from llama_index_tryage._inputs import TOOL_REPORTS
from llama_index_tryage._sent import sent_tokens
from tryage.binding import Conversation, Sticky, holds_encrypted

R = TypeVar("R")

MOST_ANSWERS = 4096
"""Most answers that an LLM remembers; the oldest are forgotten first."""


class Answerers:
    """The experts that gave the last answers, by digests that hold no text."""

    def __init__(self) -> None:
        self._experts: dict[bytes, str] = {}

    def note(self, response: Any, sticky: Sticky = True) -> None:
        """Remember who gave an answer to messages, if it can be told from others.

        Args:
            response: of an expert.
            sticky: as in `TryageLLM`; for False only what binds a conversation is remembered.
        """
        if not isinstance(response, ChatResponse):
            return
        if sticky is False and not _binds(response.message):
            return
        digest = _digest(response.message)
        expert = response.additional_kwargs.get("tryage", {}).get("answered_by")
        if digest is None or expert is None:
            return
        experts = self._experts
        experts.pop(digest, None)
        experts[digest] = expert
        while len(experts) > MOST_ANSWERS:
            experts.pop(next(iter(experts)), None)

    def noting(
        self, responses: Generator[R, None, None], sticky: Sticky
    ) -> Generator[R, None, None]:
        """Yield the responses of a stream, and note the last one."""
        last = None
        with closing(responses):
            try:
                for response in responses:
                    last = response
                    yield response
            finally:
                self.note(last, sticky)

    async def anoting(
        self, responses: AsyncGenerator[R, None], sticky: Sticky
    ) -> AsyncGenerator[R, None]:
        """Do what `noting` does."""
        last = None
        async with aclosing(responses):
            try:
                async for response in responses:
                    last = response
                    yield response
            finally:
                self.note(last, sticky)

    def conversation(
        self, messages: Sequence[ChatMessage], tools: Any = None, sticky: Sticky = True
    ) -> Conversation:
        """Return who answered last, what it has read, and whether nobody else could go on.

        Args:
            messages: of the call.
            tools: of the call.
            sticky: as in `TryageLLM`; for False only who is bound counts.
        """
        if not self._experts or (sticky is False and not _is_bound(messages)):
            return Conversation()
        for place in reversed(range(len(messages))):
            if messages[place].role != MessageRole.ASSISTANT:
                continue
            digest = _digest(messages[place])
            expert = None if digest is None else self._experts.get(digest)
            if expert is not None and sticky is False:
                return Conversation(expert, is_bound=True)
            if expert is not None:
                read = sent_tokens(messages[: place + 1], tools)
                return Conversation(expert, read, _is_bound(messages))
        return Conversation()


def _digest(message: ChatMessage) -> bytes | None:
    """Return a digest of an answer's text and calls; None where it has neither."""
    parts = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            parts.append(block.text)
        elif isinstance(block, ToolCallBlock):
            parts.append(f"{block.tool_call_id} {block.tool_name} {block.tool_kwargs}")
    calls = message.additional_kwargs.get("tool_calls")
    if calls:
        parts.append(repr(calls))
    if not any(parts):
        return None
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=16).digest()


def _is_bound(messages: Sequence[ChatMessage]) -> bool:
    last = next((m for m in reversed(messages) if m.role != MessageRole.SYSTEM), None)
    if last is None:
        return False
    if last.role in (MessageRole.TOOL, MessageRole.FUNCTION):
        return True
    if last.role == MessageRole.USER and (last.content or "").startswith(TOOL_REPORTS):
        return True
    return any(
        _is_encrypted(message) for message in messages if message.role == MessageRole.ASSISTANT
    )


def _is_encrypted(message: ChatMessage) -> bool:
    return holds_encrypted(message.additional_kwargs) or any(
        holds_encrypted(getattr(block, "additional_information", None)) for block in message.blocks
    )


def _binds(message: ChatMessage) -> bool:
    """Return whether an answer calls tools or holds encrypted reasoning."""
    return (
        any(isinstance(block, ToolCallBlock) for block in message.blocks)
        or bool(message.additional_kwargs.get("tool_calls"))
        or _is_encrypted(message)
    )
