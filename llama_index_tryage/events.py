"""The event of a decision, for LlamaIndex's instrumentation."""

from __future__ import annotations

from typing import Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.dispatcher import Dispatcher
from llama_index_instrumentation.event_handlers import NullEventHandler

from tryage import Decision
from tryage.binding import TOP

_dispatcher = get_dispatcher(__name__)


class TryageDecisionEvent(BaseEvent):
    """A router has decided; sent once per call, before the first expert is called.

    It holds no text of the prompt.

    Attributes:
        expert: name of the chosen expert.
        decision: the decision as JSON types, with the keys of ``tryage route --json``.
    """

    expert: str
    decision: dict[str, Any]

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex knows this event."""
        return "TryageDecisionEvent"


def announce(decision: Decision) -> None:
    """Send the event of a decision if anything listens; building it costs as much as deciding."""
    if not _heard():
        return
    data = decision.to_dict(top=TOP)
    _dispatcher.event(TryageDecisionEvent(expert=decision.expert, decision=data))


def _heard() -> bool:
    dispatcher: Dispatcher | None = _dispatcher
    while dispatcher is not None:
        if not all(isinstance(h, NullEventHandler) for h in dispatcher.event_handlers):
            return True
        dispatcher = dispatcher.parent if dispatcher.propagate else None
    return False
