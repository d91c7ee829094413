"""Locks on open files, and files and folders that are replaced whole."""

import errno
import os
import subprocess
import sys
import threading

import pytest

from tryage.files import lock, replacing, replacing_folder, standing
from tryage.opened_folder import OpenedFolder


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


def write_folder(path, text):
    with replacing_folder(path) as temporary:
        (temporary / "a").write_text(text)


def without_exchange(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("tryage.files._exchange", refuse)


@pytest.fixture(params=["exchange", "step aside"])
def way(request, monkeypatch):
    if request.param == "step aside":
        without_exchange(monkeypatch)
    return request.param


def test_a_folder_is_replaced_whole(way, tmp_path):
    for text in ("one", "two"):
        write_folder(tmp_path / "r", text)
        assert (tmp_path / "r" / "a").read_text() == text
    assert os.listdir(tmp_path) == ["r"]


def test_a_folder_never_lacks_its_name(tmp_path, monkeypatch):
    write_folder(tmp_path / "r", "old")
    moments = []
    for step in ("rename", "replace"):
        original = getattr(type(tmp_path), step)

        def watched(self, target, original=original):
            done = original(self, target)
            moments.append((tmp_path / "r").exists())
            return done

        monkeypatch.setattr(type(tmp_path), step, watched)
    write_folder(tmp_path / "new", "other")
    write_folder(tmp_path / "r", "new")
    assert moments  # the first way of a new folder is a plain rename
    assert all(moments)


def test_two_writers_of_a_folder_leave_one_of_both(way, tmp_path):
    errors = []

    def write(text):
        for _ in range(50):
            try:
                write_folder(tmp_path / "r", text)
            except OSError as error:
                errors.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path) == ["r"]
    assert (tmp_path / "r" / "a").read_text() in ("one", "two")


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    write_folder(tmp_path / "r", "old")
    without_exchange(monkeypatch)
    rename = type(tmp_path).rename

    def fail(self, target):
        if self.suffix != ".old" and target == tmp_path / "r":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return rename(self, target)

    monkeypatch.setattr(type(tmp_path), "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_folder(tmp_path / "r", "new")
    assert os.listdir(tmp_path) == ["r"]
    assert (tmp_path / "r" / "a").read_text() == "old"


CRASH = """
import os, sys
from pathlib import Path
from tryage.files import replacing, replacing_folder
with (replacing_folder if sys.argv[1] == "folder" else replacing)(Path(sys.argv[2])) as temporary:
    os._exit(9)
"""


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_a_crash_left_is_removed_and_what_lives_is_not(kind, tmp_path):
    crash = [sys.executable, "-c", CRASH, kind, str(tmp_path / "r")]
    assert subprocess.run(crash, check=False).returncode == 9
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".r.")
    (tmp_path / ".r.mine").write_text("")
    (tmp_path / ".other.0123456789ab").mkdir()
    replace = replacing_folder if kind == "folder" else replacing
    with replace(tmp_path / "r") as first:
        assert not left.exists()
        with replace(tmp_path / "r") as second:
            assert first.exists()
            assert second.exists()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"r", ".r.mine", ".other.0123456789ab"}


def test_what_stepped_aside_is_read_and_put_back(tmp_path):
    aside = tmp_path / ".r.0123456789ab.old"
    aside.mkdir()
    (aside / "a").write_text("old")
    assert standing(tmp_path / "r") == aside
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "r"):
        _ = len((tmp_path / "r" / "a").read_text()) / 0
    assert os.listdir(tmp_path) == ["r"]
    assert standing(tmp_path / "r") == tmp_path / "r"


def test_an_opened_folder_stays_what_it_was(tmp_path):
    write_folder(tmp_path / "r", "old")
    os.mkfifo(tmp_path / "r" / "pipe")
    with OpenedFolder(tmp_path / "r") as opened:
        assert opened.is_current()
        write_folder(tmp_path / "r", "new")
        assert not opened.is_current()
        assert opened.files.keys() == {"a"}
        assert opened.files["a"].read() == b"old"


@pytest.mark.parametrize("replace", [replacing, replacing_folder])
def test_an_error_of_the_disk_names_the_path(replace, tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left") as caught, replace(tmp_path / "r"):
        raise full
    assert caught.value.filename == str(tmp_path / "r")
    with pytest.raises(OSError, match=r"r'$") as caught, replace(tmp_path / "r") as temporary:
        (temporary / "b" / "c").write_text("there is no such folder")
    assert caught.value.filename == str(tmp_path / "r")
    other = ConnectionError("refused")
    with pytest.raises(ConnectionError) as caught, replace(tmp_path / "r"):
        raise other
    assert caught.value is other
    assert os.listdir(tmp_path) == []


def test_a_folder_keeps_its_mode(tmp_path):
    write_folder(tmp_path / "r", "old")
    (tmp_path / "r").chmod(0o710)
    write_folder(tmp_path / "r", "new")
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o710
