"""`TryageSelector`: a runnable that decides without calling an expert."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from langchain_core.language_models import LanguageModelInput
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.utils import ConfigurableFieldSpec
from pydantic import ConfigDict

from langchain_tryage._fields import Routed, Saved
from langchain_tryage._inputs import TextFrom
from langchain_tryage._modalities import messages_in
from langchain_tryage._plans import GOALS_SPEC, Request, call_goals
from langchain_tryage._tools import Needs
from tryage import Decision, Router, TryageError
from tryage.binding import (
    Binding,
    RouterOptions,
    checked_names,
    off_loop,
)

Output = Literal["decision", "name"]


class SelectorOptions(RouterOptions, total=False):
    """Keyword arguments of `TryageSelector`."""

    key: str | None
    text_from: TextFrom
    output: Output


class TryageSelector(Routed, Saved, RunnableSerializable[LanguageModelInput, Any]):
    """Decides which expert an input goes to, and returns the decision or the expert's name.

    A name goes where LangChain takes one: ``init_chat_model()`` without a model reads it from
    ``config["configurable"]["model"]``.

    Attributes:
        router: a router, a router folder, the name of a bundled router or a Hub id.
        experts: names that may be chosen; None allows all of the library.
        key: for inputs that are dicts, the key of the text, prompt or messages to route.
        flags_from: where the user's own text stands, whose flags act: ``"last_message"``, a dict
            key, or a function of the input. The decision's `prompt` is that text without them.
        text_from: which messages are routed, as in `ChatTryage`.
        output: ``"decision"``, or ``"name"`` of the chosen expert.
        **options: those of `tryage.binding.RouterOptions`, which are fields too; a name that
            `aliases` maps is returned as in `experts`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    key: str | None = None
    output: Output = "decision"

    def __init__(
        self,
        router: Router | str | Path,
        experts: Iterable[str] | None = None,
        **options: Unpack[SelectorOptions],
    ) -> None:
        names: Any = checked_names(experts)
        super().__init__(router, names, **options)

    def _bind(self) -> Binding[str]:
        names = None if self.experts is None else {name: name for name in self.experts}
        return self._bind_experts(names, _name)

    @property
    def InputType(self) -> Any:
        """Text, a prompt or messages; a dict where `key` or `flags_from` names one of its keys."""
        return Any if self.key or self.flags_from else LanguageModelInput

    @property
    def OutputType(self) -> Any:
        """A decision, or a name."""
        return str if self.output == "name" else Decision

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The goals of a call."""
        return [GOALS_SPEC]

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Decide for one input; ``tryage=Goals(...)`` adds goals to this call."""
        return self._call_with_config(self._decide, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Decide for one input, off the event loop."""
        return await self._acall_with_config(self._adecide, input, config, **kwargs)

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Decide for all inputs in one pass."""
        return self._batch_with_config(
            self._decide_batch, inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Decide for all inputs in one pass, off the event loop."""
        return await self._abatch_with_config(
            self._adecide_batch, inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    def _decide(
        self, input: Any, run_manager: Any, config: RunnableConfig, tryage: Any = None
    ) -> Any:
        _, decision = self._planner.decide(_request(input, config, tryage))
        return self._output(decision)

    async def _adecide(
        self, input: Any, run_manager: Any, config: RunnableConfig, tryage: Any = None
    ) -> Any:
        return await off_loop(self._decide, input, run_manager, config, tryage)

    def _decide_batch(
        self,
        inputs: list[Any],
        run_manager: list[Any],
        config: list[RunnableConfig],
        tryage: Any = None,
    ) -> list[Any]:
        pairs = list(zip(inputs, config, strict=True))
        try:
            requests = [_request(*pair, tryage) for pair in pairs]
            decisions = self._planner.decide_batch(requests)
        except TryageError:
            decisions = None  # raised again below, for the input that it belongs to
        if decisions is None:
            return [self._decide_or_error(*pair, tryage) for pair in pairs]
        return [self._output(decision) for decision in decisions]

    async def _adecide_batch(
        self,
        inputs: list[Any],
        run_manager: list[Any],
        config: list[RunnableConfig],
        tryage: Any = None,
    ) -> list[Any]:
        return await off_loop(self._decide_batch, inputs, run_manager, config, tryage)

    def _decide_or_error(self, input: Any, config: RunnableConfig, tryage: Any) -> Any:
        try:
            return self._decide(input, None, config, tryage)
        except TryageError as error:
            return error

    def _output(self, decision: Decision) -> Any:
        return self._binding.experts[decision.expert] if self.output == "name" else decision

    def __repr_args__(self) -> Sequence[tuple[str | None, Any]]:
        """Name router and output."""
        return [("router", self.router), ("output", self.output)]


def _request(input: Any, config: RunnableConfig, goals: Any) -> Request:
    return Request(input, call_goals(goals, config), needs=Needs.of(messages_in(input)))


def _name(_runtime: Any, expert: Any) -> str:
    return str(expert.name)
