"""How much a call sends to whichever expert is chosen: history, system prompts and tools too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.prompt_values import PromptValue, StringPromptValue
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tryage._modalities import messages_in
from tryage.binding import text_chars

_MOST_CACHED = 256

_sizes: dict[int, tuple[BaseTool, int]] = {}
"""Id of a tool → the tool, so that the id stays its own, and the characters of its schema."""


def sent_chars(part: Any, tools: Iterable[Any] = ()) -> int | None:
    """Return the characters that go to an expert; None where the part is of no known form.

    Args:
        part: text, a prompt or messages.
        tools: of the call, in any form.
    """
    if isinstance(part, str):
        count = len(part)
    elif isinstance(part, StringPromptValue):
        count = len(part.text)
    elif isinstance(part, PromptValue | BaseMessage | Sequence):
        messages = part.to_messages() if isinstance(part, PromptValue) else messages_in(part)
        count = sum(map(_message_chars, messages))
    else:
        return None
    return count + sum(map(_tool_chars, tools))


def _message_chars(message: BaseMessage) -> int:
    content = message.content
    count = len(content) if isinstance(content, str) else text_chars(content)
    if isinstance(message, AIMessage) and message.tool_calls:
        count += text_chars([[call["name"], call["args"]] for call in message.tool_calls])
    return count


def _tool_chars(tool: Any) -> int:
    """Return the characters of a tool's schema, which is worked out once for each tool."""
    if isinstance(tool, Mapping):
        return text_chars(tool)
    if not isinstance(tool, BaseTool):
        return 0
    cached = _sizes.get(id(tool))
    if cached is None or cached[0] is not tool:
        if len(_sizes) >= _MOST_CACHED:
            _sizes.clear()
        cached = _sizes[id(tool)] = (tool, text_chars(convert_to_openai_tool(tool)))
    return cached[1]
