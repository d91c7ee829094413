"""What stands in messages as text: for models that read text alone, and in files of text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock

from llama_index_tryage._documents import document_text
from llama_index_tryage._modalities import MODALITIES, nested_blocks
from tryage.errors import PromptError


def texts_of_documents(message: ChatMessage) -> str | None:
    """Return what stands in the files of text of a message; None where it holds none.

    These are no words of the message's author.
    """
    return _joined(document_text(block) for block in message.blocks)


def read_text(blocks: Iterable[Any]) -> str:
    """Return a message as text, for a model that reads text only.

    Calls of tools are written out, cited texts stand for themselves; what a model thought before,
    and marks for caches, are left out.

    Raises:
        PromptError: there is a picture, a sound, a video or a document.
    """
    texts = []
    for block in blocks:
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ToolCallBlock):
            tool_kwargs = block.tool_kwargs
            arguments = (
                tool_kwargs
                if isinstance(tool_kwargs, str)
                else json.dumps(tool_kwargs, ensure_ascii=False)
            )
            texts.append(f"{block.tool_name}({arguments})")
        elif text := document_text(block):
            texts.append(text)
        elif block.block_type in MODALITIES:
            raise PromptError(f"a local pipeline reads text, not a block of {block.block_type!r}")
        else:
            texts.append(read_text(nested_blocks(block)))
    return "\n".join(text for text in texts if text)


def _joined(texts: Iterable[str | None]) -> str | None:
    held = [text for text in texts if text is not None]
    return "\n".join(text for text in held if text) if held else None
