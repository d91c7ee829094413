"""Locks on open files; replacing whole files is tested where files are written."""

import errno
import os
import threading

import pytest

from tryage.files import lock


@pytest.fixture
def handles(tmp_path):
    """Two handles of one file, opened apart, as two processes would."""
    path = tmp_path / "file"
    opened = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2)]
    yield opened
    for handle in opened:
        os.close(handle)


def test_a_lock_waits_until_the_other_handle_is_closed(handles, tmp_path):
    first = os.open(tmp_path / "file", os.O_RDWR)
    lock(first)
    waiting = threading.Thread(target=lock, args=(handles[1],))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    os.close(first)
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_file_system_without_locks_is_no_error(handles, monkeypatch):
    def without_locks(*_, **__):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("filelock.lock_descriptor", without_locks)
    lock(handles[0])
