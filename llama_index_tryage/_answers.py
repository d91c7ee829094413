"""The last answering expert, for calls whose results cannot carry it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from tryage.binding import TOP
from tryage.dispatch import DispatchedDecision

_LAST: ContextVar[DispatchedDecision | None] = ContextVar("tryage_last_answer", default=None)


def note_answer(decision: DispatchedDecision) -> None:
    """Keep the record of a call in the context that it was made in."""
    _LAST.set(decision)


def last_answer() -> DispatchedDecision | None:
    """Return the record of the last call of a routed LLM in this context."""
    return _LAST.get()


def last_decision() -> dict[str, Any] | None:
    """Return the decision of the last call of a routed LLM, as responses carry it.

    For calls that return bare text or objects, such as `predict` and `structured_predict`, and for
    query engines. It holds for this thread or asyncio task; None if no call was made in it. A
    stream's decision is there once it is read to its end.
    """
    decision = _LAST.get()
    return None if decision is None else decision.to_dict(top=TOP)
