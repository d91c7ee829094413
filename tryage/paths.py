"""Paths as users write them, and whether something may be written there.

`~` is the home folder, `-` is standard input or output.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tryage.errors import OutputFolderError

STANDARD = Path("-")
"""Standard input where something is read, standard output where something is written."""

_STREAMS = ("/dev/fd/", "/dev/std", "/proc/")
"""Where names stand for what a process has open."""


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return the path that a user wrote; `~` and `~name` are home folders."""
    return Path(os.path.expanduser(path))


def shown(path: Path) -> str:
    """Return what messages call a path."""
    return "standard input" if path == STANDARD else str(path)


def read_bytes(path: Path) -> bytes:
    """Return the contents of a file, or of standard input where the path is ``-``."""
    return sys.stdin.buffer.read() if path == STANDARD else path.read_bytes()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, or yield standard input where the path is ``-``."""
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    with path.open("rb") as file:
        yield file


def check_writable(path: Path) -> None:
    """Check that a file may be written, before work is done for it.

    Raises:
        OSError: it may not; names what stands in the way.
    """
    if path == STANDARD:
        return
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        _check_parent(Path(os.path.realpath(path)))
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def check_folder(folder: Path) -> None:
    """Check that a folder may be made or filled, before work is done for it.

    Raises:
        OutputFolderError: it may not.
    """
    shown = str(folder)
    if folder == STANDARD:
        raise OutputFolderError("'-' is standard output, which holds no folder; name a folder")
    try:
        mode = os.stat(folder).st_mode
    except (FileNotFoundError, NotADirectoryError):
        try:
            _check_parent(Path(os.path.realpath(folder)))
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}"
            raise OutputFolderError(f"{shown!r} cannot be made: {problem}") from error
        return
    except OSError as error:
        raise OutputFolderError(f"{shown!r} cannot be used: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise OutputFolderError(f"{shown!r} is a file; name a folder")


def _check_parent(path: Path) -> None:
    """Check that something new may be made at a path, its missing parents too."""
    parent = next(folder for folder in path.parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(parent))


def is_stream(path: Path) -> bool:
    """Tell whether a path is a pipe, a device or standard input or output, not a file or folder."""
    if path == STANDARD or os.path.abspath(path).startswith(_STREAMS):
        return True
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def pour(source: Path, path: Path) -> None:
    """Write the contents of a file into what stands at a path."""
    with source.open("rb") as contents:
        if path == STANDARD:
            sys.stdout.flush()
            shutil.copyfileobj(contents, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        # A stream may be a file that somebody else writes too, as with ``>>``.
        how = os.O_APPEND if is_stream(path) else os.O_TRUNC
        try:
            handle = os.open(path, os.O_WRONLY | how | getattr(os, "O_BINARY", 0))
            with os.fdopen(handle, "wb") as target:
                shutil.copyfileobj(contents, target)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
