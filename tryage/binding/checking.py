"""Checks of constructor arguments, with the same messages in both adapters."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from tryage.dispatch import blame_request
from tryage.errors import did_you_mean
from tryage.goals import Goals
from tryage.policy import Policy
from tryage.router import Router

T = TypeVar("T")

_NONE = type(None)
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "router": ((Router, str, os.PathLike), "a Router, a router folder or a bundled router's name"),
    "aliases": ((Mapping, _NONE), "a mapping of names to names of the library, or None"),
    "policy": ((Policy, _NONE), "a Policy, or None"),
    "goals": ((Goals, _NONE), "a Goals, or None"),
    "task": ((str, _NONE), "a Transformers task, or None"),
}
"""Argument → its allowed types, and their description."""


def check_arguments(owner: str, names: Iterable[str], parameters: Iterable[str]) -> None:
    """Refuse names that a class does not take; pydantic would drop them silently.

    Raises:
        TypeError: as for any unknown keyword argument, with the nearest known one.
    """
    parameters = tuple(parameters)
    for name in names:
        if name not in parameters:
            hint = did_you_mean(name, parameters)
            message = f"{owner} got an unexpected keyword argument {name!r}.{hint}"
            raise blame_request(TypeError(message))


def check_kinds(**arguments: Any) -> None:
    """Refuse arguments of a wrong type.

    Args:
        **arguments: values of any of `router`, `aliases`, `policy`, `goals`, `task`.

    Raises:
        TypeError: names the argument, its type and what it may be.
    """
    for name, value in arguments.items():
        kinds, words = _KINDS[name]
        if not isinstance(value, kinds):
            raise TypeError(f"{name} is of type {type(value).__name__}; it is {words}")


def checked_names(experts: Any) -> list[str] | None:
    """Return the names as a list; None stays None.

    Raises:
        TypeError: they are one text, or no names at all.
    """
    if experts is None:
        return None
    if isinstance(experts, str) or not isinstance(experts, Iterable):
        raise TypeError(f"experts is {experts!r}; it is a sequence of names, or None")
    return list(experts)


def each_expert(experts: Any, make: Callable[[str, Any], T]) -> dict[str, T] | None:
    """Apply `make` to the name and the callable of each expert; None stays None.

    Raises:
        TypeError: the experts have no names.
    """
    if experts is None:
        return None
    if not isinstance(experts, Mapping):
        raise TypeError(
            f"experts is of type {type(experts).__name__}; it is a mapping of names to experts, "
            "or None for the library's own pipelines"
        )
    return {name: make(name, expert) for name, expert in experts.items()}


def wrong_expert(name: str, expert: Any, expected: str) -> TypeError:
    """Return the error for an expert of a wrong type.

    Args:
        name: of the expert.
        expert: the expert.
        expected: what it has to be, in words.
    """
    return TypeError(f"expert {name!r} is of type {type(expert).__name__}; {expected}")
