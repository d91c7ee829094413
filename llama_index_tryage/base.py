"""What every LLM of Tryage shares: router, experts, metadata, and how a call is decided."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from llama_index.core.base.llms.types import (
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from llama_index.core.constants import DEFAULT_NUM_OUTPUTS
from llama_index.core.llms import LLM

from llama_index_tryage.children import Children
from llama_index_tryage.events import announce
from llama_index_tryage.messages import Given, TextSource, modalities_of
from tryage import Decision, Router
from tryage.binding import Binding, Bound, each_expert, options_of, wrong_expert
from tryage.dispatch import present
from tryage.experts import TEXT_GENERATION

R = TypeVar("R")


class RoutedLLM(LLM):
    """An LLM bound to a router; its fields are those of `TryageLLM`."""

    router: Any = Field(exclude=True)
    experts: Any = Field(default=None, exclude=True)
    aliases: Any = Field(default=None, exclude=True)
    policy: Any = Field(default=None, exclude=True)
    goals: Any = Field(default=None, exclude=True)
    task: str | None = None
    flags_from: Any = Field(default=None, exclude=True)
    max_attempts: int | None = None
    errors: Any = Field(default=(Exception,), exclude=True)
    timeout: float | None = None
    total_timeout: float | None = None
    breaker: Any = Field(default=None, exclude=True)
    context_window: int | None = None

    _bound: Bound[LLM] | None = PrivateAttr(default=None)
    _children: Children = PrivateAttr(default_factory=Children)

    def __getstate__(self) -> dict[Any, Any]:
        """Return everything: LlamaIndex's own drops what cannot be pickled, off this object too."""
        return BaseModel.__getstate__(self)

    @property
    def _binding(self) -> Binding[LLM]:
        """The binding of the fields as they are now."""
        kept = self._bound
        bound = Bound.of(self, kept, self._bind)
        if bound is not kept:
            self._bound = bound
        return bound.binding

    def _bind(self) -> Binding[LLM]:
        return Binding(
            self.router,
            each_expert(self.experts, _llm),
            factory=_pipeline,
            **options_of(self),
        )

    @property
    def _source(self) -> TextSource:
        return TextSource(self.flags_from)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Name router and experts; what the experts hold is not for logs."""
        yield "router", self.router
        yield "experts", list(self.experts) if self.experts else None

    def load(self) -> Router:
        """Load the router now instead of at first use."""
        return self._binding.load()

    @property
    def metadata(self) -> LLMMetadata:
        """What holds for whichever expert is chosen.

        That is the smallest window, and of it as much for the answer as leaves the prompt no more
        room than any of the experts has. System prompts take the role that all of them want, else
        the user's, which every model takes.
        """
        found = [expert.metadata for expert in self._generative().values()]
        window = self.context_window or min(data.context_window for data in found)
        outputs = [_output(data) - max(0, data.context_window - window) for data in found]
        roles = {data.system_role for data in found}
        return LLMMetadata(
            context_window=window,
            num_output=max(1, *outputs),
            is_chat_model=any(data.is_chat_model for data in found),
            model_name=f"tryage:{self._binding.router.library.name}",
            system_role=roles.pop() if len(roles) == 1 else MessageRole.USER,
        )

    def _generative(self) -> dict[str, LLM]:
        """Return the experts that an answer may come from, as far as fixed limits tell."""
        experts, router = self._binding.experts, self._binding.router
        limits = router.policy.combine(self.goals, None).limits
        reasons = router.objective.eligibility(self.task or TEXT_GENERATION, limits).reasons
        found = {name: expert for name, expert in experts.items() if name not in reasons}
        return found or dict(experts)

    def _routed(self, given: Given, kwargs: Mapping[str, Any]) -> tuple[Any, Decision]:
        """Decide for a call; return what goes to the expert, and the decision."""
        given, decision = self._decide(given, kwargs)
        announce(decision)
        if self.rate_limiter is not None:
            self.rate_limiter.acquire()
        return given, decision

    async def _arouted(self, given: Given, kwargs: Mapping[str, Any]) -> tuple[Any, Decision]:
        if self._binding.is_quick:
            given, decision = self._decide(given, kwargs)
        else:
            given, decision = await asyncio.to_thread(self._decide, given, kwargs)
        announce(decision)
        if self.rate_limiter is not None:
            await self.rate_limiter.async_acquire()
        return given, decision

    def _decide(self, given: Given, kwargs: Mapping[str, Any]) -> tuple[Any, Decision]:
        text, own = self._source.read(given)
        decision = self._binding.decide(text, flags=own, without=self._unfit(given, kwargs))
        return self._source.strip(given, decision), decision

    def _unfit(self, given: Given, kwargs: Mapping[str, Any]) -> dict[str, str]:
        """Return which experts cannot take this call, and why.

        An expert that does not state its modalities is left in: it gets the messages as they are.
        """
        needed = modalities_of(given)
        if not needed:
            return {}
        library = self._binding.router.library
        reasons = {}
        for name, expert in self._binding.experts.items():
            stated = library[name].modalities or getattr(expert, "modalities", None) or ()
            lacking = [kind for kind in needed if stated and kind not in stated]
            if lacking:
                takes, held = ", ".join(stated), ", ".join(lacking)
                reasons[name] = f"it takes {takes}; the messages hold {held}"
        return reasons

    def _way(
        self, method: str, kwargs: Mapping[str, Any]
    ) -> Callable[[str, LLM], Callable[[Any], Any]]:
        """Return how an expert is called: its name and itself → a function of what it is given."""
        return lambda name, expert: partial(getattr(self._child(name, expert), method), **kwargs)

    def _child(self, name: str, expert: LLM) -> LLM:
        return self._children.get(name, expert, self.callback_manager)


async def apresent(name: str, response: Awaitable[R | None]) -> R:
    """Do what `present` does, with a response that is awaited."""
    return present(name, await response)


def _llm(name: str, expert: Any) -> LLM:
    if not isinstance(expert, LLM):
        raise wrong_expert(name, expert, "it must be an LLM")
    return expert


def _output(data: LLMMetadata) -> int:
    """Return the tokens kept for an answer; a negative number says that nobody set it."""
    return data.num_output if data.num_output >= 0 else DEFAULT_NUM_OUTPUTS


def _pipeline(runtime: Any, expert: Any) -> LLM:
    from llama_index_tryage.pipelines import TryagePipeline

    return TryagePipeline(runtime=runtime, expert=expert.name)
