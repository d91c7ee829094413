"""Calls of the routing language models: planned before LangChain opens their run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from langchain_core.language_models import LanguageModelInput
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, get_config_list

from langchain_tryage._experts import labels_of
from langchain_tryage._metadata import run_config
from langchain_tryage._plans import PLAN, Plan, Planner, Request, Unplanned
from tryage import TryageError
from tryage.binding import off_loop

AnswerT = TypeVar("AnswerT")
ChunkT = TypeVar("ChunkT")


class PlannedCalls(Generic[AnswerT, ChunkT]):
    """The public methods of a language model, each of which plans its call exactly once.

    The plan is made before LangChain opens the run, so that the run's tags and metadata name the
    expert, and travels as one call argument to the methods that call the expert.
    """

    @property
    def _planner(self) -> Planner:
        raise NotImplementedError

    def _request(
        self,
        input: LanguageModelInput,
        kwargs: Mapping[str, Any],
        config: RunnableConfig | None = None,
    ) -> Request:
        """Return what a call asks of the router."""
        raise NotImplementedError

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AnswerT:
        """Answer with the chosen expert; ``model="name"`` forces one."""
        plan = self._plan_call(input, kwargs, config)
        config = planned_config(config, plan)
        model: Any = super()
        answer: AnswerT = model.invoke(plan.input, config, stop=stop, **kwargs)
        return answer

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AnswerT:
        """Answer with the chosen expert; ``model="name"`` forces one."""
        plan = await self._aplan_call(input, kwargs, config)
        config = planned_config(config, plan)
        model: Any = super()
        answer: AnswerT = await model.ainvoke(plan.input, config, stop=stop, **kwargs)
        return answer

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[ChunkT]:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        plan = self._plan_call(input, kwargs, config)
        config = planned_config(config, plan)
        model: Any = super()
        if self._answers_whole(plan, async_api=False):
            yield model.invoke(plan.input, config, stop=stop, **kwargs)
            return
        for chunk in model.stream(plan.input, config, stop=stop, **kwargs):
            yield self._as_streamed(chunk)

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChunkT]:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        plan = await self._aplan_call(input, kwargs, config)
        config = planned_config(config, plan)
        model: Any = super()
        if self._answers_whole(plan, async_api=True):
            yield await model.ainvoke(plan.input, config, stop=stop, **kwargs)
            return
        async with aclosing(model.astream(plan.input, config, stop=stop, **kwargs)) as chunks:
            async for chunk in chunks:
                yield self._as_streamed(chunk)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AnswerT]:
        """Decide for all inputs in one pass; each is then a run of its own."""
        planned = self._plan_batch(inputs, config, kwargs)
        # Not `BaseLLM.batch`, which opens all runs with the arguments of one call.
        runnable: Any = Runnable
        answers: list[AnswerT] = runnable.batch(
            self, planned, config, return_exceptions=return_exceptions, **kwargs
        )
        return answers

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AnswerT]:
        """Decide for all inputs in one pass; each is then a run of its own."""
        planned = await off_loop(self._plan_batch, inputs, config, kwargs)
        runnable: Any = Runnable
        answers: list[AnswerT] = await runnable.abatch(
            self, planned, config, return_exceptions=return_exceptions, **kwargs
        )
        return answers

    def _answers_whole(self, plan: Plan | Unplanned, *, async_api: bool) -> bool:
        """Whether the chosen expert does not stream, where LangChain does not ask for it itself."""
        return False

    def _as_streamed(self, answer: Any) -> Any:
        """Return what a stream yields: LangChain yields a whole answer where nothing streams."""
        return answer

    def _plan_call(
        self,
        input: LanguageModelInput | Plan,
        kwargs: dict[str, Any],
        config: RunnableConfig | None,
    ) -> Plan | Unplanned:
        """Put a call's plan among its arguments, in place of what it was made from.

        It may be there already: LangChain calls `invoke` where a model does not stream.
        """
        plan: Plan | Unplanned | None = kwargs.get(PLAN)
        if plan is not None:
            return plan
        if isinstance(input, Plan):
            plan = input
        else:
            plan = self._plan_or_error(input, kwargs, config)
        drop_routing(kwargs)
        kwargs[PLAN] = plan
        return plan

    async def _aplan_call(
        self,
        input: LanguageModelInput | Plan,
        kwargs: dict[str, Any],
        config: RunnableConfig | None,
    ) -> Plan | Unplanned:
        """Do what `_plan_call` does, off the event loop where there is something to decide."""
        if PLAN in kwargs or isinstance(input, Plan):
            return self._plan_call(input, kwargs, config)
        return await off_loop(self._plan_call, input, kwargs, config)

    def _plan_or_error(
        self,
        input: LanguageModelInput,
        kwargs: Mapping[str, Any],
        config: RunnableConfig | None = None,
    ) -> Plan | Unplanned:
        """Return the plan of one call, or why there is none."""
        try:
            planner = self._planner
            return _labelled(planner.plan(self._request(input, kwargs, config)), planner)
        except Exception as error:  # noqa: BLE001 - raised again inside the run
            return Unplanned(input, error)

    def _plan_batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None,
        kwargs: Mapping[str, Any],
    ) -> list[Any]:
        """Plan in one pass where all inputs ask for the same; else each call plans for itself."""
        if not inputs:
            return inputs
        try:
            configs = get_config_list(config, len(inputs))
            requests = [
                self._request(input, kwargs, config)
                for input, config in zip(inputs, configs, strict=True)
            ]
            planner = self._planner
            plans = planner.plan_batch(requests)
            return inputs if plans is None else [_labelled(plan, planner) for plan in plans]
        except (TryageError, ValueError):
            return inputs  # each input raises its own error in its own run


def _labelled(plan: Plan, planner: Planner) -> Plan:
    """Return a plan with the labels of the chosen expert, whose model is loaded for them."""
    labels = labels_of(planner.binding.experts[plan.decision.expert])
    plan.tags, plan.metadata = labels.tags, labels.metadata
    return plan


def planned_config(config: RunnableConfig | None, plan: Plan | Unplanned) -> RunnableConfig:
    """Return the config of the run that is about to open for a plan."""
    if isinstance(plan, Unplanned):
        return ensure_config(config)
    config = run_config(config, plan.decision)
    if plan.tags:
        config["tags"] = [*config["tags"], *(t for t in plan.tags if t not in config["tags"])]
    if plan.metadata:
        config["metadata"] = {**config["metadata"], **plan.metadata}
    return config


def drop_routing(kwargs: dict[str, Any]) -> None:
    """Drop the call arguments that are the router's: goals and a forced expert."""
    kwargs.pop("tryage", None)
    kwargs.pop("model", None)
