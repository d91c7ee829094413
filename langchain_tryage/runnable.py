"""`TryageRouter`: a runnable that sends each input to the expert a router chooses."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from itertools import chain
from pathlib import Path
from typing import Any, Union

from langchain_core.messages import BaseMessage
from langchain_core.runnables import AddableDict, Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.base import coerce_to_runnable
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.graph import Graph, Node
from langchain_core.runnables.utils import ConfigurableFieldSpec, get_unique_config_specs
from pydantic import ConfigDict

from langchain_tryage._batches import Batch
from langchain_tryage._fields import Routed, Saved, inspected
from langchain_tryage._metadata import TAG, annotated_message, run_metadata
from langchain_tryage._modalities import messages_in
from langchain_tryage._plans import GOALS_SPEC, Plan, Request, call_goals, with_goals
from langchain_tryage._rate_limits import in_turn
from langchain_tryage._tools import Needs, models_of
from langchain_tryage._views import RUNNABLE_VIEWS
from tryage import Decision, Router
from tryage.binding import (
    Binding,
    DispatchingModel,
    Views,
    each_expert,
    off_loop,
    tells_logprobs,
    wrong_expert,
)
from tryage.dispatch import DispatchedDecision, amarked, describe_error, marked, record

Expert = Runnable[Any, Any]

_logger = logging.getLogger(__name__)

_ANY_ERROR = (Exception,)
"""In a batch, an exception of one input never reaches the others."""


class TryageRouter(Routed, DispatchingModel, Saved, RunnableSerializable[Any, Any]):
    """Sends each input to the expert that a router chooses, and to the next one if it fails.

    The output is the expert's. A message carries the decision in
    ``response_metadata["tryage"]``; the expert's run has the tag ``expert:<name>``.

    Attributes:
        router: a router, a router folder, the name of a bundled router or a Hub id.
        experts: expert name → runnable, function or dict of these; None runs the library's own
            Hugging Face pipelines as chat models.
        key: for inputs that are dicts, the key of the text, prompt or messages to route. Experts
            get the dict; one that is a language model gets what stands under the key.
        flags_from: where the user's own text stands, whose flags act and are taken off:
            ``"last_message"``, a dict key, or a function of the input. None leaves flags alone.
        text_from: which messages are routed, as in `ChatTryage`.
        with_decision: yield ``{"output", "decision"}``; the decision also records what was tried.
        **options: those of `tryage.binding.CallOptions`, which are fields too.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    key: str | None = None
    with_decision: bool = False

    # Without one in the class itself, type checkers take the fields for its arguments.
    def __init__(
        self, router: Router | str | Path, experts: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(router=router, experts=experts, **options)

    @classmethod
    def _checked(cls, fields: dict[str, Any]) -> dict[str, Any]:
        callables, experts = fields["experts"], _runnables(fields["experts"])
        is_same = experts is not None and all(experts[name] is callables[name] for name in experts)
        return fields if is_same else fields | {"experts": experts}

    @property
    def _views(self) -> Views:
        return RUNNABLE_VIEWS

    def _bind(self) -> Binding[Expert]:
        experts = each_expert(_runnables(self.experts), lambda _, expert: in_turn(expert))
        return self._bind_experts(experts, _pipeline)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Send one input to the chosen expert; all `kwargs` but the goals `tryage` reach it."""
        return self._call_with_config(self._invoke, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Send one input to the chosen expert; all `kwargs` but the goals `tryage` reach it."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Decide for all inputs in one pass, then call each expert once with all of its own."""
        return self._batch_with_config(
            self._batch, inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Decide for all inputs in one pass, then call each expert once with all of its own."""
        return await self._abatch_with_config(
            self._abatch, inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        yield from self._transform_stream_with_config(iter([input]), self._stream, config, **kwargs)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        chunks: Any = self._atransform_stream_with_config(
            _once(input), self._astream, config, **kwargs
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Return the graph with one branch per expert, labelled with its name."""
        graph = Graph()
        start = graph.add_node(self.get_input_schema(config))
        node = graph.add_node(self)
        end = graph.add_node(self.get_output_schema(config))
        graph.add_edge(start, node)
        for name, expert in self._binding.known_experts.items():
            _add_branch(graph, node, end, name, expert)
        return graph

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """What the experts let a config set, and the goals of a call."""
        experts = self._binding.known_experts.values()
        of_experts = [_stated(expert, "config_specs", []) for expert in experts]
        return get_unique_config_specs([*chain.from_iterable(of_experts), GOALS_SPEC])

    @property
    def InputType(self) -> Any:
        """What the experts take; a dict of any kind where one of its keys is routed."""
        if self._source.dict_key is not None:
            return dict[str, Any]
        return _type(self._binding.known_experts.values(), "InputType")

    @property
    def OutputType(self) -> Any:
        """The experts' output, or a dict of it and the decision."""
        if self.with_decision:
            return dict[str, Any]
        return _type(self._binding.known_experts.values(), "OutputType")

    def _request(self, input: Any, config: RunnableConfig) -> Request:
        return Request(input, call_goals(None, config), needs=Needs.of(messages_in(input)))

    def _plan(self, input: Any, config: RunnableConfig) -> Plan:
        return self._planner.plan(self._request(input, config))

    def _plans(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig]
    ) -> list[Plan | Exception]:
        """Decide in one pass; an input that fails does not spoil the others."""
        pairs = list(zip(inputs, configs, strict=True))
        try:
            plans = self._planner.plan_batch([self._request(*pair) for pair in pairs])
        except _ANY_ERROR:
            plans = None  # raised again below, for the input that it belongs to
        return [self._plan_or_error(*pair) for pair in pairs] if plans is None else [*plans]

    def _plan_or_error(self, input: Any, config: RunnableConfig) -> Plan | Exception:
        try:
            return self._plan(input, config)
        except _ANY_ERROR as error:
            return error

    def _child(
        self, config: RunnableConfig, run_manager: Any, decision: Decision, name: str
    ) -> RunnableConfig:
        """Return the config of an expert's run."""
        child = patch_config(config, callbacks=run_manager.get_child(tag=f"{TAG}{name}"))
        child["metadata"] = {**child.get("metadata", {}), **run_metadata(decision)}
        return child

    def _input_for(self, expert: Expert, input: Any) -> Any:
        """Return an expert's input: for a language model the routed part, else the whole."""
        source = self._source
        if source.dict_key is None or not models_of(expert):
            return input
        return source.part(input)

    def _output(self, value: Any, decision: DispatchedDecision) -> Any:
        if isinstance(value, BaseMessage):
            value = annotated_message(value, decision)
        return {"output": value, "decision": decision} if self.with_decision else value

    def _chunk(self, value: Any, decision: DispatchedDecision | None) -> Any:
        """Return a chunk of the output; the first chunk alone carries the decision."""
        if isinstance(value, BaseMessage):
            value = annotated_message(value, decision)
        if not self.with_decision:
            return value
        first = {} if decision is None else {"decision": decision}
        return AddableDict(first | {"output": value})

    @inspected
    def _invoke(self, input: Any, run_manager: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        config = with_goals(config, kwargs.pop("tryage", None))
        plan = self._plan(input, config)

        def call(name: str, expert: Expert) -> Any:
            child = self._child(config, run_manager, plan.decision, name)
            return expert.invoke(self._input_for(expert, plan.input), child, **kwargs)

        return self._output(*self._binding.dispatch(plan.decision, call))

    @inspected
    async def _ainvoke(
        self, input: Any, run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> Any:
        config = with_goals(config, kwargs.pop("tryage", None))
        plan = await off_loop(self._plan, input, config)

        async def call(name: str, expert: Expert) -> Any:
            child = self._child(config, run_manager, plan.decision, name)
            return await expert.ainvoke(self._input_for(expert, plan.input), child, **kwargs)

        return self._output(*await self._binding.adispatch(plan.decision, call))

    @inspected
    def _stream(
        self, inputs: Iterator[Any], run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> Iterator[Any]:
        config = with_goals(config, kwargs.pop("tryage", None))
        plan = self._plan(next(inputs), config)

        def call(name: str, expert: Expert) -> Iterator[Any]:
            child = self._child(config, run_manager, plan.decision, name)
            return expert.stream(self._input_for(expert, plan.input), child, **kwargs)

        with closing(self._binding.stream(plan.decision, call, may_be_empty=True)) as stream:
            is_empty = True
            for chunk, is_marked in marked(stream, late=stream.is_checked_late):
                is_empty = False
                yield self._chunk(chunk, record(plan.decision, stream) if is_marked else None)
            if is_empty and self.with_decision:
                yield AddableDict({"decision": record(plan.decision, stream)})

    @inspected
    async def _astream(
        self, inputs: AsyncIterator[Any], run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> AsyncIterator[Any]:
        config = with_goals(config, kwargs.pop("tryage", None))
        plan = await off_loop(self._plan, await anext(inputs), config)

        def call(name: str, expert: Expert) -> AsyncIterator[Any]:
            child = self._child(config, run_manager, plan.decision, name)
            return expert.astream(self._input_for(expert, plan.input), child, **kwargs)

        chunks = self._binding.astream(plan.decision, call, may_be_empty=True)
        async with aclosing(chunks) as stream:
            is_empty = True
            async for chunk, is_marked in amarked(stream, late=stream.is_checked_late):
                is_empty = False
                yield self._chunk(chunk, record(plan.decision, stream) if is_marked else None)
            if is_empty and self.with_decision:
                yield AddableDict({"decision": record(plan.decision, stream)})

    def _batch(
        self, inputs: list[Any], run_manager: list[Any], config: list[RunnableConfig], **kwargs: Any
    ) -> list[Any]:
        goals = kwargs.pop("tryage", None)
        config = [with_goals(each, goals) for each in config]
        batch = Batch(
            self._plans(inputs, config), run_manager, config, self._child, self._input_for
        )
        answers = batch.dispatch(self._binding, kwargs)
        return batch.in_order(answers, self._output)

    async def _abatch(
        self, inputs: list[Any], run_manager: list[Any], config: list[RunnableConfig], **kwargs: Any
    ) -> list[Any]:
        goals = kwargs.pop("tryage", None)
        config = [with_goals(each, goals) for each in config]
        plans = await off_loop(self._plans, inputs, config)
        batch = Batch(plans, run_manager, config, self._child, self._input_for)
        answers = await batch.adispatch(self._binding, kwargs)
        return batch.in_order(answers, self._output)


def _runnables(experts: Mapping[str, Any] | None) -> dict[str, Expert] | None:
    return each_expert(experts, _runnable)


def _runnable(name: str, expert: Any) -> Expert:
    try:
        runnable: Expert = coerce_to_runnable(expert)
    except TypeError as error:
        requirement = "it must be a runnable, a function or a dict of these"
        raise wrong_expert(name, expert, requirement) from error
    return runnable


def _pipeline(runtime: Any, expert: Any) -> Expert:
    from langchain_tryage.pipelines import ChatTryagePipeline

    return ChatTryagePipeline(runtime=runtime, expert=expert.name, logprobs=tells_logprobs(expert))


async def _once(value: Any) -> AsyncIterator[Any]:
    yield value


def _stated(expert: Expert, attribute: str, otherwise: Any) -> Any:
    """Return what an expert states of itself; one that is broken must not break the others."""
    try:
        return getattr(expert, attribute)
    except Exception as error:  # noqa: BLE001 - vendors' classes raise anything
        _logger.debug("an expert does not state its %s: %s", attribute, describe_error(error))
        return otherwise


def _type(experts: Iterable[Expert], attribute: str) -> Any:
    types = {_stated(expert, attribute, Any) for expert in experts}
    return Any if Any in types else Union[tuple(types)]  # noqa: UP007


def _branch_of(expert: Expert) -> Graph:
    try:
        return expert.get_graph()
    except Exception as error:  # noqa: BLE001 - vendors' classes raise anything
        _logger.debug("an expert has no graph: %s", describe_error(error))
        return Graph()


def _add_branch(graph: Graph, node: Node, end: Node, name: str, expert: Expert) -> None:
    branch = _branch_of(expert)
    branch.trim_first_node()
    branch.trim_last_node()
    first, last = graph.extend(branch) if branch else (None, None)
    graph.add_edge(node, first or end, data=name, conditional=True)
    if last is not None:
        graph.add_edge(last, end)
