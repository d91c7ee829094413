"""The prompts to measure: read, checked, and made into one row per task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tryage.errors import PromptError
from tryage.labeling.words import MaskedText, align, mask_words
from tryage.library import FILL_MASK, TEXT_GENERATION
from tryage.runtime.fill_mask import MASK

Prompts = str | Path | Iterable[str | Mapping[str, Any]]
"""A JSONL file, or the prompts themselves: texts, or mappings with the keys of such a line."""


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of one task, ready to be measured.

    Attributes:
        id: unique within the task.
        prompt: what routing will see; a fill-mask prompt carries its `[MASK]`s.
        task: the task.
        group: group of the prompt, or None.
        reference: for text-generation the answer to score, None to score the prompt itself;
            for fill-mask the text without marks.
        masked: the hidden words of a fill-mask row; else None.
    """

    id: str
    prompt: str
    task: str
    group: str | None = None
    reference: str | None = None
    masked: MaskedText | None = None


def read_rows(prompts: Prompts, tasks: Iterable[str], *, mask_share: float) -> list[Row]:
    """Make the rows that a library's experts are measured on.

    A prompt that names its task gives one row. One that holds `[MASK]` is a fill-mask prompt. Any
    other gives one row for each of text-generation and fill-mask that `tasks` holds.

    Args:
        prompts: a JSONL file of ``{"prompt", "id"?, "group"?, "task"?, "reference"?}``, or an
            iterable of such mappings or of texts.
        tasks: the tasks that the library's experts do.
        mask_share: part of the words to hide where a fill-mask row is made from plain text.

    Raises:
        PromptError: a prompt is wrong; the message says where (file and line) and in which field.
    """
    known = tuple(tasks)
    rows: list[Row] = []
    seen: dict[tuple[str, str], str] = {}
    occurrences: dict[str, int] = {}
    for where, entry in _entries(prompts):
        try:
            made = _rows(entry, known, occurrences, mask_share)
        except PromptError as error:
            raise PromptError(f"{where}: {error}") from error
        for row in made:
            first = seen.setdefault((row.task, row.id), where)
            if first != where:
                raise PromptError(f"{where}: id: {row.id!r} was used by {first} already")
        rows += made
    if not rows:
        source = str(prompts) if isinstance(prompts, str | Path) else "prompts"
        raise PromptError(f"{source}: there are no prompts to measure")
    return rows


def _entries(prompts: Prompts) -> Iterator[tuple[str, Any]]:
    if not isinstance(prompts, str | Path):
        for number, entry in enumerate(prompts, 1):
            yield f"prompt {number}", entry
        return
    path = Path(prompts)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise PromptError(f"prompts file {str(path)!r} does not exist") from error
    except OSError as error:
        raise PromptError(f"prompts file {str(path)!r}: {error.strerror}") from error
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
        except UnicodeDecodeError as error:
            raise PromptError(f"{where}: not UTF-8 (byte {error.start + 1})") from error
        except json.JSONDecodeError as error:
            raise PromptError(f"{where}: not JSON: {error.msg} (column {error.colno})") from error
        yield where, entry


def _rows(
    entry: Any, tasks: tuple[str, ...], occurrences: dict[str, int], mask_share: float
) -> list[Row]:
    if isinstance(entry, str):
        entry = {"prompt": entry}
    if not isinstance(entry, Mapping):
        raise PromptError(f'expected an object such as {{"prompt": "..."}}, found {short(entry)}')
    prompt = _text(entry, "prompt")
    if prompt is None:
        raise PromptError("prompt: is missing or empty")
    group, task = _text(entry, "group"), _text(entry, "task")
    reference = _text(entry, "reference")
    name = _id(entry.get("id"), prompt, occurrences)
    if task is None and MASK in prompt:
        task = FILL_MASK
    if task is not None and task not in tasks:
        raise PromptError(
            f"task: no expert of the library does {task!r}; it has {', '.join(tasks)}"
        )
    rows = []
    if task in (None, TEXT_GENERATION) and TEXT_GENERATION in tasks:
        rows.append(Row(name, prompt, TEXT_GENERATION, group, reference))
    if task in (None, FILL_MASK) and FILL_MASK in tasks:
        given = reference if task == FILL_MASK else None
        rows.append(_masked_row(name, prompt, group, given, mask_share))
    return rows


def _masked_row(
    name: str, prompt: str, group: str | None, reference: str | None, mask_share: float
) -> Row:
    if MASK not in prompt:
        masked = mask_words(prompt, share=mask_share)
    elif reference is None:
        raise PromptError(f"reference: missing; a prompt with {MASK} needs its text without marks")
    else:
        # The same text hidden in the same way: exact even where the marks could stand elsewhere.
        masked = mask_words(reference, share=mask_share)
        if masked.prompt != prompt:
            try:
                masked = align(prompt, reference)
            except PromptError as error:
                raise PromptError(f"reference: {error}") from error
    return Row(name, masked.prompt, FILL_MASK, group, masked.text, masked)


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise PromptError(f"{key}: expected text, found {short(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PromptError(f"{key}: holds half a character (at {error.start + 1})") from error
    return value if value.strip() else None


def _id(value: Any, prompt: str, occurrences: dict[str, int]) -> str:
    if value is None:
        # As score tables name prompts without id.
        occurrences[prompt] = occurrences.get(prompt, 0) + 1
        return f"{hashlib.sha256(prompt.encode()).hexdigest()[:16]}-{occurrences[prompt]}"
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise PromptError(f"id: expected text or a whole number, found {short(value)}")
    return str(value)


def short(value: Any) -> str:
    """A value as error messages show it: never more than 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
