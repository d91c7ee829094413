"""Modalities of a call other than text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, TextBlock

from llama_index_tryage._documents import document_text

MODALITIES = ("image", "audio", "video", "document")
"""Kinds of block that an expert must state to take, if it states what it takes."""


def modalities_of(
    call_input: str | Sequence[ChatMessage], kwargs: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Return the modalities of a call other than text, in the order of `MODALITIES`.

    Args:
        call_input: the prompt or the messages.
        kwargs: of the call; multi-modal LLMs take images as `image_documents`.
    """
    messages = () if isinstance(call_input, str) else call_input
    kinds = {kind for message in messages for kind in _kinds(message.blocks)}
    if kwargs and kwargs.get("image_documents"):
        kinds.add("image")
    return tuple(kind for kind in MODALITIES if kind in kinds)


def nested_blocks(block: Any) -> list[Any]:
    """Return the blocks that a block holds."""
    nested = getattr(block, "content", None) or getattr(block, "cited_content", None)
    if isinstance(nested, list):
        return nested
    return [] if nested is None or isinstance(nested, str) else [nested]


def _kinds(blocks: Iterable[Any]) -> Iterator[str]:
    for block in blocks:
        if type(block) is not TextBlock:
            if document_text(block) is None:
                yield block.block_type
            yield from _kinds(nested_blocks(block))
