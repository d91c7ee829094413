"""Appending whole lines to a file that other threads and processes append to as well."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_APPENDING = threading.Lock()
"""One for all files, so that what holds a file can be copied and pickled."""

_POLL = 0.005
"""Seconds between two attempts to take a lock."""


def append(
    path: Path,
    data: bytes,
    *,
    torn: Callable[[int], int] | None = None,
    timeout: float | None = None,
) -> None:
    """Append lines to a file, all of them or none.

    Args:
        path: the file; it and its folder are made where they are missing.
        data: lines with their ends.
        torn: bytes that a crash left at the end of the open file and that are cut off; None cuts
            nothing.
        timeout: most seconds to wait for other processes; then the lines are appended without
            the lock. None waits for ever.

    Raises:
        OSError: the lines cannot be written; nothing is left of them.
    """
    with _APPENDING:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opened(path, timeout) as (handle, is_locked):
            if is_locked and torn is not None and (length := torn(handle)):
                os.ftruncate(handle, os.fstat(handle).st_size - length)
            _write(handle, data, path, is_locked)


def _write(handle: int, data: bytes, path: Path, is_locked: bool) -> None:
    size = os.fstat(handle).st_size
    os.lseek(handle, max(0, size - 1), os.SEEK_SET)
    if size and os.read(handle, 1) != b"\n":
        # Somebody wrote a last line without an end; it stays a line of its own.
        data = b"\n" + data
    written = 0
    try:
        written = os.write(handle, data)
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    except OSError as error:
        if written and is_locked:
            os.ftruncate(handle, size)
        raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error


@contextlib.contextmanager
def _opened(path: Path, timeout: float | None) -> Iterator[tuple[int, bool]]:
    """Open a file for appending; yield it and whether its lock is held, or there are none here."""
    from filelock import lock_descriptor

    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        end = None if timeout is None else time.monotonic() + timeout
        is_locked = True
        with contextlib.suppress(OSError):  # some network file systems have no locks
            while not (is_locked := lock_descriptor(handle, blocking=False)):
                if end is not None and time.monotonic() >= end:
                    break
                time.sleep(_POLL)
        yield handle, is_locked
    finally:
        os.close(handle)
