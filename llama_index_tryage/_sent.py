"""How much a call sends to whichever expert is chosen: history, system prompts and tools too."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from llama_index.core.base.llms.types import (
    ChatMessage,
    DocumentBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.tools.types import BaseTool

from llama_index_tryage._documents import document_text
from llama_index_tryage._modalities import nested_blocks
from tryage.binding import text_tokens
from tryage.tokens import count_tokens

_TOOLS: WeakKeyDictionary[BaseTool, float] = WeakKeyDictionary()
"""Tool → estimated tokens that describe it."""


def sent_tokens(call_input: str | Sequence[ChatMessage], tools: Any = None) -> float:
    """Return the estimated tokens of all that is sent: system prompt, history, calls, tools.

    Args:
        call_input: the prompt or the messages.
        tools: LlamaIndex's own, or a vendor's descriptions of them.
    """
    if isinstance(call_input, str):
        tokens = count_tokens(call_input)
    else:
        tokens = sum(map(_message_tokens, call_input))
    return tokens + (sum(map(_tool_tokens, tools)) if isinstance(tools, list | tuple) else 0)


def _message_tokens(message: ChatMessage) -> float:
    tokens = 0.0
    for block in message.blocks:
        # Almost every block is text, and isinstance is slow for classes of LlamaIndex.
        tokens += count_tokens(block.text) if type(block) is TextBlock else _block_tokens(block)
    others = message.additional_kwargs
    return tokens + text_tokens(others["tool_calls"]) if "tool_calls" in others else tokens


def _block_tokens(block: Any) -> float:
    if isinstance(block, TextBlock):
        return count_tokens(block.text)
    if isinstance(block, ThinkingBlock):
        return count_tokens(block.content or "")
    if isinstance(block, ToolCallBlock):
        return count_tokens(block.tool_name) + text_tokens(block.tool_kwargs)
    if isinstance(block, DocumentBlock):
        return count_tokens(document_text(block) or "")
    return sum(map(_block_tokens, nested_blocks(block)))


def _tool_tokens(tool: Any) -> float:
    """Return the estimated tokens that describe a tool; a schema is made once for each."""
    if not isinstance(tool, BaseTool):
        return text_tokens(tool)
    with contextlib.suppress(KeyError, TypeError):  # not every tool can be a key
        return _TOOLS[tool]
    try:
        data = tool.metadata
        described = [data.name or "", data.description, data.get_parameters_dict()]
    except Exception:  # noqa: BLE001 - tools are the user's; the expert's call raises the error
        return 0
    tokens = text_tokens(described)
    with contextlib.suppress(TypeError):
        _TOOLS[tool] = tokens
    return tokens
