"""Experts' own rate limiters: the wait for a turn is not time that the expert takes to answer.

In both frameworks a model waits itself, by its field `rate_limiter`, somewhere within its call. So
the model is called through a twin that shares everything with it and sees another limiter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_FIELD = "rate_limiter"
_STATE = (
    "__dict__",
    "__pydantic_fields_set__",
    "__pydantic_extra__",
    "__pydantic_private__",
)
"""What a pydantic object consists of."""


def with_limiter(model: T, wrap: Callable[[Any], Any]) -> T:
    """Return a model whose rate limiter is wrapped; the model itself where it has none.

    Args:
        model: a pydantic object. What it notes of its calls stands in both, since they share their
            fields; it is not changed. Its copies see a wrapped limiter too.
        wrap: returns what takes the limiter's place. It is called at each look at the limiter.
    """
    kind: Any = type(model)
    if getattr(model, _FIELD, None) is None or hasattr(kind, "_tryage_kind"):
        return model
    twin: T = _sharing(_twin_kind(kind, wrap), model)
    return twin


def _sharing(kind: Any, model: Any) -> Any:
    twin = kind.__new__(kind)
    for name in _STATE:
        object.__setattr__(twin, name, getattr(model, name))
    return twin


@functools.lru_cache(maxsize=256)
def _twin_kind(kind: Any, wrap: Callable[[Any], Any]) -> Any:
    def look(self: Any, name: str) -> Any:
        value = kind.__getattribute__(self, name)
        return value if name != _FIELD or value is None else wrap(value)

    def original(self: Any) -> Any:
        return _sharing(kind, self)

    def again(copied: Any) -> Any:
        return with_limiter(copied, wrap)

    members: dict[str, Any] = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__getattribute__": look,
        "__copy__": lambda self: again(original(self).__copy__()),
        "__deepcopy__": lambda self, memo=None: again(original(self).__deepcopy__(memo)),
        "__reduce_ex__": lambda self, _protocol: (with_limiter, (original(self), wrap)),
        "model_copy": lambda self, **kwargs: again(original(self).model_copy(**kwargs)),
        "_tryage_kind": kind,
    }
    make: Any = type(kind)
    return make(kind.__name__, (kind,), members)
