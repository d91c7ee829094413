"""Memory of this process and this machine: what is in use, what is free, giving it back."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path
from typing import Any

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux shows a container its memory limit (cgroup v2)."""


def bytes_in_use(device: str) -> int | None:
    """Return the memory that this process takes on a device; None if it cannot be determined."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.memory_allocated(device))
    psutil = _psutil()
    return None if psutil is None else int(psutil.Process().memory_info().rss)


def free_bytes(device: str) -> int | None:
    """Return the memory that is free on a device; None if it cannot be determined.

    On the CPU the smaller of what the machine has available and what the container's limit leaves.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    psutil = _psutil()
    available = None if psutil is None else int(psutil.virtual_memory().available)
    limits = [size for size in (available, container_free_bytes()) if size is not None]
    return min(limits, default=None)


def container_free_bytes(cgroup: Path | None = None) -> int | None:
    """Return what the container's memory limit leaves; None without a limit.

    Cached file pages count as free, since the kernel drops them when memory is short.

    Args:
        cgroup: folder of the control group; by default `CGROUP`.
    """
    folder = CGROUP if cgroup is None else cgroup
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        rows = (folder / "memory.stat").read_text().split()
    except OSError:
        return None
    if limit == "max":
        return None
    cached = int(rows[rows.index("inactive_file") + 1]) if "inactive_file" in rows else 0
    return max(0, int(limit) - used + cached)


def give_back(device: str) -> None:
    """Return freed memory to the system; allocators would keep it."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
        return
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _psutil() -> Any:
    try:
        import psutil
    except ImportError:  # the extra hf brings it, without which no local model runs
        return None
    return psutil


@functools.cache
def _c_library() -> Any:
    return ctypes.CDLL(None) if sys.platform.startswith("linux") else None
