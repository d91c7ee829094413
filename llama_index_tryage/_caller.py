"""Who calls a routed LLM: the operator's own code, or a part of LlamaIndex that wrote the text."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Iterator
from types import FrameType

_logger = logging.getLogger(__name__)

_PASSING = (
    "contextlib",
    "functools",
    "llama_index.core.instrumentation",
    "llama_index.core.llms",
    "llama_index_instrumentation",
    "llama_index_tryage",
    "tryage",
    "wrapt",
)
"""Packages that pass a call on unchanged."""

_PASSING_QUERIES = (
    *_PASSING,
    "llama_index.core.base",
    "llama_index.core.callbacks",
    "llama_index.core.query_engine.retriever_query_engine",
    "llama_index.core.query_engine.router_query_engine",
    "llama_index.core.query_engine.sql_join_query_engine",
    "llama_index.core.retrievers.router_retriever",
)
"""Packages that pass a query to a selector unchanged."""

_UNKNOWN = ("asyncio", "concurrent", "threading")
"""Packages that start a call for a caller that is not on the stack."""


def is_composed(by_template: bool = False) -> bool:
    """Tell whether LlamaIndex, not the operator's own code, wrote what a routed LLM is asked.

    Its engines, agents, memories and programs put documents, tools' results and other texts into
    messages of the user. It is seen from who calls; call this in the thread or task of the call.

    Args:
        by_template: the answer where a task or thread was started for the call alone.
    """
    is_nested = False
    for module in _modules(inspect.currentframe()):
        if _is_in(module, _PASSING):
            # Another router calls this one, in a thread or task of its own where it has time-outs.
            is_nested = is_nested or _is_in(module, ("tryage.dispatch",))
        elif _is_in(module, _UNKNOWN):
            break
        else:
            return _is_in(module, ("llama_index",))
    return by_template or is_nested


def is_rewritten() -> bool:
    """Tell whether LlamaIndex, not the operator's own code, wrote the query that a selector gets.

    Routing engines pass their query on unchanged. Chat engines, agents' tools and
    engines that ask several questions write queries of their own, partly from earlier answers.
    """
    modules = _modules(inspect.currentframe())
    first = next((module for module in modules if not _is_in(module, _PASSING_QUERIES)), "")
    return _is_in(first, ("llama_index",))


@functools.cache
def warn_composed(owner: str) -> None:
    """Warn once per class that ``"last_message"`` reads no flags of text that LlamaIndex wrote."""
    _logger.warning(
        "%s: flags_from='last_message' reads no flags of what LlamaIndex's own engines, agents and "
        "memories write; put TryageFlags around them, which knows what the user wrote",
        owner,
    )


def _modules(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        yield frame.f_globals.get("__name__", "")
        frame = frame.f_back


def _is_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
