"""`TryageLLM`: an LLM that answers with the expert a router chooses."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from llama_index.core.llms import LLM

from llama_index_tryage.children import Children
from llama_index_tryage.messages import Given, TextSource, annotate
from tryage import Decision, Goals, Policy, Router
from tryage.binding import TOP, Binding, Bound, FlagsFrom, check_arguments
from tryage.dispatch import AsyncStream, DispatchedDecision, Errors, Stream, record

R = TypeVar("R", ChatResponse, CompletionResponse)


class TryageLLM(LLM):
    """Answers with the expert that a router chooses, and with the next one if it fails.

    Every response, streamed ones too, carries the decision in ``additional_kwargs["tryage"]`` and
    the expert's own ``raw``. Callbacks and events are the expert's: the router adds none.

    Attributes:
        router: a router, a router folder or the name of a bundled router.
        experts: expert name → LLM; None runs the library's own Hugging Face pipelines.
        aliases: name in `experts` → name in the router's library.
        policy: replaces the router's policy.
        goals: weights and limits of every call.
        task: a Transformers task, or None to see it from the text.
        flags_from: where the user's own text stands, whose flags act and are taken off:
            ``"last_message"`` or a function of the prompt or the messages. None leaves flags
            alone.
        max_attempts: how many experts to try at most; None tries every eligible one.
        errors: exceptions on which the next expert is tried; others are raised at once.
        context_window: tokens that prompts are packed for; None takes the smallest window of the
            experts that may generate, since prompts are packed before they are routed.
    """

    router: Any = Field(exclude=True)
    experts: Any = Field(default=None, exclude=True)
    aliases: Any = Field(default=None, exclude=True)
    policy: Any = Field(default=None, exclude=True)
    goals: Any = Field(default=None, exclude=True)
    task: str | None = None
    flags_from: Any = Field(default=None, exclude=True)
    max_attempts: int | None = None
    errors: Any = Field(default=(Exception,), exclude=True)
    context_window: int | None = None

    _bound: Bound[LLM] | None = PrivateAttr(default=None)
    _children: Children = PrivateAttr(default_factory=Children)

    def __init__(
        self,
        router: Router | str | Path,
        experts: Mapping[str, LLM] | None = None,
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
        check_arguments("TryageLLM", kwargs, type(self).model_fields)
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
        super().__init__(**fields, **kwargs)
        # What cannot work is told here, not at the first call.
        _ = self._source, self._binding

    def __getstate__(self) -> dict[Any, Any]:
        """Return everything: LlamaIndex's own drops what cannot be pickled, off this object too."""
        return BaseModel.__getstate__(self)

    @property
    def _binding(self) -> Binding[LLM]:
        """The binding of the fields as they are now."""
        self._bound = Bound.of(self, self._bound, self._bind)
        return self._bound.binding

    def _bind(self) -> Binding[LLM]:
        for name, expert in (self.experts or {}).items():
            if not isinstance(expert, LLM):
                raise TypeError(f"expert {name!r} is a {type(expert).__name__}; it must be an LLM")
        return Binding(
            self.router,
            self.experts,
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
        return TextSource(self.flags_from)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Name router and experts; what the experts hold is not for logs."""
        yield "router", self.router
        yield "experts", list(self.experts) if self.experts else None

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex knows this class."""
        return "TryageLLM"

    def load(self) -> Router:
        """Load the router now instead of at first use."""
        return self._binding.load()

    @property
    def metadata(self) -> LLMMetadata:
        """What holds for whichever expert is chosen.

        That is the smallest window, and of it as much for the answer as leaves the prompt no more
        room than any of the experts has.
        """
        found = [expert.metadata for expert in self._generative()]
        window = self.context_window or min(data.context_window for data in found)
        outputs = [data.num_output - max(0, data.context_window - window) for data in found]
        return LLMMetadata(
            context_window=window,
            num_output=max(1, *outputs),
            is_chat_model=any(data.is_chat_model for data in found),
            model_name=f"tryage:{self._binding.router.library.name}",
        )

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages with the chosen expert; `kwargs` reach it."""
        messages, decision = self._decide(messages)

        def call(name: str, expert: LLM) -> ChatResponse:
            return self._child(name, expert).chat(messages, **kwargs)

        return _told(*self._binding.dispatch(decision, call))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a prompt with the chosen expert; `kwargs` reach it."""
        prompt, decision = self._decide(prompt)

        def call(name: str, expert: LLM) -> CompletionResponse:
            return self._child(name, expert).complete(prompt, formatted=formatted, **kwargs)

        return _told(*self._binding.dispatch(decision, call))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        messages, decision = self._decide(messages)

        def call(name: str, expert: LLM) -> Iterator[ChatResponse]:
            return self._child(name, expert).stream_chat(messages, **kwargs)

        return _stream(decision, self._binding.stream(decision, call))

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        prompt, decision = self._decide(prompt)

        def call(name: str, expert: LLM) -> Iterator[CompletionResponse]:
            child = self._child(name, expert)
            return child.stream_complete(prompt, formatted=formatted, **kwargs)

        return _stream(decision, self._binding.stream(decision, call))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages with the chosen expert; `kwargs` reach it."""
        messages, decision = await asyncio.to_thread(self._decide, messages)

        async def call(name: str, expert: LLM) -> ChatResponse:
            return await self._child(name, expert).achat(messages, **kwargs)

        return _told(*await self._binding.adispatch(decision, call))

    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Complete a prompt with the chosen expert; `kwargs` reach it."""
        prompt, decision = await asyncio.to_thread(self._decide, prompt)

        async def call(name: str, expert: LLM) -> CompletionResponse:
            return await self._child(name, expert).acomplete(prompt, formatted=formatted, **kwargs)

        return _told(*await self._binding.adispatch(decision, call))

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        messages, decision = await asyncio.to_thread(self._decide, messages)

        async def call(name: str, expert: LLM) -> AsyncIterator[ChatResponse]:
            return await self._child(name, expert).astream_chat(messages, **kwargs)

        return await _astream(decision, self._binding.astream(decision, call))

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Stream from the chosen expert; another takes over only before the first chunk."""
        prompt, decision = await asyncio.to_thread(self._decide, prompt)

        async def call(name: str, expert: LLM) -> AsyncIterator[CompletionResponse]:
            child = self._child(name, expert)
            return await child.astream_complete(prompt, formatted=formatted, **kwargs)

        return await _astream(decision, self._binding.astream(decision, call))

    def _decide(self, given: Given) -> tuple[Any, Decision]:
        text, own = self._source.read(given)
        decision = self._binding.decide(text, flags=own)
        return self._source.strip(given, decision), decision

    def _child(self, name: str, expert: LLM) -> LLM:
        return self._children.get(name, expert, self.callback_manager)

    def _generative(self) -> list[LLM]:
        """Return the experts that a generated answer may come from, as far as limits tell now."""
        experts, router = self._binding.experts, self._binding.router
        reasons = router.objective.eligibility("text-generation", router.policy.limits).reasons
        found = [expert for name, expert in experts.items() if name not in reasons]
        return found or list(experts.values())


def _told(response: R, decision: DispatchedDecision) -> R:
    return annotate(response, decision.to_dict(top=TOP))


def _stream(decision: Decision, stream: Stream[R]) -> Generator[R, None, None]:
    """Wait for the first chunk, so that failures show in the call, and return them all."""
    first = next(stream)
    told = record(decision, stream).to_dict(top=TOP)

    def chunks() -> Generator[R, None, None]:
        with closing(stream):
            yield annotate(first, told)
            for response in stream:
                yield annotate(response, told)

    return chunks()


async def _astream(decision: Decision, stream: AsyncStream[R]) -> AsyncGenerator[R, None]:
    """Wait for the first chunk, so that failures show in the call, and return them all."""
    first = await anext(stream)
    told = record(decision, stream).to_dict(top=TOP)

    async def chunks() -> AsyncGenerator[R, None]:
        async with aclosing(stream):
            yield annotate(first, told)
            async for response in stream:
                yield annotate(response, told)

    return chunks()


def _pipeline(runtime: Any, expert: Any) -> LLM:
    from llama_index_tryage.pipelines import TryagePipeline

    return TryagePipeline(runtime=runtime, expert=expert.name)
