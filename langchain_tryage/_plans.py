"""Plans of calls: what a call asks of the router, the decision, and the input for the expert.

A plan is made once and travels through LangChain's methods as one private call argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.runnables.utils import ConfigurableFieldSpec

from langchain_tryage._conversations import conversation_of
from langchain_tryage._inputs import Reading, TextSource
from langchain_tryage._modalities import messages_in
from langchain_tryage._sent import sent_tokens
from langchain_tryage._tools import Needs, unable
from tryage import Decision, Goals
from tryage.binding import Binding, Sticky, joined_goals, stay
from tryage.errors import GoalError
from tryage.tokens import count_tokens

PLAN = "_tryage_plan"
"""Call argument that carries a plan from the public methods to those that call the expert."""

GOALS_KEY = "tryage_goals"
"""Where ``config["configurable"]`` holds the goals of a call."""

GOALS_SPEC = ConfigurableFieldSpec(
    id=GOALS_KEY,
    annotation=Any,
    name="Goals of Tryage",
    description='Goals, or a mapping such as {"size": 0.3, "limits": {"parameters": "<=3B"}}',
    default=None,
)


class Plan:
    """The decision on one call, and the input for the expert, without the user's flags.

    Tracers write call arguments down, so it shows the expert's name alone: the decision holds the
    prompt.

    Attributes:
        input: for the expert.
        decision: on the call.
        goals: of this call alone, which hold for an expert that routes, too.
        tags, metadata: those bound to the chosen expert.
    """

    __slots__ = ("decision", "goals", "input", "metadata", "tags")

    def __init__(self, input: Any, decision: Decision, goals: Goals | None = None) -> None:
        self.input = input
        self.decision = decision
        self.goals = goals
        self.tags: Sequence[str] = ()
        self.metadata: Mapping[str, Any] = {}

    def with_input(self, input: Any) -> Plan:
        """Return the same plan for another form of its input."""
        return Plan(input, self.decision, self.goals)

    def __repr__(self) -> str:
        return f"Plan(expert={self.decision.expert!r})"


class Unplanned:
    """A call that could not be decided: the run that opens for it raises the error.

    Callbacks, tracers and listeners then get it like any other error of a model.
    """

    __slots__ = ("error", "input")

    def __init__(self, input: Any, error: Exception) -> None:
        self.input = input
        self.error = error

    def __repr__(self) -> str:
        return f"Unplanned({type(self.error).__name__})"


class Request(NamedTuple):
    """One input, and what its call asks of the router.

    Attributes:
        input: text, a prompt, messages, or a dict that holds one of these.
        goals: of this call.
        only: the one expert that may answer.
        needs: what the expert must be able to do.
        tools: of the call, which are sent too.
        without: expert → why it may not answer.
    """

    input: Any
    goals: Goals | None = None
    only: str | None = None
    needs: Needs = Needs()
    tools: Sequence[Any] = ()
    without: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Planner:
    """Decides on requests.

    Attributes:
        binding: decides.
        source: finds the routed text.
        sticky: whether to stay with the expert that answered last, as in `ChatTryage`.
        loops_bind: whether the expert that called a tool also reads its result.
    """

    binding: Binding[Any]
    source: TextSource
    sticky: Sticky = False
    loops_bind: bool = True

    def plan(self, request: Request) -> Plan:
        """Decide on a request, and take the user's flags off its input."""
        reading, decision = self.decide(request)
        return self._planned(request, reading, decision)

    def plan_batch(self, requests: Sequence[Request]) -> list[Plan] | None:
        """Decide in one pass; None where the requests do not all ask for the same."""
        readings = self._alike(requests)
        if readings is None:
            return None
        decisions = self._decide_alike(requests, readings)
        return [
            self._planned(*planned) for planned in zip(requests, readings, decisions, strict=True)
        ]

    def decide(self, request: Request) -> tuple[Reading, Decision]:
        """Decide on a request; its input is not changed."""
        reading = self.source.read(request.input)
        decision = self.binding.decide(
            reading.text,
            flags=reading.flags_act,
            only=request.only,
            goals=request.goals,
            without={**unable(request.needs, self.binding), **request.without},
            sent_tokens=self._sent(request, reading),
        )
        return reading, decision

    def decide_batch(self, requests: Sequence[Request]) -> list[Decision] | None:
        """Decide in one pass; None where the requests do not all ask for the same."""
        readings = self._alike(requests)
        return None if readings is None else self._decide_alike(requests, readings)

    def _alike(self, requests: Sequence[Request]) -> list[Reading] | None:
        first = requests[0]
        if any(request[1:] != first[1:] for request in requests):
            return None
        readings = [self.source.read(request.input) for request in requests]
        return readings if len({reading.flags_act for reading in readings}) == 1 else None

    def _decide_alike(
        self, requests: Sequence[Request], readings: Sequence[Reading]
    ) -> list[Decision]:
        request = requests[0]
        return self.binding.decide_batch(
            [reading.text for reading in readings],
            flags=readings[0].flags_act,
            only=request.only,
            goals=request.goals,
            without={**unable(request.needs, self.binding), **request.without},
            sent_tokens=[self._sent(*pair) for pair in zip(requests, readings, strict=True)],
        )

    def _sent(self, request: Request, reading: Reading) -> float:
        """Return the estimated tokens sent; those of the routed text if the form is unknown."""
        value, key = request.input, self.source.dict_key
        part = value.get(key) if key is not None and isinstance(value, Mapping) else value
        sent = sent_tokens(part, request.tools)
        return count_tokens(reading.text) if sent is None else sent

    def _planned(self, request: Request, reading: Reading, decision: Decision) -> Plan:
        stripped = self.source.strip(request.input, reading, decision)
        if request.only is None and (messages := messages_in(stripped)):
            conversation = conversation_of(
                messages, request.tools, self.sticky, loops_bind=self.loops_bind
            )
            decision = stay(decision, conversation, self.sticky, self.binding.router)
        return Plan(stripped, decision, request.goals)


def call_goals(goals: Any, config: RunnableConfig | None) -> Goals | None:
    """Return the goals of one call.

    Args:
        goals: the call's `tryage` argument.
        config: of the call, or None for that of the run around it.

    Raises:
        GoalError: they are not goals.
    """
    configurable = ensure_config(config).get("configurable") or {}
    return joined_goals(as_goals(configurable.get(GOALS_KEY)), as_goals(goals))


def with_goals(config: RunnableConfig, goals: Any) -> RunnableConfig:
    """Return a config with the goals of a call, also for nested routers; without goals, itself."""
    if goals is None:
        return config
    configurable = {**(config.get("configurable") or {}), GOALS_KEY: call_goals(goals, config)}
    return {**config, "configurable": configurable}


def as_goals(value: Any) -> Goals | None:
    """Return the goals of a call's argument.

    Raises:
        GoalError: it is no goals and no mapping of them.
    """
    if value is None or isinstance(value, Goals):
        return value
    if isinstance(value, Mapping):
        return Goals(**value)
    raise GoalError(f"goals are a Goals or a mapping, found {type(value).__name__}")
