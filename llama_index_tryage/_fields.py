"""What every LLM of Tryage shares: router, experts, metadata, and how a call is decided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, TypeVar

from llama_index.core.base.llms.types import (
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import BaseModel, PrivateAttr, field_serializer
from llama_index.core.constants import DEFAULT_NUM_OUTPUTS
from llama_index.core.llms import LLM

from llama_index_tryage._caller import is_composed, warn_composed
from llama_index_tryage._conversations import Answerers
from llama_index_tryage._experts import Children
from llama_index_tryage._identity import identity
from llama_index_tryage._inputs import CallInput, TextSource
from llama_index_tryage._modalities import modalities_of
from llama_index_tryage._rate_limits import TurnLimiter
from llama_index_tryage._sent import sent_tokens
from llama_index_tryage._views import VIEWS
from llama_index_tryage.events import announce
from tryage import Decision
from tryage.binding import (
    LAST_MESSAGE,
    Binding,
    DispatchingModel,
    Views,
    each_expert,
    off_loop,
    stay,
    tells_logprobs,
    with_limiter,
    wrong_expert,
)
from tryage.dispatch import describe_error, present
from tryage.eligibility import overflow
from tryage.errors import ExpertError
from tryage.experts import TEXT_GENERATION
from tryage.tokens import count_tokens

R = TypeVar("R")


class _Call(NamedTuple):
    """What a decision must know of its call, besides what is sent.

    Attributes:
        composed: whether LlamaIndex wrote what is sent.
        by_template: whether experts fill a template, with system prompts of their own.
    """

    composed: bool
    by_template: bool


_PLAIN = _Call(composed=False, by_template=False)
_CALL: ContextVar[_Call] = ContextVar("tryage_call", default=_PLAIN)
"""The call that a decision is being made for."""


class RoutedLLM(DispatchingModel, LLM):
    """An LLM bound to a router."""

    context_window: int | None = None
    text_from: Any = None
    sticky: Any = False

    _answerers: Answerers = PrivateAttr(default_factory=Answerers)
    _children: Children = PrivateAttr(default_factory=Children)

    @field_serializer(
        "router",
        "experts",
        "aliases",
        "policy",
        "goals",
        "flags_from",
        "text_from",
        "errors",
        "breaker",
        "check",
    )
    def _serialized(self, value: Any) -> Any:
        return identity(value)

    def __getstate__(self) -> dict[Any, Any]:
        """Return everything; LlamaIndex's own method drops what cannot be pickled."""
        return BaseModel.__getstate__(self)

    @property
    def _views(self) -> Views:
        return VIEWS

    def _bind(self) -> Binding[LLM]:
        return self._bind_experts(each_expert(self.experts, _llm), _pipeline)

    @property
    def _source(self) -> TextSource:
        return TextSource(self.flags_from, self.text_from)

    @property
    def metadata(self) -> LLMMetadata:
        """Metadata that is valid for every expert.

        The context window is the smallest, and the output is large enough that the prompt fits
        every expert. System prompts have the role that all experts want, else the user's, which
        every model accepts. An expert without metadata, such as one whose server is down, is left
        out: if called, it would fail, and the next one would answer.

        Raises:
            ExpertError: no expert has metadata.
        """
        stated = {name: metadata_or_reason(expert) for name, expert in self._generative().items()}
        known_metadata = [data for data in stated.values() if isinstance(data, LLMMetadata)]
        if not known_metadata:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in stated.items())
            raise ExpertError(f"no expert states its metadata: {reasons}")
        window = self.context_window or min(data.context_window for data in known_metadata)
        outputs = [_output(data) - max(0, data.context_window - window) for data in known_metadata]
        roles = {data.system_role for data in known_metadata}
        return LLMMetadata(
            context_window=window,
            num_output=max(1, *outputs),
            is_chat_model=any(data.is_chat_model for data in known_metadata),
            model_name=f"tryage:{self._binding.router.library.name}",
            system_role=roles.pop() if len(roles) == 1 else MessageRole.USER,
        )

    def _generative(self) -> dict[str, LLM]:
        """Return the experts that fixed limits allow to answer."""
        experts, router = self._binding.experts, self._binding.router
        limits = router.policy.combine(self.goals, None).limits
        reasons = router.objective.eligibility(self.task or TEXT_GENERATION, limits).reasons
        eligible = {name: expert for name, expert in experts.items() if name not in reasons}
        return eligible or dict(experts)

    def _routed(
        self, call_input: CallInput, kwargs: Mapping[str, Any], *, by_template: bool = False
    ) -> tuple[Any, Decision]:
        """Decide for a call; return the expert's input, and the decision.

        Args:
            call_input: the prompt or the messages.
            kwargs: of the call.
            by_template: whether a template made them.
        """
        token = _CALL.set(_Call(self._is_composed(by_template), by_template))
        try:
            call_input, decision = self._decide(call_input, kwargs)
        finally:
            _CALL.reset(token)
        announce(decision)
        if self.rate_limiter is not None:
            self.rate_limiter.acquire()
        return call_input, decision

    async def _arouted(
        self, call_input: CallInput, kwargs: Mapping[str, Any], *, by_template: bool = False
    ) -> tuple[Any, Decision]:
        token = _CALL.set(_Call(self._is_composed(by_template), by_template))
        try:
            if self._binding.is_quick:
                call_input, decision = self._decide(call_input, kwargs)
            else:
                call_input, decision = await off_loop(self._decide, call_input, kwargs)
        finally:
            _CALL.reset(token)
        announce(decision)
        if self.rate_limiter is not None:
            await self.rate_limiter.async_acquire()
        return call_input, decision

    def _is_composed(self, by_template: bool) -> bool:
        """Return whether LlamaIndex wrote the input, if `flags_from` depends on it."""
        if self.flags_from != LAST_MESSAGE or not is_composed(by_template):
            return False
        warn_composed(type(self).__name__)
        return True

    def _decide(self, call_input: CallInput, kwargs: Mapping[str, Any]) -> tuple[Any, Decision]:
        composed, by_template = _CALL.get()
        text, is_own = self._source.read(call_input, composed=composed)
        tokens = sent_tokens(call_input, kwargs.get("tools"))
        unfit = self._unfit(call_input, kwargs)
        if by_template:
            unfit = {**self._too_short(tokens), **unfit}
        decision = self._binding.decide(text, flags=is_own, without=unfit, sent_tokens=tokens)
        if not isinstance(call_input, str):
            conversation = self._answerers.conversation(
                call_input, kwargs.get("tools"), self.sticky
            )
            decision = stay(decision, conversation, self.sticky, self._binding.router)
        return self._source.strip(call_input, decision, composed=composed), decision

    def _too_short(self, tokens: float) -> dict[str, str]:
        """Return whose context a call exceeds once their own system prompt comes on top, and why.

        Args:
            tokens: those that every expert is sent.
        """
        library, reasons = self._binding.router.library, {}
        for name, expert in self._binding.experts.items():
            if own := expert.system_prompt:
                reason = overflow(library, library.index(name), tokens + count_tokens(own))
                if reason is not None:
                    reasons[name] = reason
        return reasons

    def _unfit(self, call_input: CallInput, kwargs: Mapping[str, Any]) -> dict[str, str]:
        """Return which experts cannot take this call, and why.

        An expert that does not state its modalities stays in: it gets the messages unchanged.
        """
        needed = modalities_of(call_input, kwargs)
        if not needed:
            return {}
        library = self._binding.router.library
        reasons = {}
        for name, expert in self._binding.experts.items():
            stated = library[name].modalities or getattr(expert, "modalities", None) or ()
            lacking = [kind for kind in needed if stated and kind not in stated]
            if lacking:
                takes, missing = ", ".join(stated), ", ".join(lacking)
                reasons[name] = f"it takes {takes}; the messages hold {missing}"
        return reasons

    def _method_of(
        self, method: str, kwargs: Mapping[str, Any]
    ) -> Callable[[str, LLM], Callable[[Any], Any]]:
        """Return how an expert is called: its name and itself → a function of its input."""
        return lambda name, expert: partial(getattr(self._child(name, expert), method), **kwargs)

    def _child(self, name: str, expert: LLM) -> LLM:
        child = self._children.get(name, expert, self.callback_manager)
        return with_limiter(child, TurnLimiter)


async def apresent(name: str, response: Awaitable[R | None]) -> R:
    """Do what `present` does, with a response that is awaited."""
    return present(name, await response)


def _llm(name: str, expert: Any) -> LLM:
    if not isinstance(expert, LLM):
        raise wrong_expert(name, expert, "it must be an LLM")
    return expert


def metadata_or_reason(expert: LLM) -> LLMMetadata | str:
    """Return an expert's metadata, or why there is none: some ask a server."""
    try:
        return expert.metadata
    except Exception as error:  # noqa: BLE001 - vendors' classes raise anything
        return describe_error(error)


def _output(data: LLMMetadata) -> int:
    """Return the tokens reserved for an answer; a negative number means that it is not set."""
    return data.num_output if data.num_output >= 0 else DEFAULT_NUM_OUTPUTS


def _pipeline(runtime: Any, expert: Any) -> LLM:
    from llama_index_tryage.pipelines import TryagePipeline

    return TryagePipeline(runtime=runtime, expert=expert.name, logprobs=tells_logprobs(expert))
