"""How much a call sends: context lengths and costs follow from all of it, not from the question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from tryage.tokens import count_tokens

_DATA = frozenset(("data", "base64", "bytes", "file_data", "image", "url"))
_TELLS_MEDIA = frozenset(
    ("mime_type", "mimeType", "mimetype", "media_type", "mediaType", "source_type", "format")
)


def text_tokens(value: Any) -> float:
    """Return the estimated tokens of all texts in a value made of JSON types.

    Pictures, recordings and other data count nothing: what a model makes of their bytes is not
    known. Such data are bytes, ``data:`` URLs, and the data of a mapping that states a media type.

    Args:
        value: messages' contents, calls of tools, schemas and the like. Objects that are no JSON
            count nothing.
    """
    if isinstance(value, str):
        return 0 if value.startswith("data:") else count_tokens(value)
    if isinstance(value, Mapping):
        media = not _TELLS_MEDIA.isdisjoint(value)
        return sum(
            count_tokens(str(key)) + text_tokens(part)
            for key, part in value.items()
            if not (media and key in _DATA)
        )
    if isinstance(value, bytes | bytearray | memoryview):
        return 0
    if isinstance(value, Sequence | Set):
        return sum(map(text_tokens, value))
    return count_tokens(str(value)) if isinstance(value, int | float) else 0
