"""Fingerprints of model files and of metrics' code: they change where the originals do."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any, BinaryIO

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

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(...))


def fingerprint(folder: Path) -> str:
    """Return a SHA-256, in hexadecimal, of the model files that an expert's losses depend on.

    It covers configuration and tokenizer whole, and of each safetensors file the size, the header
    and the first 64 KiB of every tensor: training, merging and quantizing change those, and a
    model of many gigabytes is read in a moment. A change behind them alone goes unnoticed.

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

    Of a damaged file it yields what it can read; loading the model will say what is wrong.
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


def code_fingerprint(function: Any) -> str | None:
    """Return a fingerprint of a function's code; None if it has no Python code.

    It covers instructions, constants, defaults, what a closure or a `functools.partial` holds,
    and the fields of a callable object, as far as they are plain values. It ignores comments,
    names of files and the code of functions that it calls. Fingerprints of two versions of Python
    cannot be compared, so they begin with the version.

    Args:
        function: a function, a partial one, or an object that is called like one.
    """
    parts = _parts(function)
    if parts is None:
        return None
    digest = hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"python{sys.version_info.major}.{sys.version_info.minor} {digest[:16]}"


def code_differs(one: str | None, other: str | None) -> bool:
    """Whether two fingerprints come from one version of Python, and from different code."""
    if one is None or other is None:
        return False
    return one.split()[0] == other.split()[0] and one != other


def _parts(function: Any) -> list[Any] | None:
    if isinstance(function, functools.partial):
        bound = [_value(one) for one in (*function.args, *sorted(function.keywords.items()))]
        return [_parts(function.func), bound]
    if inspect.ismethod(function):
        return [_parts(function.__func__), _fields(function.__self__)]
    if inspect.isfunction(function):
        closure = [_contents(cell) for cell in function.__closure__ or ()]
        defaults = [function.__defaults__, sorted((function.__kwdefaults__ or {}).items())]
        return [_code(function.__code__), _value(closure), _value(defaults)]
    call = getattr(type(function), "__call__", None)  # noqa: B004 - what it is, not whether
    return [_parts(call), _fields(function)] if inspect.isfunction(call) else None


def _code(code: CodeType) -> list[Any]:
    return [code.co_code.hex(), _value(code.co_consts), code.co_names, code.co_varnames]


def _fields(holder: Any) -> Any:
    return _value(sorted(getattr(holder, "__dict__", {}).items()))


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None


def _value(value: Any) -> Any:
    """Return a value in a form that is the same in every process."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, CodeType):
        return _code(value)
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(_value(one)) for one in value)
    if inspect.isfunction(value):
        return _code(value.__code__)
    return type(value).__qualname__
