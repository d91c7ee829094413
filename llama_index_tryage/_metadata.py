"""Where the decision goes: copies of responses, and a record for results that cannot carry it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from tryage.binding import TOP
from tryage.dispatch import DispatchedDecision

R = TypeVar("R", ChatResponse, CompletionResponse)

_LAST: ContextVar[DispatchedDecision | None] = ContextVar("tryage_last_answer", default=None)


def annotate(response: R, data: dict[str, Any]) -> R:
    """Return a copy of a response that carries the decision.

    Where the expert is a router itself, its own decision is the ``"inner"`` one of this. A copy,
    because the expert may keep the response. Not on its message: that goes into chat histories,
    and clients send a message's additional arguments on to their service.
    """
    inner = response.additional_kwargs.get("tryage")
    if inner is not None:
        data = {**data, "inner": inner}
    return response.model_copy(
        update={"additional_kwargs": {**response.additional_kwargs, "tryage": data}}
    )


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
