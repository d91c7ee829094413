"""Modalities of messages other than text, in LangChain's own and every vendor's blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, convert_to_messages
from langchain_core.prompt_values import ChatPromptValue

from tryage.binding import is_text_type, type_of_name

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


def modalities(messages: Iterable[BaseMessage]) -> frozenset[str]:
    """Return which of `KINDS` messages hold."""
    return frozenset(
        kind
        for message in messages
        if isinstance(message.content, list)
        for kind in _kinds(message.content)
    )


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


def _kinds(blocks: Iterable[Any]) -> Iterator[str]:
    for block in blocks:
        if not isinstance(block, Mapping) or block.get("type") == "text":
            continue
        kind = kind_of(block)
        if kind is not None:
            yield kind
        source = block.get("source")
        for inner in (block, source):
            if isinstance(inner, Mapping) and isinstance(inner.get("content"), list):
                yield from _kinds(inner["content"])


def kind_of(block: Mapping[str, Any]) -> str | None:
    """Return the modality of one block; None for text and for what no model has to see."""
    for name in _names(block):
        if name in _KIND_OF_TYPE:
            return _KIND_OF_TYPE[name]
        if name in _FILES:
            return _kind_of_file(block)
    return None


def is_text_file(block: Mapping[str, Any]) -> bool:
    """Whether a block is a file of text."""
    is_file = any(name in _FILES or name == "text-plain" for name in _names(block))
    return is_file and kind_of(block) is None


def parts_of(block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a block and the mappings inside of it in which vendors describe a file."""
    parts = [block, *(block[key] for key in _INNER if isinstance(block.get(key), Mapping))]
    return parts + [p["source"] for p in parts[1:] if isinstance(p.get("source"), Mapping)]


def _names(block: Mapping[str, Any]) -> list[str]:
    """Return what may name the form of a block: its type, else its keys."""
    return [block["type"]] if isinstance(block.get("type"), str) else list(block)


def _kind_of_file(block: Mapping[str, Any]) -> str | None:
    """Return what a file is by its media type or name; a document where neither is known."""
    parts = parts_of(block)
    if any(part.get("type") in ("text", "content") for part in parts[1:]):
        return None  # its text or its blocks stand in it
    media_types = (media_type_ for part in parts if (media_type_ := _media_type(part)) is not None)
    media_type = next(media_types, "application/pdf")
    family = media_type.partition("/")[0]
    if family in _KIND_OF_TYPE:
        return family
    return None if is_text_type(media_type) else "pdf"


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
    return next((guess for name in names if (guess := type_of_name(name)) is not None), None)
