"""What the messages of a call say of the conversation so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from langchain_tryage._sent import sent_tokens
from tryage.binding import Conversation, Sticky, holds_encrypted


def conversation_of(
    messages: Sequence[BaseMessage],
    tools: Sequence[Any] = (),
    sticky: Sticky = True,
    *,
    loops_bind: bool = True,
) -> Conversation:
    """Return who answered last, what it has read, and whether nobody else could go on.

    Args:
        messages: of the call.
        tools: of the call.
        sticky: as in `ChatTryage`; for False tokens are not counted, since only who is bound stays.
        loops_bind: whether nobody else could go on while a tool's result is awaited.
    """
    for place in reversed(range(len(messages))):
        expert = _answerer(messages[place])
        if expert is not None:
            bound = _is_bound(messages, loops_bind)
            if sticky is False:
                return Conversation(expert, is_bound=bound)
            read = sent_tokens(list(messages[: place + 1]), tools) or 0.0
            return Conversation(expert, read, bound)
    return Conversation()


def _answerer(message: BaseMessage) -> str | None:
    record = message.response_metadata.get("tryage") if isinstance(message, AIMessage) else None
    expert = record.get("answered_by") if isinstance(record, Mapping) else None
    return expert if isinstance(expert, str) else None


def _is_bound(messages: Sequence[BaseMessage], loops_bind: bool) -> bool:
    last = next(m for m in reversed(messages) if not isinstance(m, SystemMessage))
    if loops_bind and isinstance(last, ToolMessage):
        return True
    return any(
        holds_encrypted(message.content) or holds_encrypted(message.additional_kwargs)
        for message in messages
        if isinstance(message, AIMessage)
    )
