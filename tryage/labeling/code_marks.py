"""Telling whether a function is still the one that scores were measured with."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from types import CodeType
from typing import Any

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(...))


def code_mark(function: Any) -> str | None:
    """Return what changes when the code of a function does; None where there is none to look at.

    Instructions, constants, defaults, what a closure or a `functools.partial` holds, and the
    fields of an object that is called count, where they are plain values. Comments and names of
    files do not, nor does the code of functions that it calls. Marks of two versions of Python
    cannot be compared, so they begin with the version.

    Args:
        function: a function, a partial one, or an object that is called like one.
    """
    parts = _parts(function)
    if parts is None:
        return None
    digest = hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()
    return f"python{sys.version_info.major}.{sys.version_info.minor} {digest[:16]}"


def differ(one: str | None, other: str | None) -> bool:
    """Tell whether two marks are of the same version of Python, and of other code."""
    if one is None or other is None:
        return False
    return one.split()[0] == other.split()[0] and one != other


def _parts(function: Any) -> list[Any] | None:
    if isinstance(function, functools.partial):
        given = [_value(one) for one in (*function.args, *sorted(function.keywords.items()))]
        return [_parts(function.func), given]
    if inspect.ismethod(function):
        return [_parts(function.__func__), _fields(function.__self__)]
    if inspect.isfunction(function):
        held = [_held(cell) for cell in function.__closure__ or ()]
        defaults = [function.__defaults__, sorted((function.__kwdefaults__ or {}).items())]
        return [_code(function.__code__), _value(held), _value(defaults)]
    call = getattr(type(function), "__call__", None)  # noqa: B004 - what it is, not whether
    return [_parts(call), _fields(function)] if inspect.isfunction(call) else None


def _code(code: CodeType) -> list[Any]:
    return [code.co_code.hex(), _value(code.co_consts), code.co_names, code.co_varnames]


def _fields(holder: Any) -> Any:
    return _value(sorted(getattr(holder, "__dict__", {}).items()))


def _held(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None


def _value(value: Any) -> Any:
    """Return a value as it is the same in every process."""
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
