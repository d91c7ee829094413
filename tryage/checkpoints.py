"""Weights of a model folder, read from the headers of its safetensors files alone."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2}
_BYTES |= {"I16": 2, "U16": 2}
_FLOAT_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_SHARD = re.compile(r"-of-(\d+)\.safetensors$")


class TensorHeader(NamedTuple):
    """One tensor of a file.

    Attributes:
        dtype: its type in the notation of safetensors, such as ``"BF16"``.
        size: number of its elements.
    """

    dtype: str
    size: int


def tensor_headers(path: Path) -> Iterator[TensorHeader]:
    """Yield the type and size of every tensor of a safetensors file.

    Raises:
        SafetensorError, OSError: the file cannot be read, or is cut short.
    """
    with safe_open(path, framework="np") as file:
        for name in file.keys():
            tensor = file.get_slice(name)
            yield TensorHeader(tensor.get_dtype(), math.prod(tensor.get_shape()))


def parameter_count(path: Path) -> int:
    """Return the number of parameters in a safetensors file.

    Raises:
        SafetensorError, OSError: the file cannot be read, or is cut short.
    """
    return sum(tensor.size for tensor in tensor_headers(path))


def weight_bytes(folder: Path, dtype: str = "auto") -> int:
    """Return the bytes that a folder's weights take once loaded; 0 for files that are damaged.

    Args:
        folder: holds ``*.safetensors``.
        dtype: ``"auto"`` keeps each tensor's own type; else the type that floats are read as.
    """
    return sum(_file_bytes(path, dtype) for path in folder.glob("*.safetensors"))


def _file_bytes(path: Path, dtype: str) -> int:
    try:
        return sum(
            tensor.size * _element_bytes(tensor.dtype, dtype) for tensor in tensor_headers(path)
        )
    except SafetensorError:
        return 0  # loading the file names what is wrong with it


def _element_bytes(stored: str, dtype: str) -> int:
    stored_bytes = _BYTES.get(stored, 1)
    return _FLOAT_BYTES.get(dtype, stored_bytes) if "F" in stored else stored_bytes


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a configuration and all its weights; an aborted fetch does not."""
    has_weights = any(folder.glob("*.safetensors"))
    return has_weights and (folder / "config.json").is_file() and missing_shards(folder) is None


def missing_shards(folder: Path) -> str | None:
    """Return how many shards of the weights exist if some are missing, such as ``"1 of 3"``."""
    matches = (_SHARD.search(path.name) for path in folder.glob("*.safetensors"))
    shards = Counter(int(match[1]) for match in matches if match)
    return next((f"{n} of {total}" for total, n in shards.items() if n < total), None)
