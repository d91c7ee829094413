"""Reads and checks prompts: a file, or texts and mappings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tryage.characters import short as short
from tryage.errors import PromptError, missing_extra
from tryage.json_lines import JsonLineError, json_lines
from tryage.near_misses import warn_of_near_misses
from tryage.occurrences import Occurrences
from tryage.parquet_files import ParquetError, ParquetRows
from tryage.paths import opened, shown, user_path

_KEYS = ("prompt", "id", "group", "task", "reference")

Prompts = str | Path | Iterable[str | Mapping[str, Any]]
"""A file, or the prompts themselves: texts, or mappings with the keys of a JSONL line.

A file is JSONL, Parquet with columns of these names, or the folder of a `datasets.Dataset`. A
`datasets.Dataset` is an iterable of such mappings.
"""


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One prompt of the input.

    Attributes:
        prompt: its text, never empty.
        id: as given, else a hash of the prompt and its occurrence number.
        where: file and line, or number, for error messages.
        group: group of the prompt, or None.
        task: the task it is meant for, or None.
        reference: the answer it is measured against, or None.
    """

    prompt: str = field(repr=False)
    id: str
    where: str
    group: str | None = None
    task: str | None = None
    reference: str | None = field(default=None, repr=False)


def prompt_id(prompt: str, occurrence: int) -> str:
    """Return the id of a prompt that names none: a hash of it and its occurrence number, from 1."""
    return f"{_hash(prompt)}-{occurrence}"


def _hash(prompt: str) -> str:
    """Return 64 bits of the text's SHA-256, in hex."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def prompt_list(prompts: Iterable[str]) -> list[str]:
    """Return prompts as a list: of a generator too, which gives them only once.

    Raises:
        PromptError: they are one text, whose letters would pass for prompts, or no texts at all.
    """
    if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
        what = "one text" if isinstance(prompts, str) else type(prompts).__name__
        raise PromptError(f"expected a sequence of prompts, found {what}; wrap it in a list")
    return list(prompts)


def read_prompts(prompts: Prompts) -> Iterator[PromptRecord]:
    """Yield prompts as mappings hold them: ``{"prompt", "id"?, "group"?, "task"?, "reference"?}``.

    Args:
        prompts: a JSONL or Parquet file, the folder that `datasets.Dataset.save_to_disk` wrote,
            or an iterable of such mappings or of texts.

    Raises:
        PromptError: a prompt is wrong; the message says where (file and line) and in which field.
    """
    occurrences = Occurrences()
    keys: dict[str, None] = {}
    for where, entry in _entries(prompts):
        if isinstance(entry, Mapping) and not entry.keys() <= keys.keys():
            _warn_of_keys(entry, keys, where)
        try:
            yield _record(entry, where, occurrences)
        except PromptError as error:
            raise PromptError(f"{where}: {error}") from error


def _entries(prompts: Prompts) -> Iterator[tuple[str, Any]]:
    if not isinstance(prompts, str | Path):
        yield from _numbered(prompts, "prompt")
        return
    path = user_path(prompts)
    if path.is_dir():
        yield from _numbered(_saved_dataset(path), f"{path}, row")
        return
    if path.suffix.lower() == ".parquet":
        yield from _numbered(_parquet_rows(path), f"{path}, row")
        return
    source = shown(path)
    try:
        with opened(path) as lines:
            for number, entry in json_lines(lines):
                yield f"{source}, line {number}", entry
    except FileNotFoundError as error:
        raise PromptError(f"prompts file {str(path)!r} does not exist") from error
    except OSError as error:
        raise PromptError(f"prompts file {str(path)!r}: {error.strerror}") from error
    except JsonLineError as error:
        field = "" if error.key is None else f"{error.key}: "
        raise PromptError(f"{source}, line {error.number}: {field}{error.problem}") from error


def _numbered(entries: Any, what: str) -> Iterator[tuple[str, Any]]:
    if isinstance(entries, Mapping):
        # A DatasetDict, or one prompt where a list of them was meant.
        keys = ", ".join(short(key) for key in list(entries)[:5])
        raise PromptError(
            f"prompts: expected several prompts, found a mapping with {keys}; choose one split of "
            "a data set, and put a single prompt into a list"
        )
    for number, entry in enumerate(entries, 1):
        yield f"{what} {number}", entry


def _saved_dataset(folder: Path) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise missing_extra("hf", "reading a saved data set") from error
    try:
        return datasets.load_from_disk(folder)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PromptError(f"{str(folder)!r} holds no saved data set: {reason}") from error


def _parquet_rows(path: Path) -> Iterator[Any]:
    try:
        yield from ParquetRows(path, _KEYS, "reading Parquet")
    except FileNotFoundError as error:
        raise PromptError(f"prompts file {str(path)!r} does not exist") from error
    except OSError as error:
        raise PromptError(f"prompts file {str(path)!r}: {error.strerror or error}") from error
    except ParquetError as error:
        raise PromptError(f"prompts file {str(path)!r}: not a Parquet file: {error}") from error


def _record(entry: Any, where: str, occurrences: Occurrences) -> PromptRecord:
    if isinstance(entry, str):
        entry = {"prompt": entry}
    if not isinstance(entry, Mapping):
        raise PromptError(f'expected an object such as {{"prompt": "..."}}, found {short(entry)}')
    prompt = _text(entry, "prompt")
    if prompt is None:
        raise PromptError("prompt: is missing or empty")
    # Texts count as one where their ids would be: by 64 bits of a hash.
    head = _hash(prompt)
    occurrence = occurrences.number(int(head, 16))
    return PromptRecord(
        prompt=prompt,
        id=_id(entry.get("id")) or f"{head}-{occurrence}",
        where=where,
        group=_text(entry, "group"),
        task=_text(entry, "task"),
        reference=_text(entry, "reference"),
    )


def _warn_of_keys(entry: Mapping[str, Any], keys: dict[str, None], where: str) -> None:
    """Note the keys of an entry; warn of new ones that are near misses of those that are read."""
    new = [key for key in entry if isinstance(key, str) and key not in keys]
    present = [key for key in _KEYS if key in entry]
    warn_of_near_misses([*present, *new], _KEYS, where, stacklevel=4)
    keys.update(dict.fromkeys(new))


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise PromptError(f"{key}: expected text, found {short(value)}")
    place = half_character(value)
    if place is not None:
        raise PromptError(f"{key}: holds half a character (at {place})")
    return value if value.strip() else None


def half_character(text: str) -> int | None:
    """Return where a text holds half a surrogate pair, from 1: it cannot be sent or written."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start + 1
    return None


def _id(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise PromptError(f"id: expected text or a whole number, found {short(value)}")
    return str(value)
