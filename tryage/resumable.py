"""An output file that grows block by block, and goes on where an interrupted run left it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tryage.errors import OptionError
from tryage.files import replacing, write_text

MARK = ".unfinished"
"""Added to the name of an output: the file beside it that says how far a run has come."""


_EVERY = 0.5
"""Least seconds between two notes."""


class ResumableOutput:
    """Appends blocks to a file, each with a note of the state after it.

    The note is written after a block, whole or not at all, and says how long the file was then;
    after some blocks, so that notes take no time. What a killed run wrote beyond the last one is
    cut off. The note is removed when the output is finished.

    Args:
        path: the output, a plain file or one to be made. A finished one is replaced with the first
            block, so that a run that fails before it changes nothing.
        options: what the output depends on, as JSON types; a run with other ones is refused.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.path = path
        self.note = path.with_name(path.name + MARK)
        self._options = dict(options)
        self._file: BinaryIO | None = None
        self._size = 0
        self._state: Mapping[str, Any] | None = None
        self._noted = -_EVERY

    def resume(self) -> dict[str, Any] | None:
        """Return the state that an unfinished run left, None where there is none.

        Raises:
            OptionError: it ran with other options, or its files do not belong together.
        """
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            options, size, state = dict(note["options"]), int(note["bytes"]), dict(note["state"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise OptionError(
                f"{self.note} is no note of an unfinished run; remove it to begin anew"
            ) from error
        for name, value in self._options.items():
            if options.get(name) != value:
                raise OptionError(
                    f"{self.path} was begun with {name} {options.get(name)!r}, and now it is "
                    f"{value!r}; finish it with the same, or remove {self.note} to begin anew"
                )
        present = self.path.stat().st_size if self.path.is_file() else 0
        if present < size:
            raise OptionError(
                f"{self.path} has {present:,} bytes, and an unfinished run had written {size:,}; "
                f"remove {self.note} to begin anew"
            )
        self._size = size
        return state

    def append(self, block: bytes, state: Mapping[str, Any]) -> None:
        """Write a block of whole lines, and the state after it.

        Raises:
            OSError: the disk is full, say; what was appended before stays.
        """
        if self._size == 0:
            # A new file in place of a finished one, which other names of it may keep.
            with replacing(self.path) as temporary:
                temporary.write_bytes(block)
        else:
            self._append(block)
        self._size += len(block)
        self._state = state
        if time.monotonic() - self._noted >= _EVERY:
            self._write_note()

    def _append(self, block: bytes) -> None:
        if self._file is None:
            self._file = open(self.path, "r+b")
            self._file.truncate(self._size)
            self._file.seek(self._size)
        try:
            self._file.write(block)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self.path)) from error

    def _write_note(self) -> None:
        note = {"options": self._options, "bytes": self._size, "state": self._state}
        write_text(self.note, json.dumps(note))
        self._noted, self._state = time.monotonic(), None

    def finish(self) -> None:
        """Say that the output is whole."""
        self._state = None
        self.close()
        self.note.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; the run may be taken up again after its last block."""
        if self._state is not None:
            self._write_note()
        if self._file is not None:
            # Everything was flushed, or has failed already.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
