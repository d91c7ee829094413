"""What stands in messages as text: for models that read text alone, and in files of text."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from langchain_core.messages import AIMessage, BaseMessage

from langchain_tryage._modalities import is_text_file, kind_of, parts_of
from tryage.binding import text_of
from tryage.errors import PromptError

_MARKS = ("cachePoint", "cache_point")
"""Types and keys of blocks that mark where a vendor's cache cuts."""

_THOUGHTS = ("reasoning", "reasoning_content", "redacted_thinking", "thinking")
"""Types of blocks in which models write what they thought."""

_DATA = ("data", "base64", "bytes", "file_data", "url", "document_url", "file_url")
"""Where vendors put what stands in a file."""


def file_text(block: Mapping[str, Any]) -> str | None:
    """Return what stands in a block that is a file of text, however it is encoded.

    Returns:
        The text; empty where the message does not hold it, such as a file behind an address. None
        for any other block.
    """
    if not is_text_file(block):
        return None
    for part in parts_of(block):
        for value in (part.get("text"), part.get("content")):
            if isinstance(value, str):
                return value
            if isinstance(value, list):
                inner = [each for each in value if isinstance(each, Mapping)]
                is_text = all(isinstance(each.get("text"), str) for each in inner)
                return "\n".join(each["text"] for each in inner) if is_text else None
        is_plain = "text" in (part.get("type"), part.get("source_type"))
        for key in _DATA:
            text = _decoded(part.get(key), is_plain and key == "data", is_address="url" in key)
            if text is not None:
                return text
    return ""


def texts_of_files(content: str | Sequence[Any]) -> str | None:
    """Return what stands in the files of text of a message; None where it holds none.

    These are no words of the message's author.
    """
    blocks = [] if isinstance(content, str) else content
    texts = [file_text(block) for block in blocks if isinstance(block, Mapping)]
    held = [text for text in texts if text is not None]
    return "\n".join(text for text in held if text) if held else None


def read_text(message: BaseMessage) -> str:
    """Return a message as text, for a model that reads text alone.

    Calls of tools and files of text are written out. What a model thought before, and marks and
    records of vendors in its answers, are left out.

    Raises:
        PromptError: there is a picture, a sound, a video or a document, or an unknown block in a
            message that no model wrote.
    """
    by_model = isinstance(message, AIMessage)
    content = message.content
    texts = [content] if isinstance(content, str) else list(_texts(content, by_model))
    if isinstance(message, AIMessage):
        for call in [*message.tool_calls, *message.invalid_tool_calls]:
            args = call["args"]
            arguments = args if isinstance(args, str) else json.dumps(args, ensure_ascii=False)
            texts.append(f"{call['name']}({arguments or ''})")
    return "\n".join(text for text in texts if text)


def _texts(blocks: Iterable[Any], by_model: bool) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, str):
            yield block
            continue
        kind = None if block.get("type") == "text" else kind_of(block)
        if kind is not None:
            kind = block.get("type", kind)
            raise PromptError(f"a local pipeline reads text, not a block of {kind!r}")
        if block.get("type") in _THOUGHTS:
            continue
        text = block.get("text") or file_text(block)
        source = block.get("source")
        nested = [part.get("content") for part in (block, source) if isinstance(part, Mapping)]
        if isinstance(text, str) and (text or block.get("type") == "text"):
            yield text
        elif any(isinstance(part, list | str) for part in nested):
            for part in nested:
                yield from _texts([part] if isinstance(part, str) else part or (), by_model)
        elif not by_model and block.get("type", next(iter(block), None)) not in _MARKS:
            raise PromptError(f"a local pipeline reads text, not a block of {block.get('type')!r}")


def _decoded(value: Any, is_plain: bool, *, is_address: bool) -> str | None:
    """Return the text of a file's data; None where it is not in the value."""
    data: bytes | None = None
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
    elif isinstance(value, str) and value.startswith("data:"):
        head, _, body = value.partition(",")
        data = _from_base64(body) if head.endswith(";base64") else unquote_to_bytes(body)
    elif isinstance(value, str) and is_plain:
        return value
    elif isinstance(value, str) and not is_address:
        data = _from_base64(value)
    return None if data is None else text_of(data)


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
