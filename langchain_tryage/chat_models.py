"""`ChatTryage`: a chat model that answers with the expert a router chooses, in one run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, run_in_executor
from pydantic import PrivateAttr

from langchain_tryage.delegation import ChatExpert
from langchain_tryage.messages import TextSource, annotate
from tryage import Decision, Goals, Policy, Router
from tryage.binding import TOP, Binding, Bound, FlagsFrom, check_arguments
from tryage.dispatch import DispatchedDecision, Errors, record

_STANDARD = ("api_key", "max_retries", "max_tokens", "stop", "streaming", "temperature", "timeout")
"""Arguments that every chat model takes; here they are the experts' own business."""


class ChatTryage(BaseChatModel):
    """Answers with the expert that a router chooses, and with the next one if it fails.

    To callbacks this is one run of one chat model: tokens count once and stream once. The message
    carries the decision in ``response_metadata["tryage"]``, the run the tag ``expert:<name>``.
    ``invoke(..., model="name")`` forces an expert.

    Attributes:
        router: a router, a router folder or the name of a bundled router.
        experts: expert name → chat model, or a chat model with bound arguments; None runs the
            library's own Hugging Face pipelines.
        aliases: name in `experts` → name in the router's library.
        policy: replaces the router's policy.
        goals: weights and limits of every call.
        task: a Transformers task, or None to see it from the text.
        flags_from: where the user's own text stands, whose flags act and are taken off:
            ``"last_message"`` or a function of the messages. None leaves flags alone.
        max_attempts: how many experts to try at most; None tries every eligible one.
        errors: exceptions on which the next expert is tried; others are raised at once.
        cache: off; the experts' own caches work.
    """

    router: Any
    experts: Any = None
    aliases: Any = None
    policy: Any = None
    goals: Any = None
    task: str | None = None
    flags_from: Any = None
    max_attempts: int | None = None
    errors: Any = (Exception,)

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
        flags_from: FlagsFrom = None,
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
            "flags_from": flags_from,
        }
        super().__init__(**fields, **({"cache": False} | kwargs))
        _ = self._binding  # what cannot work is told here, not at the first call

    @property
    def _binding(self) -> Binding[ChatExpert]:
        """The binding of the fields as they are now."""
        self._bound = Bound.of(self, self._bound, self._bind)
        return self._bound.binding

    def _bind(self) -> Binding[ChatExpert]:
        given = self.experts
        return Binding(
            self.router,
            given and {name: ChatExpert.of(name, model) for name, model in given.items()},
            aliases=self.aliases,
            policy=self.policy,
            factory=_pipeline,
            goals=self.goals,
            task=self.task,
            max_attempts=self.max_attempts,
            errors=self.errors,
        )

    @property
    def _source(self) -> TextSource:
        return TextSource(flags_from=self.flags_from)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Name router and experts; what the experts hold is not for logs."""
        yield "router", self.router
        yield "experts", list(self.experts) if self.experts else None

    def load(self) -> Router:
        """Load the router now instead of at first use."""
        return self._binding.load()

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

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """Tell tracers the model that was chosen; before a decision, the router's name."""
        decision = kwargs.pop("tryage", None)
        if decision is None:
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
        messages, decision = await run_in_executor(None, self._take, messages, kwargs)
        return await super()._agenerate_with_cache(
            messages, stop, run_manager, tryage=decision, **kwargs
        )

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
        messages = self._convert_input(input).to_messages()
        messages, decision = self._take(messages, kwargs)
        config = _told(config, decision)
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
        messages = self._convert_input(input).to_messages()
        messages, decision = await run_in_executor(None, self._take, messages, kwargs)
        config = _told(config, decision)
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
        messages = self._convert_input(input).to_messages()
        messages, decision = self._take(messages, kwargs)
        config = _told(config, decision)
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
        messages = self._convert_input(input).to_messages()
        messages, decision = await run_in_executor(None, self._take, messages, kwargs)
        config = _told(config, decision)
        chunks = super().astream(messages, config, stop=stop, tryage=decision, **kwargs)
        async for chunk in chunks:
            yield chunk

    def _take(
        self, messages: list[BaseMessage], kwargs: dict[str, Any]
    ) -> tuple[list[BaseMessage], Decision]:
        """Return the messages for the expert and the decision, made here if it is not given.

        The arguments that are not the expert's, `tryage` and `model`, leave `kwargs`.
        """
        decision = kwargs.pop("tryage", None)
        only = kwargs.pop("model", None)
        if decision is not None:
            return messages, decision
        text, own = self._source.read(messages)
        decision = self._binding.decide(text, flags=own, only=only)
        return self._source.strip(messages, decision), decision

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

        return _annotated(*self._binding.dispatch(decision, call))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        messages, decision = await run_in_executor(None, self._take, messages, kwargs)

        async def call(_name: str, expert: ChatExpert) -> ChatResult:
            return await expert.agenerate(messages, stop, kwargs)

        return _annotated(*await self._binding.adispatch(decision, call))

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
                yield chunk if told else _annotated_chunk(chunk, record(decision, stream))
                told = True

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        messages, decision = await run_in_executor(None, self._take, messages, kwargs)

        def call(_name: str, expert: ChatExpert) -> AsyncIterator[ChatGenerationChunk]:
            return expert.astream(messages, stop, kwargs)

        async with aclosing(self._binding.astream(decision, call)) as stream:
            told = False
            async for chunk in stream:
                yield chunk if told else _annotated_chunk(chunk, record(decision, stream))
                told = True


def _told(config: RunnableConfig | None, decision: Decision) -> RunnableConfig:
    """Return the config of the run that is about to open, which names the chosen expert."""
    config = ensure_config(config)
    tag = f"expert:{decision.expert}"
    tags = config.get("tags") or []
    config["tags"] = tags if tag in tags else [*tags, tag]
    config["metadata"] = {**(config.get("metadata") or {}), "tryage": decision.to_dict(top=TOP)}
    return config


def _annotated(result: ChatResult, decision: DispatchedDecision) -> ChatResult:
    generations = [
        generation.model_copy(update={"message": annotate(generation.message, decision)})
        for generation in result.generations
    ]
    return ChatResult(generations=generations, llm_output=result.llm_output)


def _annotated_chunk(
    chunk: ChatGenerationChunk, decision: DispatchedDecision
) -> ChatGenerationChunk:
    return chunk.model_copy(update={"message": annotate(chunk.message, decision)})


def _pipeline(runtime: Any, expert: Any) -> ChatExpert:
    from langchain_tryage.pipelines import ChatTryagePipeline

    return ChatExpert(ChatTryagePipeline(runtime=runtime, expert=expert.name), {})
