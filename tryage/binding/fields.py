"""A binding that follows the fields of a model: frameworks assign them, and copy models."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any, Generic, NamedTuple, TypeVar

from tryage.binding.binding import Binding

T = TypeVar("T")

OPTIONS = (
    "aliases",
    "policy",
    "goals",
    "task",
    "max_attempts",
    "errors",
    "timeout",
    "total_timeout",
    "breaker",
)
"""Fields of a model that its binding takes as they are."""

BOUND = ("router", "experts", *OPTIONS)
"""Fields of a model that its binding is made of."""


def options_of(model: Any) -> dict[str, Any]:
    """Return what a binding takes as it is: those of `OPTIONS` that a model has."""
    return {name: getattr(model, name) for name in OPTIONS if hasattr(model, name)}


class Bound(NamedTuple, Generic[T]):
    """A binding, and the fields it was made of.

    It is never changed, so a copy of a model may hold the same one until its own fields differ.
    """

    fields: tuple[Any, ...]
    binding: Binding[T]

    @classmethod
    def of(cls, model: Any, kept: Bound[T] | None, make: Callable[[], Binding[T]]) -> Bound[T]:
        """Return what was kept while the model's fields are the same objects, else a new one."""
        fields = tuple(getattr(model, name, None) for name in BOUND)
        if kept is not None and all(map(is_, kept.fields, fields)):
            return kept
        return cls(fields, make())
