"""Decisions on messages: what a call needs, what it asks for, who answered before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from langchain_tryage.asking import asked_goals, keep, last_answerer
from langchain_tryage.delegation import ChatExpert
from langchain_tryage.messages import TextSource
from langchain_tryage.tools import Needs, unable
from tryage import Decision
from tryage.binding import Binding


class ChatPlan(NamedTuple):
    """Messages for the expert, without the user's flags, and the decision on them."""

    messages: list[BaseMessage]
    decision: Decision


@dataclass(frozen=True, slots=True)
class ChatPlans:
    """Makes plans for the calls of a chat model.

    Attributes:
        binding: decides.
        source: finds the routed text.
        sticky: whether to stay with the expert that answered last, as in `ChatTryage`.
    """

    binding: Binding[ChatExpert]
    source: TextSource
    sticky: bool | float

    def take(
        self,
        messages: list[BaseMessage],
        kwargs: dict[str, Any],
        config: RunnableConfig | None = None,
    ) -> ChatPlan:
        """Return the plan of a call; a decision that is given is followed.

        The arguments that are not the expert's, `tryage` and `model`, leave `kwargs`.
        """
        given = kwargs.pop("tryage", None)
        only = kwargs.pop("model", None)
        if isinstance(given, Decision):
            return ChatPlan(messages, given)
        text, own = self.source.read(messages)
        decision = self.binding.decide(
            text,
            flags=own,
            only=only,
            goals=asked_goals(given, config),
            without=unable(Needs.of(messages, kwargs), self.binding),
        )
        return self._settled(messages, decision, only)

    def of_batch(
        self,
        batch: Sequence[list[BaseMessage]],
        configs: Sequence[RunnableConfig],
        kwargs: Mapping[str, Any],
    ) -> list[ChatPlan] | None:
        """Decide in one pass; None where the inputs do not all ask for the same."""
        goals = [asked_goals(kwargs.get("tryage"), config) for config in configs]
        if any(one != goals[0] for one in goals):
            return None
        read = [self.source.read(messages) for messages in batch]
        needs = [Needs.of(messages, kwargs) for messages in batch]
        if len({*zip((own for _, own in read), needs, strict=True)}) > 1:
            return None
        only = kwargs.get("model")
        decisions = self.binding.decide_batch(
            [text for text, _ in read],
            flags=read[0][1],
            only=only,
            goals=goals[0],
            without=unable(needs[0], self.binding),
        )
        told = zip(batch, decisions, strict=True)
        return [self._settled(messages, decision, only) for messages, decision in told]

    def _settled(
        self, messages: list[BaseMessage], decision: Decision, only: str | None
    ) -> ChatPlan:
        """Take the flags off the messages, and stay with an expert where that is wanted."""
        messages = list(self.source.strip(messages, decision))
        if only is None and self.sticky is not False:
            decision = keep(decision, last_answerer(messages), self.sticky)
        return ChatPlan(messages, decision)
