"""`ChatTryage`: a chat model that answers with the expert a router chooses, in one run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from functools import partial
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
from langchain_core.tools import BaseTool

from langchain_tryage._calls import PlannedCalls, drop_routing, planned_config
from langchain_tryage._chat_experts import ChatExpert, chat_pipeline, whole_chunk
from langchain_tryage._experts import Call, ask_model, with_stop
from langchain_tryage._fields import RoutedModel, inspected
from langchain_tryage._generations import ChatGenerations
from langchain_tryage._metadata import annotated_chunk, annotated_result
from langchain_tryage._plans import PLAN, Plan, Planner, Request, Unplanned, call_goals
from langchain_tryage._structured import STRUCTURED, structured
from langchain_tryage._tools import Needs, NeutralTool, common_profile
from langchain_tryage._views import CHAT_VIEWS
from tryage import Router
from tryage.binding import Binding, Sticky, Views, each_expert, off_loop
from tryage.dispatch import amarked, marked, record

EventVersion = Literal["v1", "v2", "v3"]


class ChatTryage(
    RoutedModel, PlannedCalls[AIMessage, AIMessageChunk], ChatGenerations, BaseChatModel
):
    """Answers with the expert that a router chooses, and with the next one if it fails.

    To callbacks this is one run of one chat model: tokens count once and stream once. The message
    carries the decision in ``response_metadata["tryage"]``, the run the tag ``expert:<name>``.
    ``invoke(..., model="name")`` forces an expert, ``invoke(..., tryage=Goals(...))`` or
    ``config={"configurable": {"tryage_goals": ...}}`` add goals and limits to one call. An expert
    that cannot do what a call needs (tools, images) is not eligible for it.

    Attributes:
        router: a router, a router folder, the name of a bundled router or a Hub id.
        experts: expert name → chat model, a chat model with bound arguments, or a
            ``"provider:model"`` string, made by LangChain's `init_chat_model` at first use; None
            runs the library's own Hugging Face pipelines.
        flags_from: where the user's own text stands, whose flags act and are taken off:
            ``"last_message"`` or a function of the messages. None leaves flags alone.
        text_from: which messages are routed: ``"last_message"`` of the user,
            ``"system_and_last"``, or a number k: the last k of user and model.
        sticky: whether to stay with the expert that answered last in the conversation, while it is
            eligible. True always does; a number while its total is at most that much above the
            lowest; ``"price"`` weighs what its vendor's prompt cache saves against what switching
            gains (`tryage.binding.staying`). Whatever it is, nobody else is chosen while a
            tool's result is awaited, or while a vendor's encrypted reasoning is in the messages;
            where that expert fails, another one answers.
        **options: those of `tryage.binding.CallOptions`, which are fields too.
        cache: off; the experts' own caches work.
        stop, temperature, max_tokens: call arguments for whichever expert answers; those bound to
            an expert replace them, and those of a call replace both.
        streaming: whether `invoke` streams too, so that callbacks hear every token.
    """

    sticky: Sticky = False
    streaming: bool = False

    # Without one in the class itself, type checkers take the fields for its arguments.
    def __init__(
        self, router: Router | str | Path, experts: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(router=router, experts=experts, **options)
        models = (self.experts or {}).values()
        is_known = self.experts is not None or isinstance(self.router, Router)
        if is_known and not any(isinstance(model, str) for model in models):
            self._set_profile()

    @classmethod
    def _checked(cls, fields: dict[str, Any]) -> dict[str, Any]:
        return {"cache": False} | super()._checked(fields)

    @property
    def _views(self) -> Views:
        return CHAT_VIEWS

    def _bind(self) -> Binding[ChatExpert]:
        settings = self._settings
        experts = each_expert(self.experts, partial(ChatExpert, settings=settings))
        return self._bind_experts(experts, partial(chat_pipeline, settings=settings))

    @property
    def _planner(self) -> Planner:
        return Planner(self._binding, self._source, self.sticky)

    def _request(
        self,
        input: LanguageModelInput,
        kwargs: Mapping[str, Any],
        config: RunnableConfig | None = None,
    ) -> Request:
        messages = self._convert_input(input).to_messages()
        goals = call_goals(kwargs.get("tryage"), config)
        needs, tools = Needs.of(messages, kwargs), kwargs.get("tools") or ()
        if needs.structure is not None:
            tools = [*tools, needs.structure.tool]
        return Request(messages, goals, kwargs.get("model"), needs, tools)

    def load(self) -> Router:
        """Load the router now instead of at first use, and make the models given as strings.

        Raises:
            ExpertError: LangChain cannot make one of them.
            MissingExtraError: a package that one of them needs is not installed.
        """
        router = self._binding.load()
        for expert in self._binding.experts.values():
            _ = expert.model
        self._set_profile()
        return router

    def _set_profile(self) -> None:
        """Say what every expert can do, unless the caller said it."""
        if self.profile is None:
            experts = self._binding.known_experts.values()
            profiles: list[list[Any]] = [
                ask_model(expert, lambda model: [model.profile], []) for expert in experts
            ]
            self.profile = common_profile([profile for group in profiles for profile in group])

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

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Answer in a schema; the chosen expert does it by its own `with_structured_output`.

        Experts that have no way to do it are not eligible. An answer that does not fit counts as a
        failure, and the next expert answers; a stream goes out as it comes.

        Args:
            schema: as `BaseChatModel.with_structured_output` takes it.
            include_raw: whether to return a dict of ``raw``, ``parsed`` and ``parsing_error``.
            **kwargs: `method`, `strict` and what else the experts' own take.
        """
        return structured(self, schema, include_raw, kwargs)

    def _as_streamed(self, answer: Any) -> AIMessageChunk:
        return answer if isinstance(answer, AIMessageChunk) else whole_chunk(answer)

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
        value: Any = input
        if version == "v3":  # the one version that opens its run without calling `stream`
            plan = self._plan_call(input, kwargs, config)
            value, config = plan.input, planned_config(config, plan)
        events: Any = super().stream_events
        return events(value, config, version=version, stop=stop, **kwargs)

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

        async def planned() -> Any:
            plan = await self._aplan_call(input, kwargs, config)
            call_config = planned_config(config, plan)
            return await events(plan.input, call_config, version=version, stop=stop, **kwargs)

        return planned()

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """Name the chosen model to tracers; before a decision, the router."""
        plan: Plan | Unplanned | None = kwargs.pop(PLAN, None)
        kwargs.pop("tryage", None)
        if not isinstance(plan, Plan):
            params = super()._get_ls_params(stop=stop, **kwargs)
            params.setdefault("ls_model_name", self._label)
            return params
        name = plan.decision.expert
        expert: ChatExpert = self._binding.experts[name]
        arguments = with_stop(stop, expert.kwargs, kwargs)
        params = LangSmithParams()
        if expert.is_made:  # else planning could not make it, and this may be the event loop
            params = ask_model(expert, lambda m: m._get_ls_params(**arguments), params)
        params.setdefault("ls_model_name", name)
        return params

    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Leave out goals and plan; the decision goes to tracers as metadata."""
        for name in (PLAN, STRUCTURED, "tryage"):
            kwargs.pop(name, None)
        return super()._get_invocation_params(stop=stop, **kwargs)

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Return a cache key of router, experts and decision."""
        plan: Plan | None = kwargs.pop(PLAN, None)
        experts = [
            (name, expert.kwargs, expert.identity(stop, kwargs))
            for name, expert in self._binding.experts.items()
        ]
        data = self._binding.router.provenance.get("data_sha256")
        decided = None
        if plan is not None:
            decision = plan.decision
            decided = (decision.order, decision.weights, decision.limits, decision.flags)
        return repr((self._label, data, decided, experts))

    def _take_plan(self, messages: list[BaseMessage], kwargs: dict[str, Any]) -> Plan:
        """Return the plan in a call's arguments, or make one if there is none, as in `generate`."""
        plan: Plan | Unplanned | None = kwargs.pop(PLAN, None)
        if isinstance(plan, Unplanned):
            raise plan.error
        if plan is not None:
            # LangChain may have normalized the messages since the call was planned.
            return plan.with_input(messages)
        plan = self._planner.plan(self._request(messages, kwargs))
        drop_routing(kwargs)
        return plan

    async def _atake_plan(self, messages: list[BaseMessage], kwargs: dict[str, Any]) -> Plan:
        """Do what `_take_plan` does, off the event loop where there is something to decide."""
        if PLAN in kwargs:
            return self._take_plan(messages, kwargs)
        return await off_loop(self._take_plan, messages, kwargs)

    def _should_stream(self, *, async_api: bool, run_manager: Any = None, **kwargs: Any) -> bool:
        """Whether the chosen expert streams: else the events are those of a whole answer."""
        plan = kwargs.pop(PLAN, None)
        inherited = super()._should_stream(async_api=async_api, run_manager=run_manager, **kwargs)
        if not inherited or not isinstance(plan, Plan):
            return inherited
        expert: ChatExpert = self._binding.experts[plan.decision.expert]
        return not expert.is_made or expert.streams(async_api=async_api)

    # `generate` comes to these two without a plan, which is part of the cache key.
    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        plan = self._take_plan(messages, kwargs)
        return super()._generate_with_cache(plan.input, stop, run_manager, **{PLAN: plan}, **kwargs)

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        plan = await self._atake_plan(messages, kwargs)
        return await super()._agenerate_with_cache(
            plan.input, stop, run_manager, **{PLAN: plan}, **kwargs
        )

    @inspected
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        plan = self._take_plan(messages, kwargs)
        own = Call(stop, kwargs, run_manager, plan.goals)

        def call(_name: str, expert: ChatExpert) -> ChatResult:
            return expert.generate(plan.input, own)

        return annotated_result(*self._binding.dispatch(plan.decision, call))

    @inspected
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        plan = await self._atake_plan(messages, kwargs)
        own = Call(stop, kwargs, run_manager, plan.goals)

        async def call(_name: str, expert: ChatExpert) -> ChatResult:
            return await expert.agenerate(plan.input, own)

        return annotated_result(*await self._binding.adispatch(plan.decision, call))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        plan = self._take_plan(messages, kwargs)
        own = Call(stop, kwargs, run_manager, plan.goals)

        def call(_name: str, expert: ChatExpert) -> Iterator[ChatGenerationChunk]:
            return expert.stream(plan.input, own)

        with closing(self._binding.stream(plan.decision, call)) as stream:
            for chunk, is_marked in marked(stream, late=stream.is_checked_late):
                dispatched = record(plan.decision, stream) if is_marked else None
                yield annotated_chunk(chunk, dispatched)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        plan = await self._atake_plan(messages, kwargs)
        own = Call(stop, kwargs, run_manager, plan.goals)

        def call(_name: str, expert: ChatExpert) -> AsyncIterator[ChatGenerationChunk]:
            return expert.astream(plan.input, own)

        async with aclosing(self._binding.astream(plan.decision, call)) as stream:
            async for chunk, is_marked in amarked(stream, late=stream.is_checked_late):
                dispatched = record(plan.decision, stream) if is_marked else None
                yield annotated_chunk(chunk, dispatched)
