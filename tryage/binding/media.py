"""Media types of files in messages: which of them are text."""

from __future__ import annotations

import mimetypes

_TEXT_TYPES = ("json", "xml", "yaml", "javascript", "csv", "x-sh", "x-python")
_TEXT_ENDINGS = (".md", ".txt", ".yaml", ".yml", ".toml", ".rst")


def is_text_type(media_type: str) -> bool:
    """Whether files of a media type are text."""
    family, _, subtype = media_type.partition("/")
    return family == "text" or subtype.rpartition("+")[2] in _TEXT_TYPES


def type_of_name(name: str) -> str | None:
    """Return the media type that a file's name or address ends in; None where it tells none."""
    guess = mimetypes.guess_type(name.partition("?")[0])[0]
    return "text/plain" if guess is None and name.endswith(_TEXT_ENDINGS) else guess


def text_of(data: bytes) -> str:
    """Return a file of text as text; what is not UTF-8 in it is replaced."""
    return data.decode("utf-8-sig", errors="replace")
