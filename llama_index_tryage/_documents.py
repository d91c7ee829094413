"""Documents in messages that are files of text: any model reads them."""

from __future__ import annotations

import base64
import binascii
from io import IOBase
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import DocumentBlock

from tryage.binding import is_text_type, text_of, type_of_name


def document_text(block: Any) -> str | None:
    """Return what stands in a document that is a file of text.

    What LlamaIndex states no media type of is text if its name says so, or its bytes are UTF-8.

    Returns:
        The text; empty where the message does not hold it, such as a file behind an address. None
        for other documents and other blocks.
    """
    if not isinstance(block, DocumentBlock):
        return None
    names = [str(name) for name in (block.path, block.url, block.title) if name]
    guesses = (guess for name in names if (guess := type_of_name(name)) is not None)
    media_type = block.document_mimetype or next(guesses, None)
    if media_type is not None:
        return (text_of(_data(block) or b"")) if is_text_type(media_type) else None
    data = _data(block)
    if not data or b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _data(block: DocumentBlock) -> bytes | None:
    """Return the bytes of a document that need not be fetched."""
    data = block.data
    if isinstance(data, bytes):
        try:
            return base64.b64decode(data, validate=True)  # LlamaIndex encodes them
        except binascii.Error:
            return data
    if isinstance(data, IOBase):
        place = data.tell()
        content: bytes = data.read()
        data.seek(place)
        return content
    try:
        return None if block.path is None else Path(block.path).read_bytes()
    except OSError:
        return None  # the expert's call raises the error
