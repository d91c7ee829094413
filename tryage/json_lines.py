"""JSON, a value per line, read with a check of every line; no key may stand twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tryage.characters import DEEPEST, is_deep, short
from tryage.files import repeated


class JsonLineError(ValueError):
    """A line of a JSONL file cannot be read.

    Attributes:
        number: the line, counted from 1.
        problem: what is wrong.
        key: the key at fault; None if it is the whole line.
    """

    def __init__(self, number: int, problem: str, key: str | None = None) -> None:
        super().__init__(f"line {number}: {problem}")
        self.number = number
        self.problem = problem
        self.key = key


def json_lines(data: bytes | Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    """Yield the number, counted from 1, and the value of every line that is not blank.

    Args:
        data: all lines, or one after the other, such as an open file.

    Raises:
        JsonLineError: a line is not UTF-8 or not JSON, repeats a key (`json` would drop one), or
            exceeds the limits on nesting or on the length of numbers.
    """
    lines = data.split(b"\n") if isinstance(data, bytes) else data
    for number, line in enumerate(lines, 1):
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not line.strip():
            continue
        try:
            value = _json_value(line.decode("utf-8").removesuffix("\n"))
        except UnicodeDecodeError as error:
            raise JsonLineError(number, f"not UTF-8 (byte {error.start + 1})") from error
        except json.JSONDecodeError as error:
            problem = f"not JSON: {error.msg} at character {error.pos + 1}"
            raise JsonLineError(number, problem) from error
        except RepeatedKeyError as error:
            raise JsonLineError(number, error.problem, error.key) from error
        except (RecursionError, ValueError) as error:
            reason = str(error).split(";")[0]  # the rest is advice for Python programmers
            raise JsonLineError(number, f"not JSON that can be read: {reason}") from error
        if line.count(b"[") + line.count(b"{") > DEEPEST and is_deep(value):
            raise JsonLineError(number, f"nested deeper than {DEEPEST} levels")
        yield number, value


def _json_value(text: str) -> Any:
    """Return the value of a line; looks at every object alone only where a key may stand twice."""
    try:
        value, end = _PLAIN.raw_decode(text)
    except (ValueError, RecursionError):
        return _CAREFUL.decode(text)
    if type(value) is dict and end == len(text):
        keys = len(value)
        for part in value.values():
            if type(part) is dict:
                keys += len(part)
        # At least one `":` follows each key, unless there is a blank in between.
        blank = " :" in text or "\t:" in text or "\r:" in text
        if not blank and text.count('":') == keys:
            return value
    return _CAREFUL.decode(text)


class RepeatedKeyError(ValueError):
    """A JSON object holds the same key twice.

    Attributes:
        key: which one.
        problem: what is wrong, with both values.
    """

    def __init__(self, key: str, values: Sequence[Any]) -> None:
        first, second = map(short, values)
        self.key = key
        self.problem = f"stands twice; keep one of {first} and {second}"
        super().__init__(f"key {key!r} {self.problem}")


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, as a hook of `json.loads`, which would keep the last of two keys.

    Raises:
        RepeatedKeyError: a key stands twice.
    """
    entry = dict(pairs)
    if len(entry) != len(pairs) and (twice := repeated([key for key, _ in pairs])):
        key, first, second = twice
        raise RepeatedKeyError(key, (pairs[first][1], pairs[second][1]))
    return entry


_PLAIN = json.JSONDecoder()
_CAREFUL = json.JSONDecoder(object_pairs_hook=without_repeats)
