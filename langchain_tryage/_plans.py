"""Plan a call before its run opens: goals, needs, the decision, and what the expert is sent.

A plan is made once and travels through LangChain's methods as one private call argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.runnables.utils import ConfigurableFieldSpec

from langchain_tryage._experts import ChatExpert
from langchain_tryage._inputs import TextSource
from langchain_tryage._tools import Needs, unable
from tryage import Decision, Goals
from tryage.binding import Binding, joined_goals
from tryage.errors import GoalError

T = TypeVar("T")

PLAN = "_tryage_plan"
"""Call argument in which a plan travels from the public methods to those that call the expert."""


class Plan(Generic[T]):
    """A decision, and what its expert is sent: the input without the user's flags.

    LangChain writes call arguments into traces. There a plan shows the expert's name alone, since
    the decision holds the prompt.

    Attributes:
        input: messages or text for the expert.
        decision: on that input.
    """

    __slots__ = ("decision", "input")

    def __init__(self, input: T, decision: Decision) -> None:
        self.input = input
        self.decision = decision

    def __repr__(self) -> str:
        return f"Plan(expert={self.decision.expert!r})"


def take_plan(kwargs: dict[str, Any]) -> Plan[Any] | None:
    """Take the plan out of a call's arguments, and with it what it was made from."""
    plan: Plan[Any] | None = kwargs.pop(PLAN, None)
    if plan is not None:
        kwargs.pop("tryage", None)
        kwargs.pop("model", None)
    return plan


@dataclass(frozen=True, slots=True)
class ChatPlanner:
    """Plans the calls of a chat model.

    Attributes:
        binding: decides.
        source: finds the routed text.
        sticky: whether to stay with the expert that answered last, as in `ChatTryage`.
    """

    binding: Binding[ChatExpert]
    source: TextSource
    sticky: bool | float

    def plan(
        self,
        messages: list[BaseMessage],
        kwargs: dict[str, Any],
        config: RunnableConfig | None = None,
    ) -> Plan[list[BaseMessage]]:
        """Plan one call; the router's own arguments, `tryage` and `model`, leave `kwargs`."""
        goals, only = kwargs.pop("tryage", None), kwargs.pop("model", None)
        text, flags = self.source.read(messages)
        decision = self.binding.decide(
            text,
            flags=flags,
            only=only,
            goals=call_goals(goals, config),
            without=unable(Needs.of(messages, kwargs), self.binding),
        )
        return self._plan(messages, decision, only)

    def plan_batch(
        self,
        batch: Sequence[list[BaseMessage]],
        configs: Sequence[RunnableConfig],
        kwargs: Mapping[str, Any],
    ) -> list[Plan[list[BaseMessage]]] | None:
        """Decide in one pass; None where the inputs do not all ask for the same."""
        goals = [call_goals(kwargs.get("tryage"), config) for config in configs]
        if any(other != goals[0] for other in goals):
            return None
        texts = [self.source.read(messages) for messages in batch]
        needs = [Needs.of(messages, kwargs) for messages in batch]
        if len({*zip((flags for _, flags in texts), needs, strict=True)}) > 1:
            return None
        only = kwargs.get("model")
        decisions = self.binding.decide_batch(
            [text for text, _ in texts],
            flags=texts[0][1],
            only=only,
            goals=goals[0],
            without=unable(needs[0], self.binding),
        )
        return [self._plan(*pair, only) for pair in zip(batch, decisions, strict=True)]

    def _plan(
        self, messages: list[BaseMessage], decision: Decision, only: str | None
    ) -> Plan[list[BaseMessage]]:
        """Take the flags off the messages, and stay with an expert where that is wanted."""
        messages = list(self.source.strip(messages, decision))
        if only is None and self.sticky is not False:
            decision = stay_with(decision, last_answerer(messages), self.sticky)
        return Plan(messages, decision)


GOALS_KEY = "tryage_goals"
"""Where ``config["configurable"]`` holds the goals of a call."""

GOALS_SPEC = ConfigurableFieldSpec(
    id=GOALS_KEY,
    annotation=Any,
    name="Goals of Tryage",
    description='Goals, or a mapping such as {"size": 0.3, "limits": {"parameters": "<=3B"}}',
    default=None,
)


def call_goals(goals: Any, config: RunnableConfig | None) -> Goals | None:
    """Return the goals of one call.

    Args:
        goals: what the call's `tryage` argument holds.
        config: of the call, or None to see that of the run around it.

    Raises:
        GoalError: they are not goals.
    """
    configurable = ensure_config(config).get("configurable") or {}
    return joined_goals(_as_goals(configurable.get(GOALS_KEY)), _as_goals(goals))


def _as_goals(given: Any) -> Goals | None:
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


def stay_with(decision: Decision, name: str | None, margin: bool | float) -> Decision:
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
