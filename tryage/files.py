"""Atomic writes of files and folders, file locks, and checked reading of JSON lines."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LOCK_POLL = 0.005
"""Seconds between two attempts to take a lock that another process holds."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; on success it replaces `path`.

    The data reaches the disk before the name changes, so a crash leaves either the old file or
    the complete new one.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = _beside(path)
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`.

    The old folder is removed only after the new one is complete.
    """
    path = path.resolve()
    temporary = _beside(path)
    temporary.mkdir()
    old = temporary.with_name(temporary.name + ".old")
    try:
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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


def json_lines(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the number, counted from 1, and the value of every line that is not blank.

    Raises:
        JsonLineError: a line is not UTF-8 or not JSON, repeats a key (`json` would drop one), or
            exceeds the limits on nesting or on the length of numbers.
    """
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8"), object_pairs_hook=_without_repeats)
        except UnicodeDecodeError as error:
            raise JsonLineError(number, f"not UTF-8 (byte {error.start + 1})") from error
        except json.JSONDecodeError as error:
            problem = f"not JSON: {error.msg} at character {error.pos + 1}"
            raise JsonLineError(number, problem) from error
        except _RepeatedKeyError as error:
            raise JsonLineError(number, "stands twice; keep one", error.args[0]) from error
        except (RecursionError, ValueError) as error:
            reason = str(error).split(";")[0]  # the rest is advice for Python programmers
            raise JsonLineError(number, f"not JSON that can be read: {reason}") from error
        yield number, value


class _RepeatedKeyError(ValueError):
    """A JSON object holds the same key twice."""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(next(key for key in keys if keys.count(key) > 1))
    return entry


def lock(handle: int) -> None:
    """Take the exclusive lock on an open file or folder; waits for other processes.

    Closing the handle releases the lock, and so does the end of the process. Some network file
    systems have no locks; there this returns at once.
    """
    from filelock import lock_descriptor

    with contextlib.suppress(OSError):
        lock_descriptor(handle, poll_interval=_LOCK_POLL)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(path: Path) -> Path:
    """Return an unused hidden name in the folder of `path`; creates the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}")
