"""What the routing classes have in common: their fields, and the binding made of these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage, get_buffer_string
from langchain_core.runnables.utils import ConfigurableFieldSpec
from pydantic import BaseModel, PrivateAttr

from langchain_tryage.asking import GOALS_SPEC
from langchain_tryage.messages import TextFrom, TextSource
from tryage import Goals, Policy, Router
from tryage.binding import (
    LAST_MESSAGE,
    Binding,
    Bound,
    FlagsFrom,
    check_arguments,
    check_flags_from,
)
from tryage.dispatch import Breaker, Errors


class Routed(BaseModel):
    """A LangChain object that sends its inputs to the experts of a router.

    Attributes: as `ChatTryage` describes them.
    """

    router: Any
    experts: Any = None
    aliases: Any = None
    policy: Any = None
    goals: Any = None
    task: str | None = None
    flags_from: Any = None
    text_from: Any = LAST_MESSAGE
    max_attempts: int | None = None
    errors: Any = (Exception,)
    timeout: float | None = None
    total_timeout: float | None = None
    breaker: Any = None

    _bound: Bound[Any] | None = PrivateAttr(default=None)
    _ignored: ClassVar[tuple[str, ...]] = ()
    """Arguments that are taken though they are not fields."""

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
        **kwargs: Any,
    ) -> None:
        known = [*type(self).model_fields, *self._ignored]
        check_arguments(type(self).__name__, kwargs, known)
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
        }
        super().__init__(**self._checked(fields | kwargs))
        # What cannot work is told here, not at the first call.
        _ = self._source, self._binding
        self._made()

    @classmethod
    def _checked(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields, after what a class has to say about them."""
        return fields

    def _made(self) -> None:
        """Do what a new object of a class has to do besides."""

    @property
    def _binding(self) -> Binding[Any]:
        """The binding of the fields as they are now."""
        kept = self._bound
        bound = Bound.of(self, kept, self._bind)
        if bound is not kept:
            self._bound = bound
        return bound.binding

    def _bind(self) -> Binding[Any]:
        """Return a binding of the fields."""
        raise NotImplementedError

    @property
    def _source(self) -> TextSource:
        return TextSource(flags_from=self.flags_from, text_from=self.text_from)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Name router and experts; what the experts hold is not for logs."""
        yield "router", self.router
        yield "experts", list(self.experts) if self.experts else None

    def load(self) -> Router:
        """Load the router now instead of at first use."""
        return self._binding.load()


class RoutedModel(Routed):
    """A language model among them: what it tells of itself, and how it counts tokens."""

    if TYPE_CHECKING:  # a field of LangChain's model classes
        custom_get_token_ids: Callable[[str], list[int]] | None

    @classmethod
    def _checked(cls, fields: dict[str, Any]) -> dict[str, Any]:
        check_flags_from(fields["flags_from"], "messages have")
        return fields

    @property
    def _label(self) -> str:
        router = self.router
        return router.library.name if isinstance(router, Router) else str(router)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        experts = None if self.experts is None else list(self.experts)
        return {"router": self._label, "experts": experts}

    def get_num_tokens(self, text: str) -> int:
        """Return the most tokens that any expert counts in a text: who reads it is not decided."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return max(model.get_num_tokens(text) for model in self._models)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Return the most tokens that any expert counts in messages."""
        if self.custom_get_token_ids is not None:
            texts = (get_buffer_string([message]) for message in messages)
            return sum(self.get_num_tokens(text) for text in texts)
        told = {} if tools is None else {"tools": tools}
        return max(model.get_num_tokens_from_messages(messages, **told) for model in self._models)

    def get_token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text, if the caller said how they are counted.

        Raises:
            NotImplementedError: nobody said it, and each expert has a tokenizer of its own.
        """
        if self.custom_get_token_ids is None:
            raise NotImplementedError(
                "each expert has a tokenizer of its own; ask one of them, count with "
                "get_num_tokens, or give custom_get_token_ids="
            )
        return self.custom_get_token_ids(text)

    @property
    def _models(self) -> list[BaseLanguageModel[Any]]:
        return [expert.model for expert in self._binding.experts.values()]

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The goals of a call."""
        return [GOALS_SPEC]
