"""JSON files with the line that each entry starts on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tryage.characters import DEEPEST, is_deep
from tryage.errors import ScoreTableError
from tryage.json_lines import JsonLineError, RepeatedKeyError, json_lines, without_repeats
from tryage.scores.blocks import check_text

_BLANK = " \t\r\n"


def read_json(path: Path) -> tuple[Any, list[int] | None]:
    """Read a JSON file.

    Returns:
        Its value, and for a list the line that each entry starts on, else None.

    Raises:
        ScoreTableError: it is not JSON; names the line.
    """
    text = decoded(path)
    reader = json.JSONDecoder(object_pairs_hook=without_repeats)
    position = _next(text, 0)
    if text[position : position + 1] != "[":
        value, end = _value(path, reader, text, position)
        if _next(text, end) != len(text):
            raise _error(path, text, end, "more after the end of the value; is it JSONL?")
        return value, None
    entries: list[Any] = []
    lines: list[int] = []
    line, counted = 1, 0
    position = _next(text, position + 1)
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        entry, position = _value(path, reader, text, position)
        entries.append(entry)
        lines.append(line)
        position = _next(text, position)
        if text[position : position + 1] == ",":
            position = _next(text, position + 1)
        elif text[position : position + 1] != "]":
            raise _error(path, text, position, "expected a comma or the end of the list")
    if _next(text, position + 1) != len(text):
        raise _error(path, text, position, "more after the end of the list")
    return entries, lines


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield line number and value of each line of a JSONL file.

    Raises:
        ScoreTableError: a line is not JSON; names it.
    """
    try:
        with path.open("rb") as file:
            yield from json_lines(file)
    except JsonLineError as error:
        name = "" if error.key is None else f"{error.key}: "
        raise ScoreTableError(f"{path}, line {error.number}: {name}{error.problem}") from error


def decoded(path: Path) -> str:
    """Return the text of a file: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        ScoreTableError: it is neither; names the line.
    """
    return path.read_bytes().decode(checked_encoding(path))


def checked_encoding(path: Path) -> str:
    """Return the encoding of a file, all of which is text in it.

    Raises:
        ScoreTableError: it is not; names the line.
    """
    with path.open("rb") as file:
        encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    name = encoding.upper().removesuffix("-SIG")
    check_text(
        path,
        encoding,
        lambda line: ScoreTableError(f"{path}, line {line}: not {name}; save it as UTF-8"),
    )
    return encoding


def _value(path: Path, reader: json.JSONDecoder, text: str, position: int) -> tuple[Any, int]:
    try:
        value, end = reader.raw_decode(text, position)
    except json.JSONDecodeError as error:
        raise _error(path, text, error.pos, f"not JSON: {error.msg}") from error
    except RepeatedKeyError as error:
        raise _error(path, text, position, str(error)) from error
    except (RecursionError, ValueError) as error:
        raise _error(path, text, position, str(error).split(";")[0]) from error
    if text.count("[", position, end) + text.count("{", position, end) > DEEPEST and is_deep(value):
        raise _error(path, text, position, f"nested deeper than {DEEPEST} levels")
    return value, end


def _error(path: Path, text: str, position: int, problem: str) -> ScoreTableError:
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return ScoreTableError(f"{path}, line {line}, character {column}: {problem}")


def _next(text: str, position: int) -> int:
    while position < len(text) and text[position] in _BLANK:
        position += 1
    return position
