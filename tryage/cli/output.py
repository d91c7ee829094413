"""Output of the commands: text, JSON, progress, and errors as one clear line."""

from __future__ import annotations

import contextlib
import contextvars
import errno
import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from tryage.errors import (
    DispatchError,
    NoEligibleExpertError,
    OptionError,
    PromptError,
    TryageError,
)
from tryage.paths import STANDARD, read_bytes, user_path

if TYPE_CHECKING:
    from rich.status import Status

P = ParamSpec("P")

_PATH_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
"""Errors of a path that the user named; any other OSError is a fault of the machine."""

_READER_GONE = 141
"""Exit code where the reader of standard output has gone: that of a program that SIGPIPE ends."""

_STANDARD_OUTPUT_TAKEN = contextvars.ContextVar("standard output taken", default=False)
"""Whether a file of the command is standard output."""

_NO_LIMIT = 1_000_000
"""Characters of a line that no table fills."""

_OUTPUTS = ("out", "output", "plot", "html")
"""Arguments that name what is written; other paths are read."""


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Print expected errors in one line and exit: code 2 for errors of the user, 1 for others."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            arguments = _as_meant(kwargs)
            # Text beside a file that goes to standard output goes to standard error.
            is_taken = any(arguments.get(name) == STANDARD for name in _OUTPUTS)
            token = _STANDARD_OUTPUT_TAKEN.set(is_taken)
            try:
                command(*args, **arguments)
            finally:
                _STANDARD_OUTPUT_TAKEN.reset(token)
        except BrokenPipeError as error:
            if error.filename is not None:
                _fail(f"{error.filename}: {error.strerror}", 1)
            _stop_writing()
            raise typer.Exit(_READER_GONE) from error
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
        except KeyboardInterrupt as interruption:
            _fail(str(interruption) or "interrupted; finished work is kept", 130)

    return run


def _as_meant(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with the paths that users meant.

    Raises:
        OptionError: two of them are standard input, or ``--json`` and a file standard output.
    """
    paths = {
        name: user_path(value) if isinstance(value, Path) else value
        for name, value in arguments.items()
    }
    standard = [name for name, value in paths.items() if value in (STANDARD, "-")]
    inputs = [name for name in standard if name not in _OUTPUTS]
    if len(inputs) > 1:
        raise OptionError(f"{' and '.join(inputs)} are both '-', which can be read only once")
    if paths.get("as_json") and len(standard) > len(inputs):
        raise OptionError("--json and '-' both take standard output; name a file")
    return paths


def text_of(argument: str) -> str:
    """Return a prompt that was named on the command line; ``-`` is standard input.

    Raises:
        PromptError: standard input is not UTF-8.
    """
    if argument != "-":
        return argument
    try:
        return read_bytes(STANDARD).decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise PromptError(f"standard input: not UTF-8 (byte {error.start + 1})") from error


def _stop_writing() -> None:
    """Drop what is left for standard output: Python flushes it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    sys.stdout = open(os.devnull, "w")


def _fail(message: str, code: int) -> NoReturn:
    print_error(message)
    raise typer.Exit(code)


def print_error(message: str) -> None:
    """Print an error in one line, or one line for each expert, on standard error."""
    note(f"error: {message}", style="red")


def stderr() -> Console:
    """Return a console on standard error."""
    return Console(stderr=True)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning in one line on standard error."""
    note(f"warning: {message}")


def note(text: str, style: str = "") -> None:
    """Print text on standard error as it is, whatever markup it seems to hold."""
    stderr().print(Text(text, style=style), soft_wrap=True)


def waiting(what: str) -> Status:
    """Return a context manager that shows on standard error what is being done."""
    return stderr().status(Text(what))


def say(text: str) -> None:
    """Write text to standard output unchanged: a model's answer may contain markup."""
    if _STANDARD_OUTPUT_TAKEN.get():
        note(text)
    else:
        write_out([text + "\n"])


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose values are whole; what seems markup or an emoji's code is text.

    Where a terminal is too narrow for it, each row is a list of its values.
    """
    table = Table(*(Column(Text(head)) for head in heads))
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    # Without a height, rich takes every width for 80 where TERM is "dumb".
    width = Console(width=_NO_LIMIT, height=console.height).measure(table).maximum
    if not console.is_terminal or width <= console.width:
        Console(width=width, height=console.height).print(table)
        return
    for first, *others in rows:
        say(first)
        for head, value in zip(heads[1:], others, strict=True):
            if value:
                say(f"  {head}: {value}")


def print_json(data: Any) -> None:
    """Print one JSON object on one line of standard output."""
    write_out([json_text(data) + "\n"])


def json_text(data: Any) -> str:
    """Return JSON in characters that standard output can hold."""
    text = json.dumps(data, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(data)
    return text


def writes_unicode() -> bool:
    """Whether standard output can hold every character."""
    return (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"


def write_out(lines: Iterable[str]) -> None:
    """Write lines to standard output, which shows characters that it cannot hold as escapes.

    Raises:
        BrokenPipeError: its reader is gone.
        OSError: it cannot be written; where the disk is full, the error names standard output.
    """
    try:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        _stop_writing()
        raise OSError(error.errno, os.strerror(error.errno), "standard output") from error
