"""Routers among LangChain's serializable objects, where all they are made of can be saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_core.load.serializable import (
    Serializable,
    SerializedConstructor,
    SerializedNotImplemented,
    try_neq_default,
)

_PLAIN = (str, int, float, bool, type(None))


class Saved(Serializable):
    """Saved by `langchain_core.load.dumps` if the router is a folder or bundled, by its name.

    A router in memory has to be written by `Router.save_pretrained` first. Experts can be saved
    if LangChain can save them; functions, goals and policies cannot. What cannot be saved is
    written as LangChain does it: `load` then says so.
    """

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Whether there is a saved form; each object's own parts decide about it."""
        return True

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Return LangChain's saved form, or its note that there is none."""
        saved = super().to_json()
        if saved["type"] != "constructor":
            return saved
        saved["kwargs"] = {
            name: _named(value)
            for name, value in saved["kwargs"].items()
            if try_neq_default(value, name, self)
        }
        if not all(_can_be_saved(value) for value in saved["kwargs"].values()):
            return self.to_json_not_implemented()
        return saved


def _named(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _can_be_saved(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_can_be_saved(part) for part in value.values())
    if isinstance(value, list | tuple):
        return all(_can_be_saved(part) for part in value)
    if isinstance(value, Serializable):
        return value.to_json()["type"] == "constructor"
    return isinstance(value, _PLAIN)
