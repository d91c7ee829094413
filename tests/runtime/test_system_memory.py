"""What this process and this machine say about memory."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tryage.runtime import system_memory
from tryage.runtime.system_memory import bytes_in_use, container_free_bytes, free_bytes

pytest.importorskip("psutil")


@pytest.fixture
def cgroup(tmp_path):
    def write(limit, used, stat):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
        (tmp_path / "memory.stat").write_text(stat)
        return tmp_path

    return write


def test_a_process_that_takes_memory_is_seen_to():
    size = 64 * 2**20
    before = bytes_in_use("cpu")
    block = np.ones(size, np.uint8)
    assert bytes_in_use("cpu") - before == pytest.approx(size, rel=0.1)
    assert block[0] == 1


def test_free_memory_is_in_bytes():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Counted in kB, the free memory would be less than a thousandth of the machine's.
    assert total / 200 < free_bytes("cpu") <= total


@pytest.mark.parametrize(
    ("limit", "used", "stat", "free"),
    [
        (8000, 5000, "anon 100\nfile 900\ninactive_file 700\nactive_file 200\n", 3700),
        (8000, 5000, "anon 100\n", 3000),
        (8000, 9000, "inactive_file 200\n", 0),
        ("max", 5000, "inactive_file 700\n", None),
    ],
)
def test_the_limit_of_a_container(cgroup, limit, used, stat, free):
    assert container_free_bytes(cgroup(limit, used, stat)) == free


def test_a_machine_without_control_groups_has_no_such_limit(tmp_path):
    assert container_free_bytes(tmp_path / "nothing") is None


def test_the_smaller_of_machine_and_container_counts(cgroup, monkeypatch):
    monkeypatch.setattr(system_memory, "CGROUP", cgroup(8000, 5000, "inactive_file 700\n"))
    assert free_bytes("cpu") == 3700
    monkeypatch.setattr(system_memory, "CGROUP", cgroup(10**18, 5000, ""))
    assert 3700 < free_bytes("cpu") < 10**18


def test_without_psutil_only_a_container_tells(cgroup, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(system_memory, "CGROUP", cgroup(8000, 5000, ""))
    assert bytes_in_use("cpu") is None
    assert free_bytes("cpu") == 3000
    monkeypatch.setattr(system_memory, "CGROUP", cgroup("max", 5000, ""))
    assert free_bytes("cpu") is None


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_memory_of_an_unloaded_model_goes_back_to_the_system():
    program = """
import torch
from tryage.runtime.memory import Memory
from tryage.runtime.system_memory import bytes_in_use

class Expert:
    name = "x"

class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        # Blocks that the C library serves from its heap, and keeps there once they are freed.
        self.p = torch.nn.ParameterList(torch.zeros(16000) + 1 for _ in range(1500))

class Pipeline:
    expert, model, loaded = Expert, None, False
    def estimate(self): return 96_000_000
    def load_model(self):
        self.model, self.loaded = Small(), True
        self.behind = [torch.zeros(16000) + 1 for _ in range(50)]
    def drop_model(self): self.model, self.loaded = None, False

pipeline, memory = Pipeline(), Memory(None, "cpu")
before = bytes_in_use("cpu")
memory.ensure_loaded(pipeline)
taken = bytes_in_use("cpu") - before
memory.unload(pipeline)
print(taken, bytes_in_use("cpu") - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    used, left = map(int, done.stdout.split())
    assert used > 90e6
    assert left < used / 3
