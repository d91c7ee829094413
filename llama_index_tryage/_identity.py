"""Identity of routed LLMs: caches key their entries by an LLM's serialized form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from llama_index.core.schema import BaseComponent

from tryage import Goals, Policy, Router


def identity(value: Any) -> Any:
    """Return a field of a routed LLM as JSON that changes whenever its answers may.

    It holds no secret and no prompt: experts and routers are told apart by a digest.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Router):
        return _digest(
            [value.library.to_dict(), value.provenance, value.policy.to_dict(), repr(value)]
        )
    if isinstance(value, Goals | Policy):
        goals = value.custom if isinstance(value, Goals) else value.goals
        return {**value.to_dict(), "goals": [_code(goal) for goal in goals.values()]}
    if isinstance(value, Mapping):
        return {str(name): identity(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [identity(part) for part in value]
    if isinstance(value, BaseComponent):
        return _digest(value.to_dict())
    return _code(value)


def _code(value: Any) -> str:
    """Name a class or function; of any other object, its class and contents."""
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__} {_digest(repr(value))}"


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
