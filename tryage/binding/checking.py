"""Checks of constructor arguments, with the same messages in both adapters."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

from tryage.dispatch import DispatchOptions, blame_request
from tryage.errors import did_you_mean
from tryage.goals import Goals
from tryage.policy import Policy
from tryage.router import Router

T = TypeVar("T")

_NONE = type(None)
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "router": (
        (Router, str, os.PathLike),
        "a Router, a router folder, a bundled router's name or a Hub id",
    ),
    "aliases": ((Mapping, _NONE), "a mapping of names to names of the library, or None"),
    "policy": ((Policy, _NONE), "a Policy, or None"),
    "goals": ((Goals, _NONE), "a Goals, or None"),
    "task": ((str, _NONE), "a Transformers task, or None"),
}
"""Argument → its allowed types, and their description."""

_DISPATCH = frozenset(field.name for field in dataclasses.fields(DispatchOptions))


def _is_number(value: Any, least: float = 0) -> bool:
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and math.isfinite(value) and value >= least


def _is_count(value: Any) -> bool:
    return _is_number(value, 1) and isinstance(value, Integral)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _are_texts(value: Any) -> bool:
    texts = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(text, str) and text for text in texts)


_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "choose": (lambda value: value in ("run", "call"), "'run' or 'call'"),
    "download": (_is_truth, "True or False"),
    "context_window": (_is_count, "a number of tokens, at least 1"),
    "expert": (lambda value: isinstance(value, str), "the name of an expert of the library"),
    "fallback": (lambda value: value == "description", "'description'"),
    "keep": (_is_count, "a number of answers, at least 1"),
    "key": (lambda value: isinstance(value, str) and value != "", "a key of the input"),
    "logprobs": (_is_truth, "True or False"),
    "margin": (_is_number, "a finite number, at least 0"),
    "max_new_tokens": (_is_count, "a number of tokens, at least 1"),
    "max_tokens": (_is_count, "a number of tokens, at least 1"),
    "metric": (callable, "a function of a prompt and an answer"),
    "output": (lambda value: value in ("decision", "name"), "'decision' or 'name'"),
    "seed": (lambda value: isinstance(value, Integral), "a whole number"),
    "sticky": (
        lambda value: _is_truth(value) or _is_number(value) or value == "price",
        "True, False, 'price', or the most that it may cost: a finite number, at least 0",
    ),
    "stop": (_are_texts, "a text, or a list of texts"),
    "streaming": (_is_truth, "True or False"),
    "temperature": (_is_number, "a finite number, at least 0"),
    "top_k": (_is_count, "a number of tools, at least 1"),
    "with_decision": (_is_truth, "True or False"),
}
"""Argument → whether a value will do, and what it is, in words."""

_MAY_BE_NONE = frozenset(
    ("context_window", "fallback", "key", "max_tokens", "seed", "stop", "temperature")
)


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
    aliases = arguments.get("aliases") or {}
    for alias, name in aliases.items():
        if not isinstance(alias, str) or not isinstance(name, str):
            raise TypeError(f"aliases map {alias!r} to {name!r}; both are names")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of the adapters' classes that are of a wrong type or out of range.

    Frameworks' own fields convert some of them silently: ``"yes"`` to True, True to 1.

    Args:
        options: name → value; those that no rule is for are left to others.

    Raises:
        TypeError, ValueError: names the option, its value and what it may be.
    """
    DispatchOptions(**{name: options[name] for name in _DISPATCH & options.keys()})
    check_kinds(**{name: options[name] for name in _KINDS.keys() & options.keys()})
    for name in _RULES.keys() & options.keys():
        value, (will_do, words) = options[name], _RULES[name]
        may_be_none = name in _MAY_BE_NONE
        if not (will_do(value) or (may_be_none and value is None)):
            or_none = ", or None" if may_be_none else ""
            raise blame_request(ValueError(f"{name} is {value!r}; it is {words}{or_none}"))


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
