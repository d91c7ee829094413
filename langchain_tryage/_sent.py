"""How much a call sends to whichever expert is chosen: history, system prompts and tools too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.prompt_values import PromptValue, StringPromptValue
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tryage._message_texts import file_text
from langchain_tryage._modalities import kind_of, messages_in
from tryage.binding import text_tokens
from tryage.tokens import count_tokens

_MOST_CACHED = 256

_MADE = ("image_generation_call",)
"""Types of blocks in which models answer with data that are no text."""

_sizes: dict[int, tuple[BaseTool, float]] = {}
"""Id of a tool → the tool, so that the id stays its own, and the tokens of its schema."""


def sent_tokens(part: Any, tools: Iterable[Any] = ()) -> float | None:
    """Return the estimated tokens that go to an expert; None where the part is of no known form.

    Args:
        part: text, a prompt or messages.
        tools: of the call, in any form.
    """
    if isinstance(part, str):
        count = count_tokens(part)
    elif isinstance(part, StringPromptValue):
        count = count_tokens(part.text)
    elif isinstance(part, PromptValue | BaseMessage | Sequence):
        messages = part.to_messages() if isinstance(part, PromptValue) else messages_in(part)
        count = sum(map(_message_tokens, messages))
    else:
        return None
    return count + sum(map(_tool_tokens, tools))


def _message_tokens(message: BaseMessage) -> float:
    content = message.content
    count = count_tokens(content) if isinstance(content, str) else _block_tokens(content)
    if isinstance(message, AIMessage) and message.tool_calls:
        count += text_tokens([[call["name"], call["args"]] for call in message.tool_calls])
    return count


def _block_tokens(content: Any) -> float:
    """Return the tokens of a message's blocks: of files of text what stands in them."""
    if isinstance(content, list | tuple):
        return sum(map(_block_tokens, content))
    if not isinstance(content, Mapping):
        return text_tokens(content)
    text = file_text(content)
    if text is not None:
        return count_tokens(text)
    if content.get("type") in _MADE or kind_of(content) is not None:
        return text_tokens(content.get("text") or "")
    others = {key: value for key, value in content.items() if key != "content"}
    return text_tokens(others) + _block_tokens(content.get("content") or "")


def _tool_tokens(tool: Any) -> float:
    """Return the estimated tokens of a tool's schema, which is worked out once for each tool."""
    if isinstance(tool, Mapping):
        return text_tokens(tool)
    if not isinstance(tool, BaseTool):
        return 0
    cached = _sizes.get(id(tool))
    if cached is None or cached[0] is not tool:
        if len(_sizes) >= _MOST_CACHED:
            _sizes.clear()
        cached = _sizes[id(tool)] = (tool, text_tokens(convert_to_openai_tool(tool)))
    return cached[1]
