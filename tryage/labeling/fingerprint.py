"""Telling whether the files behind an expert are still those it was measured with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

SETTINGS_FILES = (
    "config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "chat_template*",
)
"""Files beside the weights that losses depend on."""

_SAMPLE = 1 << 16
"""Bytes read of each tensor."""

_LONGEST_HEADER = 100_000_000
"""Bytes of a header at most, as the format says."""


def fingerprint(folder: Path) -> str:
    """Return a SHA-256, in hexadecimal, of what an expert's losses depend on.

    Configuration and tokenizer count whole. Of each safetensors file its size, its header and the
    first 64 KiB of every tensor count: training, merging and quantizing change those, and a model
    of many gigabytes is read in a moment. A change made only behind them goes unseen.

    Args:
        folder: the model's folder.
    """
    digest = hashlib.sha256()
    settings = {path for pattern in SETTINGS_FILES for path in folder.glob(pattern)}
    for path in sorted(path for path in settings if path.is_file()):
        _add(digest, path.name.encode())
        _add(digest, path.read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        _add(digest, f"{path.name} {path.stat().st_size}".encode())
        with path.open("rb") as file:
            for sample in _samples(file):
                _add(digest, sample)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, data: bytes) -> None:
    # The length first, so that no two lists of parts make the same stream.
    digest.update(len(data).to_bytes(8, "little"))
    digest.update(data)


def _samples(file: BinaryIO) -> Iterator[bytes]:
    """Yield the header of a safetensors file and the beginning of every tensor.

    A damaged file gives what can be read; loading it will say what is wrong.
    """
    length = int.from_bytes(file.read(8), "little")
    header = file.read(min(length, _LONGEST_HEADER))
    yield header
    try:
        entries = json.loads(header)
        ranges = sorted(
            tuple(entry["data_offsets"])
            for name, entry in entries.items()
            if name != "__metadata__"
        )
        for start, end in ranges:
            file.seek(8 + length + start)
            yield file.read(min(end - start, _SAMPLE))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
