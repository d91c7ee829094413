"""A score table that gets one line for each scored answer."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from numbers import Real
from pathlib import Path

import numpy as np

from tryage.errors import FeedbackError
from tryage.files import lock
from tryage.paths import check_writable, user_path
from tryage.prompts import short
from tryage.scores.feedback_lines import torn_tail
from tryage.scores.files import json_line

_APPENDING = threading.Lock()
"""One for all files, so that what holds a file can be copied and pickled."""


class FeedbackFile:
    """Appends whole lines to a JSONL score table; safe from many threads and processes.

    What a crash left of a line is cut off before the next one is written.

    Args:
        path: the file; its ending is ``.jsonl``. It is made at the first line.

    Raises:
        FeedbackError: another ending, no plain file, or a place that may not be written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = user_path(path)
        odd = self.path.exists() and not self.path.is_file()
        if self.path.suffix.lower() != ".jsonl" or odd:
            raise FeedbackError(f"feedback goes to a .jsonl file, not to {str(path)!r}")
        try:
            check_writable(self.path)
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}"
            raise FeedbackError(f"feedback cannot be kept in {str(path)!r}: {problem}") from error

    def __repr__(self) -> str:
        return f"FeedbackFile({str(self.path)!r})"

    def append(self, prompt: str, task: str, expert: str, score: float) -> None:
        """Write one line: the prompt, and what one expert scored on it.

        Raises:
            FeedbackError: the score is no number in [0, 1], or the prompt is empty.
            OSError: the line cannot be written; nothing is left of it.
        """
        # NumPy counts its truth values among no numbers.
        # Compared before it is converted: a whole number may be larger than any float.
        if not isinstance(score, Real | np.bool_) or not 0 <= score <= 1:
            raise FeedbackError(f"a score is a number in [0, 1], not {short(score)}")
        if not prompt.strip():
            raise FeedbackError("the prompt is empty; nothing can be learned from its score")
        entry = {"prompt": prompt, "task": task, "scores": {expert: float(score)}}
        line = json_line(entry).encode("utf-8") + b"\n"
        with _APPENDING:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path) as handle:
                _write(handle, line, self.path)


def _write(handle: int, line: bytes, path: Path) -> None:
    if torn := torn_tail(handle):
        os.ftruncate(handle, os.fstat(handle).st_size - torn)
    size = os.fstat(handle).st_size
    os.lseek(handle, max(0, size - 1), os.SEEK_SET)
    if size and os.read(handle, 1) != b"\n":
        # Somebody wrote a last line without an end; it stays a line of its own.
        line = b"\n" + line
    written = 0
    try:
        written = os.write(handle, line)
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    except OSError as error:
        if written:
            os.ftruncate(handle, size)
        raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open a file for appending, under a lock that other processes wait for."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        lock(handle)
        yield handle
    finally:
        os.close(handle)
