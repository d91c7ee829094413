"""Modalities of messages other than text, in LangChain's own and every vendor's blocks."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from langchain_core.prompt_values import ChatPromptValue

from tryage.errors import PromptError

KINDS = ("audio", "image", "pdf", "video")
"""Modalities besides text, as LangChain's model profiles name them. A pdf is any document."""

_KIND_OF_TYPE = {
    "audio": "audio",
    "audio_url": "audio",
    "image": "image",
    "image_url": "image",
    "input_audio": "audio",
    "input_image": "image",
    "input_video": "video",
    "video": "video",
    "video_url": "video",
}
"""Type of a block, or the one key of a block without a type → modality."""

_FILES = (
    "document",
    "document_url",
    "file",
    "file_data",
    "fileData",
    "inline_data",
    "inlineData",
    "input_file",
    "media",
)
"""Types and keys of blocks whose media type gives the modality."""

_MEDIA_TYPES = ("mime_type", "mimeType", "media_type", "mediaType")
_NAMES = ("filename", "file_name", "name", "url", "file_url", "file_uri", "fileUri")
_ADDRESSES = ("file_data", "url", "data", "file_url", "document_url")
_INNER = ("document", "file", "file_data", "fileData", "inline_data", "inlineData", "source")
_MARKS = ("cachePoint", "cache_point")
"""Types and keys of blocks that mark where a vendor's cache cuts."""

_THOUGHTS = ("reasoning", "reasoning_content", "redacted_thinking", "thinking")
"""Types of blocks in which models write what they thought."""

_TEXT_TYPES = ("json", "xml", "yaml", "javascript", "csv", "x-sh", "x-python")


def modalities(messages: Iterable[BaseMessage]) -> frozenset[str]:
    """Return which of `KINDS` messages hold."""
    return frozenset(
        kind
        for message in messages
        if isinstance(message.content, list)
        for kind in _kinds(message.content)
    )


def file_text(content: str | Sequence[Any]) -> str:
    """Return what stands in the files of text of a message, ``"[file]"`` where it is encoded.

    These are no words of the message's author.
    """
    if isinstance(content, str):
        return ""
    files = [block for block in content if isinstance(block, Mapping)]
    files = [block for block in files if block.get("type") in ("text-plain", *_FILES)]
    return "\n".join(_texts(files, by_model=True)) or ("[file]" if files else "")


def messages_in(value: Any) -> Sequence[BaseMessage]:
    """Return the messages of an input of any form, or of the values of a dict; text has none."""
    if isinstance(value, BaseMessage):
        return [value]
    if isinstance(value, ChatPromptValue):
        return value.messages
    if isinstance(value, Mapping):
        return [message for part in value.values() for message in messages_in(part)]
    if not isinstance(value, list | tuple):
        return []
    if all(isinstance(part, BaseMessage) for part in value):
        return value
    try:
        return convert_to_messages(value)
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError):
        return []  # a list of something else


def read_text(message: BaseMessage) -> str:
    """Return a message as text, for a model that reads text alone.

    Calls of tools are written out. What a model thought before, and marks and records of vendors
    in its answers, are left out.

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
        kind = None if block.get("type") == "text" else _kind(block)
        if kind is not None:
            kind = block.get("type", kind)
            raise PromptError(f"a local pipeline reads text, not a block of {kind!r}")
        if block.get("type") in _THOUGHTS:
            continue
        text = block.get("text")
        source = block.get("source")
        nested = [part.get("content") for part in (block, source) if isinstance(part, Mapping)]
        if isinstance(text, str):
            yield text
        elif any(isinstance(part, list | str) for part in nested):
            for part in nested:
                yield from _texts([part] if isinstance(part, str) else part or (), by_model)
        elif not by_model and block.get("type", next(iter(block), None)) not in _MARKS:
            raise PromptError(f"a local pipeline reads text, not a block of {block.get('type')!r}")


def _kinds(blocks: Iterable[Any]) -> Iterator[str]:
    for block in blocks:
        if not isinstance(block, Mapping) or block.get("type") == "text":
            continue
        kind = _kind(block)
        if kind is not None:
            yield kind
        source = block.get("source")
        for inner in (block, source):
            if isinstance(inner, Mapping) and isinstance(inner.get("content"), list):
                yield from _kinds(inner["content"])


def _kind(block: Mapping[str, Any]) -> str | None:
    """Return the modality of one block; None for text and for what no model has to see."""
    names = [block["type"]] if isinstance(block.get("type"), str) else list(block)
    for name in names:
        if name in _KIND_OF_TYPE:
            return _KIND_OF_TYPE[name]
        if name in _FILES:
            return _kind_of_file(block)
    return None


def _kind_of_file(block: Mapping[str, Any]) -> str | None:
    """Return what a file is by its media type or name; a document where neither is known."""
    parts = [block, *(block[key] for key in _INNER if isinstance(block.get(key), Mapping))]
    parts += [part["source"] for part in parts[1:] if isinstance(part.get("source"), Mapping)]
    if any(part.get("type") in ("text", "content") for part in parts[1:]):
        return None  # its text or its blocks stand in it
    media_types = (media_type_ for part in parts if (media_type_ := _media_type(part)) is not None)
    media_type = next(media_types, "application/pdf")
    family, _, subtype = media_type.partition("/")
    if family in _KIND_OF_TYPE:
        return family
    return None if family == "text" or subtype.rpartition("+")[2] in _TEXT_TYPES else "pdf"


def _media_type(part: Mapping[str, Any]) -> str | None:
    """Return the media type that a part of a block states or that its name ends in."""
    for key in _MEDIA_TYPES:
        if isinstance(part.get(key), str):
            return str(part[key]).partition(";")[0].strip().lower()
    addresses = [part[key] for key in _ADDRESSES if isinstance(part.get(key), str)]
    for address in addresses:
        if address.startswith("data:"):
            return str(address[5:64]).partition(";")[0].partition(",")[0].lower() or "text/plain"
    ending = part.get("format")
    names = [part[key] for key in _NAMES if isinstance(part.get(key), str)]
    if isinstance(ending, str):
        names.insert(0, ending if "/" in ending else f"file.{ending}")
    for name in names:
        guess = mimetypes.guess_type(name.partition("?")[0])[0]
        if guess is not None:
            return guess
        if name.endswith((".md", ".txt", ".yaml", ".yml", ".toml", ".rst")):
            return "text/plain"
    return None
