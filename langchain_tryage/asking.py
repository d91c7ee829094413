"""What a call asks of the router: goals in its arguments or config, and who answered before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.runnables.utils import ConfigurableFieldSpec

from tryage import Decision, Goals
from tryage.binding import joined_goals
from tryage.errors import GoalError

GOALS_KEY = "tryage_goals"
"""Where ``config["configurable"]`` holds the goals of a call."""

GOALS_SPEC = ConfigurableFieldSpec(
    id=GOALS_KEY,
    annotation=Any,
    name="Goals of Tryage",
    description='Goals, or a mapping such as {"size": 0.3, "limits": {"parameters": "<=3B"}}',
    default=None,
)


def asked_goals(given: Any, config: RunnableConfig | None) -> Goals | None:
    """Return the goals of one call.

    Args:
        given: what the call's `tryage` argument holds.
        config: of the call, or None to see that of the run around it.

    Raises:
        GoalError: they are not goals.
    """
    configurable = ensure_config(config).get("configurable") or {}
    return joined_goals(_goals(configurable.get(GOALS_KEY)), _goals(given))


def _goals(given: Any) -> Goals | None:
    if given is None or isinstance(given, Goals):
        return given
    if isinstance(given, Mapping):
        return Goals(**given)
    raise GoalError(f"goals are a Goals or a mapping, found {type(given).__name__}")


def last_answerer(messages: Sequence[BaseMessage]) -> str | None:
    """Return the expert that wrote the last routed message of a conversation."""
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            told = message.response_metadata.get("tryage")
            if isinstance(told, Mapping) and isinstance(told.get("answered_by"), str):
                return str(told["answered_by"])
    return None


def keep(decision: Decision, name: str | None, margin: bool | float) -> Decision:
    """Return the decision that stays with an expert, if it may answer and costs little enough.

    Args:
        decision: what the router chose.
        name: the expert to stay with.
        margin: how far its total may lie above the lowest, in units of loss; True means any
            distance, False none at all.
    """
    if name is None or name == decision.expert or margin is False or name not in decision.names:
        return decision
    lost = decision.totals[decision.names.index(name)] - np.min(decision.totals)
    if not np.isfinite(lost) or (margin is not True and lost > margin):
        return decision
    return replace(decision, expert=name)
