"""`ChatTryage`: a chat model that answers with the expert a router chooses, in one run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, Literal

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import get_config_list
from langchain_core.tools import BaseTool

from langchain_tryage._experts import ChatExpert, with_stop
from langchain_tryage._fields import RoutedModel, inspected
from langchain_tryage._metadata import annotated_chunk, annotated_result, run_config
from langchain_tryage._plans import PLAN, ChatPlanner, Plan, take_plan
from langchain_tryage._tools import NeutralTool, common_profile
from tryage import Router, TryageError
from tryage.binding import Binding, each_expert, off_loop
from tryage.dispatch import record

_STANDARD = ("api_key", "max_retries", "max_tokens", "stop", "streaming", "temperature")
"""Arguments that every chat model takes; here they are the experts' own business."""

EventVersion = Literal["v1", "v2", "v3"]


class ChatTryage(RoutedModel, BaseChatModel):
    """Answers with the expert that a router chooses, and with the next one if it fails.

    To callbacks this is one run of one chat model: tokens count once and stream once. The message
    carries the decision in ``response_metadata["tryage"]``, the run the tag ``expert:<name>``.
    ``invoke(..., model="name")`` forces an expert, ``invoke(..., tryage=Goals(...))`` or
    ``config={"configurable": {"tryage_goals": ...}}`` add goals and limits to one call. An expert
    that cannot do what a call needs (tools, images) is not eligible for it.

    Attributes:
        router: a router, a router folder or the name of a bundled router.
        experts: expert name → chat model, a chat model with bound arguments, or a
            ``"provider:model"`` string, made by LangChain's `init_chat_model` at first use; None
            runs the library's own Hugging Face pipelines.
        aliases: name in `experts` → name in the router's library.
        policy: replaces the router's policy.
        goals: weights and limits of every call.
        task: a Transformers task, or None to see it from the text.
        flags_from: where the user's own text stands, whose flags act and are taken off:
            ``"last_message"`` or a function of the messages. None leaves flags alone.
        text_from: which messages are routed: ``"last_message"`` of the user,
            ``"system_and_last"``, or a number k: the last k of user and model.
        sticky: True stays with the expert that answered last in the conversation while it is
            eligible, which keeps its vendor's prefix cache warm; what that costs is its total
            above the lowest, as the ranking shows. A number is the most it may cost.
        max_attempts: how many experts to try at most; None tries every eligible one.
        errors: exceptions on which the next expert is tried; others are raised at once.
        timeout: seconds that one call, or one chunk of a stream, may take; then the next expert is
            tried. None waits for ever.
        total_timeout: seconds that all calls for one input may take together.
        breaker: leaves an expert alone for a while that keeps failing; True for the usual
            `tryage.dispatch.Breaker`, or one of your own.
        cache: off; the experts' own caches work.
    """

    sticky: bool | float = False

    _ignored = _STANDARD

    # Without one in the class itself, type checkers take the fields for its arguments.
    def __init__(
        self, router: Router | str | Path, experts: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(router=router, experts=experts, **options)

    @classmethod
    def _checked(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {"cache": False} | super()._checked(fields)

    def _made(self) -> None:
        given = (self.experts or {}).values()
        if isinstance(self.router, Router) and not any(isinstance(m, str) for m in given):
            self._set_profile()

    def _bind(self) -> Binding[ChatExpert]:
        return self._bind_experts(each_expert(self.experts, ChatExpert), _pipeline)

    @property
    def _planner(self) -> ChatPlanner:
        return ChatPlanner(self._binding, self._source, self.sticky)

    def load(self) -> Router:
        """Load the router now instead of at first use, and make the models given as strings."""
        router = self._binding.load()
        self._set_profile()
        return router

    def _set_profile(self) -> None:
        """Say what every expert can do, unless the caller said it."""
        if self.profile is None:
            experts = self._binding.experts.values()
            self.profile = common_profile([expert.model.profile for expert in experts])

    @property
    def _llm_type(self) -> str:
        return "tryage-chat"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools; the expert chosen for a call converts them by its own `bind_tools`.

        Experts that cannot take tools are not eligible for such a call.
        """
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=[NeutralTool.of(tool) for tool in tools], **kwargs)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """Tell tracers the model that was chosen; before a decision, the router's name."""
        plan = take_plan(kwargs)
        if plan is None:
            params = super()._get_ls_params(stop=stop, **kwargs)
            params.setdefault("ls_model_name", self._label)
            return params
        name = plan.decision.expert
        expert: ChatExpert = self._binding.experts[name]
        params = expert.model._get_ls_params(**with_stop(stop, expert.kwargs, kwargs))
        params.setdefault("ls_model_name", name)
        return params

    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        # The decision goes to tracers as metadata; the plan itself holds the prompt.
        take_plan(kwargs)
        return super()._get_invocation_params(stop=stop, **kwargs)

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Return a cache key that tells routers, experts and decisions apart."""
        plan = take_plan(kwargs)
        experts = [
            (name, expert.kwargs, expert.model._get_llm_string(stop=stop, **kwargs))
            for name, expert in self._binding.experts.items()
        ]
        data = self._binding.router.provenance.get("data_sha256")
        decision = plan and plan.decision
        decided = decision and (decision.order, decision.weights, decision.limits, decision.flags)
        return repr((self._label, data, decided, experts))

    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if PLAN not in kwargs:  # `generate` comes here without one, and the cache's key needs it
            kwargs[PLAN] = plan = self._planner.plan(messages, kwargs)
            messages = plan.input
        return super()._generate_with_cache(messages, stop, run_manager, **kwargs)

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if PLAN not in kwargs:
            kwargs[PLAN] = plan = await off_loop(self._planner.plan, messages, kwargs)
            messages = plan.input
        return await super()._agenerate_with_cache(messages, stop, run_manager, **kwargs)

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer with the chosen expert; ``model="name"`` forces one."""
        # Decided before the run opens, so that its tags and metadata name the expert.
        plan = self._plan(input, kwargs, config)
        config = run_config(config, plan.decision)
        return super().invoke(plan.input, config, stop=stop, **{PLAN: plan}, **kwargs)

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer with the chosen expert; ``model="name"`` forces one."""
        plan = await off_loop(self._plan, input, kwargs, config)
        config = run_config(config, plan.decision)
        return await super().ainvoke(plan.input, config, stop=stop, **{PLAN: plan}, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        plan = self._plan(input, kwargs, config)
        config = run_config(config, plan.decision)
        yield from super().stream(plan.input, config, stop=stop, **{PLAN: plan}, **kwargs)

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        plan = await off_loop(self._plan, input, kwargs, config)
        config = run_config(config, plan.decision)
        chunks: Any = super().astream(plan.input, config, stop=stop, **{PLAN: plan}, **kwargs)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def stream_events(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        version: EventVersion = "v2",
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Stream the events of an answer, as `BaseChatModel.stream_events` does."""
        if version == "v3":  # the one version that opens its run without coming by `stream`
            kwargs[PLAN] = plan = self._plan(input, kwargs, config)
            input, config = plan.input, run_config(config, plan.decision)
        events: Any = super().stream_events
        return events(input, config, version=version, stop=stop, **kwargs)

    def astream_events(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        version: EventVersion = "v2",
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Stream the events of an answer, as `BaseChatModel.astream_events` does."""
        events: Any = super().astream_events
        if version != "v3":
            return events(input, config, version=version, stop=stop, **kwargs)

        async def decided() -> Any:
            plan = await off_loop(self._plan, input, kwargs, config)
            planned_config = run_config(config, plan.decision)
            return await events(
                plan.input, planned_config, version=version, stop=stop, **{PLAN: plan}, **kwargs
            )

        return decided()

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Decide for all inputs in one pass; each is then a run of its own."""
        planned: Any = self._planned(inputs, config, kwargs)
        return super().batch(planned, config, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Decide for all inputs in one pass; each is then a run of its own."""
        planned: Any = await off_loop(self._planned, inputs, config, kwargs)
        return await super().abatch(planned, config, return_exceptions=return_exceptions, **kwargs)

    def _planned(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None,
        kwargs: Mapping[str, Any],
    ) -> Sequence[LanguageModelInput | Plan[list[BaseMessage]]]:
        """Decide in one pass where all inputs ask for the same; else each decides for itself."""
        if not inputs:
            return inputs
        try:
            batch = [self._convert_input(value).to_messages() for value in inputs]
            configs = get_config_list(config, len(inputs))
            return self._planner.plan_batch(batch, configs, kwargs) or inputs
        except (TryageError, ValueError):
            return inputs  # each input raises its own error in its own run

    def _plan(
        self, value: Any, kwargs: dict[str, Any], config: RunnableConfig | None
    ) -> Plan[list[BaseMessage]]:
        plan = take_plan(kwargs)
        if plan is not None:  # a stream that LangChain turns into a whole answer
            return plan
        if isinstance(value, Plan):  # of a batch, which is decided in one pass
            kwargs.pop("tryage", None)
            kwargs.pop("model", None)
            return value
        return self._planner.plan(self._convert_input(value).to_messages(), kwargs, config)

    def _planned_call(
        self, messages: list[BaseMessage], kwargs: dict[str, Any]
    ) -> Plan[list[BaseMessage]]:
        """Return the call's plan with the messages as LangChain hands them on; made if absent."""
        plan = take_plan(kwargs)
        if plan is None:
            return self._planner.plan(messages, kwargs)
        return Plan(messages, plan.decision)

    async def _aplanned_call(
        self, messages: list[BaseMessage], kwargs: dict[str, Any]
    ) -> Plan[list[BaseMessage]]:
        if PLAN in kwargs:
            return self._planned_call(messages, kwargs)
        return await off_loop(self._planned_call, messages, kwargs)

    @inspected
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        plan = self._planned_call(messages, kwargs)

        def call(_name: str, expert: ChatExpert) -> ChatResult:
            return expert.generate(plan.input, stop, kwargs)

        return annotated_result(*self._binding.dispatch(plan.decision, call))

    @inspected
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        plan = await self._aplanned_call(messages, kwargs)

        async def call(_name: str, expert: ChatExpert) -> ChatResult:
            return await expert.agenerate(plan.input, stop, kwargs)

        return annotated_result(*await self._binding.adispatch(plan.decision, call))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        plan = self._planned_call(messages, kwargs)

        def call(_name: str, expert: ChatExpert) -> Iterator[ChatGenerationChunk]:
            return expert.stream(plan.input, stop, kwargs)

        with closing(self._binding.stream(plan.decision, call)) as stream:
            is_first = True
            for chunk in stream:
                if is_first:
                    chunk = annotated_chunk(chunk, record(plan.decision, stream))
                    is_first = False
                yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        plan = await self._aplanned_call(messages, kwargs)

        def call(_name: str, expert: ChatExpert) -> AsyncIterator[ChatGenerationChunk]:
            return expert.astream(plan.input, stop, kwargs)

        async with aclosing(self._binding.astream(plan.decision, call)) as stream:
            is_first = True
            async for chunk in stream:
                if is_first:
                    chunk = annotated_chunk(chunk, record(plan.decision, stream))
                    is_first = False
                yield chunk


def _pipeline(runtime: Any, expert: Any) -> ChatExpert:
    from langchain_tryage.pipelines import ChatTryagePipeline

    return ChatExpert(expert.name, ChatTryagePipeline(runtime=runtime, expert=expert.name))
