"""Atomic writes of files and folders, and file locks."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tryage.paths import check_writable, is_stream, pour

_LOCK_POLL = 0.005
"""Seconds between two attempts to take a lock that another process holds."""

_ASIDE = ".old"
"""Ends the name of a folder that stepped aside for its successor."""

_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD, and RENAME_EXCHANGE of Linux, which is RENAME_SWAP of macOS."""

_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)
"""How systems and file systems say that they cannot exchange two names."""

_OTHER_WAS_FASTER = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT)
"""How it shows that another process replaced the same folder in between."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file; on success it becomes `path`, whole or not at all.

    The data reaches the disk before the name changes, so a crash leaves either the old file or
    the complete new one. What an earlier crash left beside it is removed. A link stays a link, to
    the new contents, and a file keeps its mode. Other names of the file (hard links) keep the old
    contents: writing through them could leave half a file. A pipe, a device or standard output
    (``-``) gets the contents, and stays what it is.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    check_writable(path)
    target = Path(os.path.realpath(path))
    if is_stream(path) or (target.exists() and not os.access(target.parent, os.W_OK)):
        with tempfile.TemporaryDirectory(prefix="tryage-") as folder:
            temporary = Path(folder) / "contents"
            temporary.touch()
            yield temporary
            pour(temporary, path)
        return
    with _temporary(target, folder=False) as temporary:
        yield temporary
        _sync(temporary)
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        try:
            temporary.replace(target)
        except OSError as error:
            if error.errno != errno.EBUSY:  # a file that is mounted alone, as containers do
                raise
            pour(temporary, target)
        _sync(target.parent)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`.

    Old and new change places in one step, so there is always one of them, whole. Where the system
    cannot do that, the old one steps aside for a moment, under a name that `standing` knows. What
    an earlier crash left beside it is removed, or put back where nothing else stands.

    Raises:
        OSError: it cannot be written; names `path`.
    """
    path = Path(os.path.realpath(path))
    with _temporary(path, folder=True) as temporary:
        yield temporary
        for inside in temporary.rglob("*"):
            _sync(inside)
        _sync(temporary)
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IRWXU)
        _swap(temporary, path)
        _sync(path.parent)


def standing(path: Path) -> Path:
    """Return a folder, or where it was moved while another process replaces it."""
    if path.exists():
        return path
    aside = [left for left in _left_beside(path) if left.suffix == _ASIDE]
    return aside[0] if aside and not path.exists() else path


def _swap(new: Path, path: Path) -> None:
    """Give a folder its final name; an old one there gets the other name, or is removed."""
    put: Callable[[Path, Path], None] = _exchange
    while True:
        try:
            if path.exists():
                put(new, path)
            else:
                new.rename(path)
            return
        except OSError as error:
            if put is _exchange and error.errno in _NO_EXCHANGE:
                put = _step_aside
            elif error.errno not in _OTHER_WAS_FASTER or not new.exists():
                raise


def _step_aside(new: Path, path: Path) -> None:
    """Replace a folder where two names cannot be exchanged in one step."""
    old = new.with_name(new.name + _ASIDE)
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if not path.exists():
            old.rename(path)
        raise
    finally:
        _remove(old)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two names in one step.

    Raises:
        OSError: the system cannot do it (an errno of `_NO_EXCHANGE`), or it failed.
    """
    library = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(one), os.fsencode(other)
    if hasattr(library, "renameat2"):  # Linux
        failed = library.renameat2(_HERE, first, _HERE, second, _EXCHANGE)
    elif hasattr(library, "renamex_np"):  # macOS
        failed = library.renamex_np(first, second, _EXCHANGE)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(other))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))


@contextlib.contextmanager
def _temporary(path: Path, *, folder: bool) -> Iterator[Path]:
    """Yield a new hidden file or folder beside `path`, and remove what is left of it.

    It is locked as long as its process lives, which is how others know what a crash left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        temporary, handle = _locked_beside(path, folder=folder)
    except OSError as error:
        raise _at(path, path, error) from error
    try:
        yield temporary
    except OSError as error:
        if (named := _at(path, temporary, error)) is error:
            raise
        raise named from error
    finally:
        _remove(temporary)
        if handle is not None:
            os.close(handle)


def _locked_beside(path: Path, *, folder: bool) -> tuple[Path, int | None]:
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        if folder:
            temporary.mkdir()
        else:
            temporary.touch(exist_ok=False)
        if os.name == "nt":  # locks keep everybody else from writing there
            return temporary, None
        try:
            handle = os.open(temporary, os.O_RDONLY)
        except FileNotFoundError:
            continue
        lock(handle)
        # Between its making and its lock it looked like the rest of a crash.
        if temporary.exists():
            return temporary, handle
        os.close(handle)


def _clear(path: Path) -> None:
    """Remove temporary files that crashes left beside `path`; restore what was moved aside."""
    for left in _left_beside(path):
        if left.suffix == _ASIDE and not path.exists():
            with contextlib.suppress(OSError):
                left.rename(path)
        else:
            _remove_abandoned(left)


def clear_folder(folder: Path) -> None:
    """Remove the temporary files that crashes left in a folder, whatever they were to be."""
    for left in _left_in(folder, ".+"):
        if left.suffix != _ASIDE:
            _remove_abandoned(left)


def _left_beside(path: Path) -> list[Path]:
    return _left_in(path.parent, re.escape(path.name))


def _left_in(folder: Path, name: str) -> list[Path]:
    pattern = re.compile(rf"\.{name}\.[0-9a-f]{{12}}(?:{re.escape(_ASIDE)})?", re.DOTALL)
    try:
        names = [name for name in os.listdir(folder) if pattern.fullmatch(name)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _remove_abandoned(left: Path) -> None:
    """Remove a temporary file or folder whose process is gone, and so its lock."""
    from filelock import lock_descriptor

    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            # Removed under the lock: its maker, should it only now come to lock it, sees that.
            if lock_descriptor(handle, blocking=False):
                _remove(left)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        with contextlib.suppress(OSError):
            path.chmod(stat.S_IRWXU)  # what replaced it had its mode, which may allow no change
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _at(path: Path, temporary: Path, error: OSError) -> OSError:
    """Return an error that names `path`, where it names nothing or a temporary file."""
    named = error.filename
    if named is None:
        of_the_disk = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    else:
        of_the_disk = isinstance(named, str) and Path(named).is_relative_to(temporary)
    if error.errno is None or not of_the_disk:
        return error
    return OSError(error.errno, os.strerror(error.errno), str(path))


def _sync(path: Path) -> None:
    """Wait until a file or a folder's names are on the disk, where the system reports it."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def repeated(names: Sequence[str]) -> tuple[str, int, int] | None:
    """Return the first name that occurs twice, and its two places from 0; None without one."""
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        if first.setdefault(name, place) != place:
            return name, first[name], place
    return None


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
