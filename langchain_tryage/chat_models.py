"""`ChatTryage`: a chat model that answers with the expert a router chooses, in one run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.utils import ConfigurableFieldSpec
from langchain_core.tools import BaseTool
from pydantic import PrivateAttr

from langchain_tryage.annotating import annotated_chunk, annotated_result, told
from langchain_tryage.asking import GOALS_SPEC, asked_goals, keep, last_answerer
from langchain_tryage.delegation import ChatExpert
from langchain_tryage.messages import TextFrom, TextSource
from langchain_tryage.off_loop import off_loop
from langchain_tryage.signatures import inspected
from langchain_tryage.tools import Needs, NeutralTool, common_profile, unable
from tryage import Decision, Goals, Policy, Router, TryageError
from tryage.binding import LAST_MESSAGE, Binding, Bound, FlagsFrom, check_arguments, options_of
from tryage.dispatch import Breaker, Errors, record


class _Planned(NamedTuple):
    """An input of a batch that is decided on: messages for the expert, and the decision."""

    messages: list[BaseMessage]
    decision: Decision


_STANDARD = ("api_key", "max_retries", "max_tokens", "stop", "streaming", "temperature")
"""Arguments that every chat model takes; here they are the experts' own business."""


class ChatTryage(BaseChatModel):
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

    router: Any
    experts: Any = None
    aliases: Any = None
    policy: Any = None
    goals: Any = None
    task: str | None = None
    flags_from: Any = None
    text_from: Any = LAST_MESSAGE
    sticky: bool | float = False
    max_attempts: int | None = None
    errors: Any = (Exception,)
    timeout: float | None = None
    total_timeout: float | None = None
    breaker: Any = None

    _bound: Bound[ChatExpert] | None = PrivateAttr(default=None)

    def __init__(
        self,
        router: Router | str | Path,
        experts: Mapping[str, Any] | None = None,
        *,
        aliases: Mapping[str, str] | None = None,
        policy: Policy | None = None,
        goals: Goals | None = None,
        task: str | None = None,
        max_attempts: int | None = None,
        errors: Errors = (Exception,),
        timeout: float | None = None,
        total_timeout: float | None = None,
        breaker: bool | Breaker | None = None,
        flags_from: FlagsFrom = None,
        text_from: TextFrom = LAST_MESSAGE,
        sticky: bool | float = False,
        **kwargs: Any,
    ) -> None:
        check_arguments("ChatTryage", kwargs, [*type(self).model_fields, *_STANDARD])
        if isinstance(flags_from, str) and flags_from != "last_message":
            raise ValueError(f"flags_from is {flags_from!r}; messages have no such key")
        fields: dict[str, Any] = {
            "router": router,
            "experts": experts,
            "aliases": aliases,
            "policy": policy,
            "goals": goals,
            "task": task,
            "max_attempts": max_attempts,
            "errors": errors,
            "timeout": timeout,
            "total_timeout": total_timeout,
            "breaker": breaker,
            "flags_from": flags_from,
            "text_from": text_from,
            "sticky": sticky,
        }
        super().__init__(**fields, **({"cache": False} | kwargs))
        # What cannot work is told here, not at the first call.
        _ = self._source, self._binding
        given = (experts or {}).values()
        if isinstance(router, Router) and not any(isinstance(model, str) for model in given):
            self._set_profile()

    @property
    def _binding(self) -> Binding[ChatExpert]:
        """The binding of the fields as they are now."""
        self._bound = Bound.of(self, self._bound, self._bind)
        return self._bound.binding

    def _bind(self) -> Binding[ChatExpert]:
        given = self.experts
        return Binding(
            self.router,
            given and {name: ChatExpert(name, model) for name, model in given.items()},
            factory=_pipeline,
            **options_of(self),
        )

    @property
    def _source(self) -> TextSource:
        return TextSource(flags_from=self.flags_from, text_from=self.text_from)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Name router and experts; what the experts hold is not for logs."""
        yield "router", self.router
        yield "experts", list(self.experts) if self.experts else None

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

    @property
    def _identifying_params(self) -> dict[str, Any]:
        experts = None if self.experts is None else list(self.experts)
        return {"router": self._label, "experts": experts}

    @property
    def _label(self) -> str:
        router = self.router
        return router.library.name if isinstance(router, Router) else str(router)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The goals of a call."""
        return [GOALS_SPEC]

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
        decision = kwargs.pop("tryage", None)
        if not isinstance(decision, Decision):
            params = super()._get_ls_params(stop=stop, **kwargs)
            params.setdefault("ls_model_name", self._label)
            return params
        expert = self._binding.experts[decision.expert]
        params = expert.model._get_ls_params(stop=stop, **{**expert.kwargs, **kwargs})
        params.setdefault("ls_model_name", decision.expert)
        return params

    def _get_invocation_params(
        self, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        # The decision goes to tracers as metadata; the object itself holds the prompt.
        kwargs.pop("tryage", None)
        return super()._get_invocation_params(stop=stop, **kwargs)

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Return a cache key that tells routers, experts and decisions apart."""
        decision: Decision | None = kwargs.pop("tryage", None)
        experts = [
            (name, expert.kwargs, expert.model._get_llm_string(stop=stop, **kwargs))
            for name, expert in self._binding.experts.items()
        ]
        data = self._binding.router.facts.get("data_sha256")
        decided = decision and (decision.order, decision.weights, decision.limits, decision.flags)
        return repr((self._label, data, decided, experts))

    def _generate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        # `generate` comes here without a decision, which is part of the cache key.
        messages, decision = self._take(messages, kwargs)
        return super()._generate_with_cache(messages, stop, run_manager, tryage=decision, **kwargs)

    async def _agenerate_with_cache(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if not isinstance(kwargs.get("tryage"), Decision):
            messages, kwargs["tryage"] = await off_loop(self._take, messages, kwargs)
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
        messages, decision = self._plan(input, kwargs, config)
        config = told(config, decision)
        return super().invoke(messages, config, stop=stop, tryage=decision, **kwargs)

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer with the chosen expert; ``model="name"`` forces one."""
        messages, decision = await off_loop(self._plan, input, kwargs, config)
        config = told(config, decision)
        return await super().ainvoke(messages, config, stop=stop, tryage=decision, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        messages, decision = self._plan(input, kwargs, config)
        config = told(config, decision)
        yield from super().stream(messages, config, stop=stop, tryage=decision, **kwargs)

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        messages, decision = await off_loop(self._plan, input, kwargs, config)
        config = told(config, decision)
        chunks: Any = super().astream(messages, config, stop=stop, tryage=decision, **kwargs)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

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
    ) -> Sequence[LanguageModelInput | _Planned]:
        """Decide in one pass where all inputs ask for the same; else each decides for itself."""
        if not inputs or isinstance(config, list) or isinstance(kwargs.get("tryage"), Decision):
            return inputs
        try:
            batch = [self._convert_input(given).to_messages() for given in inputs]
            read = [self._source.read(messages) for messages in batch]
            needs = [Needs.of(messages, kwargs) for messages in batch]
            if len({*zip((own for _, own in read), needs, strict=True)}) > 1:
                return inputs
            decisions = self._binding.decide_batch(
                [text for text, _ in read],
                flags=read[0][1],
                only=kwargs.get("model"),
                goals=asked_goals(kwargs.get("tryage"), config),
                without=unable(needs[0], self._binding),
            )
        except (TryageError, ValueError):
            return inputs  # each input raises its own error in its own run
        told = zip(batch, decisions, strict=True)
        return [_Planned(*self._settled(*plan, only=kwargs.get("model"))) for plan in told]

    def _plan(
        self, given: Any, kwargs: dict[str, Any], config: RunnableConfig | None
    ) -> tuple[list[BaseMessage], Decision]:
        if isinstance(given, _Planned):
            kwargs.pop("tryage", None)
            kwargs.pop("model", None)
            return given.messages, given.decision
        return self._take(self._convert_input(given).to_messages(), kwargs, config)

    def _take(
        self,
        messages: list[BaseMessage],
        kwargs: dict[str, Any],
        config: RunnableConfig | None = None,
    ) -> tuple[list[BaseMessage], Decision]:
        """Return the messages for the expert and the decision, made here if it is not given.

        The arguments that are not the expert's, `tryage` and `model`, leave `kwargs`.
        """
        given = kwargs.pop("tryage", None)
        only = kwargs.pop("model", None)
        if isinstance(given, Decision):
            return messages, given
        text, own = self._source.read(messages)
        decision = self._binding.decide(
            text,
            flags=own,
            only=only,
            goals=asked_goals(given, config),
            without=unable(Needs.of(messages, kwargs), self._binding),
        )
        return self._settled(messages, decision, only=only)

    async def _ataken(
        self, messages: list[BaseMessage], kwargs: dict[str, Any]
    ) -> tuple[list[BaseMessage], Decision]:
        if isinstance(kwargs.get("tryage"), Decision):
            return self._take(messages, kwargs)
        return await off_loop(self._take, messages, kwargs)

    def _settled(
        self, messages: list[BaseMessage], decision: Decision, *, only: str | None
    ) -> tuple[list[BaseMessage], Decision]:
        """Take the flags off the messages, and stay with an expert where that is wanted."""
        messages = list(self._source.strip(messages, decision))
        if only is None and self.sticky is not False:
            decision = keep(decision, last_answerer(messages), self.sticky)
        return messages, decision

    @inspected
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        messages, decision = self._take(messages, kwargs)

        def call(_name: str, expert: ChatExpert) -> ChatResult:
            return expert.generate(messages, stop, kwargs)

        return annotated_result(*self._binding.dispatch(decision, call))

    @inspected
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        messages, decision = await self._ataken(messages, kwargs)

        async def call(_name: str, expert: ChatExpert) -> ChatResult:
            return await expert.agenerate(messages, stop, kwargs)

        return annotated_result(*await self._binding.adispatch(decision, call))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        messages, decision = self._take(messages, kwargs)

        def call(_name: str, expert: ChatExpert) -> Iterator[ChatGenerationChunk]:
            return expert.stream(messages, stop, kwargs)

        with closing(self._binding.stream(decision, call)) as stream:
            told = False
            for chunk in stream:
                yield chunk if told else annotated_chunk(chunk, record(decision, stream))
                told = True

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        messages, decision = await self._ataken(messages, kwargs)

        def call(_name: str, expert: ChatExpert) -> AsyncIterator[ChatGenerationChunk]:
            return expert.astream(messages, stop, kwargs)

        async with aclosing(self._binding.astream(decision, call)) as stream:
            told = False
            async for chunk in stream:
                yield chunk if told else annotated_chunk(chunk, record(decision, stream))
                told = True


def _pipeline(runtime: Any, expert: Any) -> ChatExpert:
    from langchain_tryage.pipelines import ChatTryagePipeline

    return ChatExpert(expert.name, ChatTryagePipeline(runtime=runtime, expert=expert.name))
