"""Output of the commands: text, JSON, progress, and errors as one clear line."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec

import typer
from rich.console import Console

from tryage.errors import DispatchError, NoEligibleExpertError, TryageError

if TYPE_CHECKING:
    from rich.progress import Progress

P = ParamSpec("P")

_PATH_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
"""Errors of a path that the user named; any other OSError is a fault of the machine."""


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Print expected errors in one line and exit: code 2 for errors of the user, 1 for others."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except DispatchError as error:
            _fail(str(error), 1)
        except NoEligibleExpertError as error:
            _fail(str(error), 2)
        except TryageError as error:
            _fail(" ".join(str(error).split()), 2)
        except _PATH_ERRORS as error:
            _fail(f"{error.filename}: {error.strerror}", 2)
        except OSError as error:
            named = error.filename is not None and error.strerror
            _fail(f"{error.filename}: {error.strerror}" if named else str(error), 1)
        except KeyboardInterrupt:
            _fail("interrupted; finished work is kept", 130)

    return run


def _fail(message: str, code: int) -> None:
    stderr().print(f"error: {message}", soft_wrap=True, markup=False, highlight=False, style="red")
    raise typer.Exit(code)


def stderr() -> Console:
    """Return a console on standard error."""
    return Console(stderr=True)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning in one line on standard error."""
    stderr().print(f"warning: {message}", soft_wrap=True, markup=False, highlight=False)


def say(text: str) -> None:
    """Write text to standard output unchanged: a model's answer may contain markup."""
    write_out([text + "\n"])


def print_json(data: Any) -> None:
    """Print one JSON object on one line of standard output."""
    write_out([json.dumps(data, ensure_ascii=False) + "\n"])


def write_out(lines: Iterable[str]) -> None:
    """Write lines to standard output.

    Raises:
        OSError: it cannot be written; where the disk is full, the error names standard output.
    """
    try:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        # Python flushes once more at its end, which would fail again and say less.
        sys.stdout = open(os.devnull, "w")
        raise OSError(error.errno, os.strerror(error.errno), "standard output") from error


@contextlib.contextmanager
def progress_bars(*, rate: str | None = None) -> Iterator[Progress]:
    """Yield progress bars on standard error.

    Args:
        rate: unit of a column with the speed of each bar, such as ``"cells/s"``; None omits it.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.1f} {rate}")

    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    if rate is not None:
        columns.insert(3, Rate())
    with Progress(*columns, console=stderr()) as progress:
        yield progress


class ProgressLines:
    """Prints progress as lines where bars cannot be drawn: in a log or a pipe.

    Args:
        every: least seconds between two lines; the end of each part is always printed.
        rate: unit of the speed, such as ``"cells/s"``.
    """

    def __init__(self, *, every: float = 30.0, rate: str) -> None:
        self._every, self._rate = every, rate
        self._starts: dict[str, tuple[float, int]] = {}
        self._printed = time.monotonic()

    def update(self, name: str, done: int, total: int) -> None:
        """Note how much of a part is done, and print it if the last line is old enough."""
        now = time.monotonic()
        start, done_before = self._starts.setdefault(name, (now, done))
        if done < total and now - self._printed < self._every:
            return
        self._printed = now
        line = f"{name}: {done:,} of {total:,}"
        if done > done_before and now > start:
            speed = (done - done_before) / (now - start)
            line += f", {speed:,.1f} {self._rate}, {(total - done) / speed:,.0f} s left"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
