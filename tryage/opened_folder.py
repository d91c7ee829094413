"""A folder whose files are opened all at once, so that they belong together."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Self

_OPENING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""A named pipe must not keep a reader waiting."""


class OpenedFolder:
    """The files of a folder, all opened at once; a context manager.

    What is opened stays what it was, should the folder be replaced meanwhile. What is no regular
    file is left out.

    Args:
        folder: of files.

    Attributes:
        files: name → file, open for reading.

    Raises:
        OSError: the folder cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, BinaryIO] = {}
        self._folder = folder
        self._open = contextlib.ExitStack()
        self._handle: int | None = None

    def __enter__(self) -> Self:
        if os.open in os.supports_dir_fd:
            self._handle = os.open(self._folder, os.O_RDONLY)
            self._open.callback(os.close, self._handle)
        where = self._folder if self._handle is None else self._handle
        with contextlib.ExitStack() as opening:
            opening.callback(self._open.close)
            for name in os.listdir(where):
                path = self._folder / name if self._handle is None else name
                try:
                    handle = os.open(path, os.O_RDONLY | _OPENING, dir_fd=self._handle)
                except OSError as error:
                    # Being removed at this moment, or a link that leads in a circle.
                    if error.errno in (errno.ENOENT, errno.ELOOP):
                        continue
                    raise
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    os.close(handle)
                    continue
                self.files[name] = self._open.enter_context(os.fdopen(handle, "rb"))
            opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def is_current(self) -> bool:
        """Tell whether the folder still has its name: nobody has replaced it since."""
        if self._handle is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self._folder))
        except FileNotFoundError:
            return False
