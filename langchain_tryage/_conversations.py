"""What the messages of a call say of the conversation so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from langchain_tryage._sent import sent_tokens
from tryage.binding import Conversation, holds_encrypted


def conversation_of(messages: Sequence[BaseMessage], tools: Sequence[Any] = ()) -> Conversation:
    """Return who answered last, what it has read, and whether nobody else could go on.

    Args:
        messages: of the call.
        tools: of the call.
    """
    for place in reversed(range(len(messages))):
        expert = _answerer(messages[place])
        if expert is not None:
            read = sent_tokens(list(messages[: place + 1]), tools) or 0.0
            return Conversation(expert, read, _is_bound(messages))
    return Conversation()


def _answerer(message: BaseMessage) -> str | None:
    record = message.response_metadata.get("tryage") if isinstance(message, AIMessage) else None
    expert = record.get("answered_by") if isinstance(record, Mapping) else None
    return expert if isinstance(expert, str) else None


def _is_bound(messages: Sequence[BaseMessage]) -> bool:
    last = next(m for m in reversed(messages) if not isinstance(m, SystemMessage))
    if isinstance(last, ToolMessage):
        return True
    return any(
        holds_encrypted(message.content) or holds_encrypted(message.additional_kwargs)
        for message in messages
        if isinstance(message, AIMessage)
    )
