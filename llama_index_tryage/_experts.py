"""Experts that report to the router's callbacks as well as to their own."""

from __future__ import annotations

from operator import is_
from typing import Any, NamedTuple

from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.llms import LLM


class _Child(NamedTuple):
    expert: LLM
    fields: dict[str, Any]
    manager: CallbackManager
    handlers: list[BaseCallbackHandler]
    llm: LLM


class Children:
    """Makes copies of experts that report to another callback manager too.

    The user's object is never changed. A copy is kept while neither the expert's fields nor the
    managers and their handlers change, so that clients an expert opens at first use are opened
    once.
    """

    def __init__(self) -> None:
        self._copies: dict[str, _Child] = {}

    def __reduce__(self) -> tuple[type[Children], tuple[()]]:
        """Copy and pickle as an empty one: the copies belong to this object's experts."""
        return Children, ()

    def get(self, name: str, expert: LLM, manager: CallbackManager) -> LLM:
        """Return the expert itself where it reports to all of `manager`'s handlers, else a copy."""
        own_handlers = expert.callback_manager.handlers
        missing = [handler for handler in manager.handlers if handler not in own_handlers]
        if not missing:
            return expert
        handlers = [*own_handlers, *missing]
        copy = self._copies.get(name)
        fields = dict(expert.__dict__)
        same = (
            copy is not None
            and copy.expert is expert
            and copy.manager is manager
            and len(copy.handlers) == len(handlers)
            and all(map(is_, copy.handlers, handlers))
        )
        if copy is not None and same and _same(copy.fields, fields):
            return copy.llm
        # The manager itself where it can be: it knows which trace is open.
        joined = CallbackManager(handlers) if own_handlers else manager
        llm = expert.model_copy(update={"callback_manager": joined})
        self._copies[name] = _Child(expert, fields, manager, handlers, llm)
        return llm


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(one[key] is other[key] for key in one)
