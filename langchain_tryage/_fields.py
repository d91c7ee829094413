"""What the routing classes have in common: constructor fields, saved form, token counts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from langchain_core.language_models import BaseLanguageModel
from langchain_core.load.serializable import (
    Serializable,
    SerializedConstructor,
    SerializedNotImplemented,
    try_neq_default,
)
from langchain_core.messages import BaseMessage, get_buffer_string
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.configurable import RunnableConfigurableFields
from langchain_core.runnables.utils import ConfigurableFieldSpec

from langchain_tryage._inputs import TextSource
from langchain_tryage._plans import GOALS_SPEC, Planner
from tryage import Router
from tryage.binding import (
    LAST_MESSAGE,
    DecidingModel,
    DispatchingModel,
    check_arguments,
    check_flags_from,
    check_options,
    made_like,
)
from tryage.dispatch import describe_error
from tryage.errors import ExpertError

_MOST_NAMED = 100
"""Most experts whose names a call passes to tracers; there may be thousands in all."""


class Routed(DecidingModel):
    """A LangChain object that decides with a router."""

    text_from: Any = LAST_MESSAGE

    _expert_arguments: ClassVar[tuple[str, ...]] = ()
    """Arguments that other models take, and that here belong to each expert."""

    def __init__(
        self,
        router: Router | str | Path,
        experts: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        owner = type(self).__name__
        for argument in self._expert_arguments:
            if argument in options:
                raise TypeError(
                    f"{owner} takes no {argument!r}; give it to the experts, each its own"
                )
        check_arguments(owner, options, type(self).model_fields)
        check_options(options)
        fields: dict[str, Any] = {"router": router, "experts": experts, **options}
        super().__init__(**self._checked(fields))
        # Made now, so that an argument that cannot work is an error here, not at the first call.
        _ = self._source, self._binding

    @classmethod
    def _checked(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields as a class keeps them, after its own checks."""
        return fields

    def configurable_fields(self, **kwargs: Any) -> Any:
        """Let configs set fields for one call, as for any runnable, and share what is loaded."""
        inherited: Any = super()
        configurable = inherited.configurable_fields(**kwargs)
        return _Configurable(default=configurable.default, fields=configurable.fields)

    @property
    def _source(self) -> TextSource:
        return TextSource(getattr(self, "key", None), self.flags_from, self.text_from)

    @property
    def _planner(self) -> Planner:
        return Planner(self._binding, self._source)


class _Configurable(RunnableConfigurableFields):  # type: ignore[type-arg]
    """Makes a new object for a call that sets fields; all share what was loaded and learned."""

    @classmethod
    def lc_id(cls) -> list[str]:
        """Return the name under which LangChain saves its own class."""
        return [*cls.get_lc_namespace(), "RunnableConfigurableFields"]

    def _prepare(
        self, config: RunnableConfig | None = None
    ) -> tuple[Runnable[Any, Any], RunnableConfig]:
        default: Any = self.default
        with made_like(default):
            return super()._prepare(config)


class RoutedModel(Routed, DispatchingModel):
    """A language model that routes: its name for tracers, its settings, its token counts."""

    stop: list[str] | None = None
    temperature: float | None = None
    max_tokens: int | None = None

    _expert_arguments = ("api_key", "max_retries")
    _bound_fields = (*DispatchingModel._bound_fields, "stop", "temperature", "max_tokens")

    if TYPE_CHECKING:  # a field of LangChain's model classes
        custom_get_token_ids: Callable[[str], list[int]] | None

    @classmethod
    def _checked(cls, fields: dict[str, Any]) -> dict[str, Any]:
        check_flags_from(fields.get("flags_from"), "messages have")
        stop = fields.get("stop")
        return fields | {"stop": [stop]} if isinstance(stop, str) else fields

    @property
    def _label(self) -> str:
        router = self.router
        return router.library.name if isinstance(router, Router) else str(router)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        experts = None if self.experts is None else list(islice(self.experts, _MOST_NAMED))
        if self.experts is not None and experts is not None and len(self.experts) > len(experts):
            experts.append(f"and {len(self.experts) - len(experts):,} more")
        return {"router": self._label, "experts": experts, **self._settings}

    @property
    def _settings(self) -> dict[str, Any]:
        """Arguments of every call, unless an expert or a call has others."""
        settings = {name: getattr(self, name) for name in ("stop", "temperature", "max_tokens")}
        return {name: value for name, value in settings.items() if value is not None}

    def get_num_tokens(self, text: str) -> int:
        """Return the most tokens that any expert counts in a text; any of them may read it."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return self._largest_count(lambda model: model.get_num_tokens(text))

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Return the most tokens that any expert counts in messages."""
        if self.custom_get_token_ids is not None:
            texts = (get_buffer_string([message]) for message in messages)
            return sum(self.get_num_tokens(text) for text in texts)
        kwargs = {} if tools is None else {"tools": tools}
        return self._largest_count(
            lambda model: model.get_num_tokens_from_messages(messages, **kwargs)
        )

    def get_token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text, by `custom_get_token_ids`.

        Raises:
            NotImplementedError: it is not set, and each expert has a tokenizer of its own.
        """
        if self.custom_get_token_ids is None:
            raise NotImplementedError(
                "each expert has a tokenizer of its own; ask one of them, count with "
                "get_num_tokens, or give custom_get_token_ids="
            )
        return self.custom_get_token_ids(text)

    def _largest_count(self, count: Callable[[BaseLanguageModel[Any]], int]) -> int:
        counts, reasons = [], []
        for name, expert in self._binding.experts.items():
            try:
                counts.append(count(expert.model))
            except Exception as error:  # noqa: BLE001 - vendors' classes raise anything
                reasons.append(f"{name}: {describe_error(error)}")
        if not counts:
            details = "; ".join(reasons)
            raise ExpertError(f"no expert counts tokens; give custom_get_token_ids=. {details}")
        return max(counts)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The goals of a call."""
        return [GOALS_SPEC]


_PLAIN = (str, int, float, bool, type(None))
"""Types that are saved as they are."""


class Saved(Serializable):
    """Can be saved by `langchain_core.load.dumps`, with its router given by folder or name.

    Write a router in memory by `Router.save_pretrained` first. Experts are saved if LangChain can
    save them; functions, goals and policies are not. An object that cannot be saved is written as
    LangChain's note of that, which `load` refuses.
    """

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """True; whether one object can be saved depends on its fields."""
        return True

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Return LangChain's saved form, or its note that there is none."""
        saved = super().to_json()
        if saved["type"] != "constructor":
            return saved
        saved["kwargs"] = {
            name: _without_path(value)
            for name, value in saved["kwargs"].items()
            if try_neq_default(value, name, self)
        }
        if not all(_can_be_saved(value) for value in saved["kwargs"].values()):
            return self.to_json_not_implemented()
        return saved


def _without_path(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _can_be_saved(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_can_be_saved(part) for part in value.values())
    if isinstance(value, list | tuple):
        return all(_can_be_saved(part) for part in value)
    if isinstance(value, Serializable):
        return value.to_json()["type"] == "constructor"
    return isinstance(value, _PLAIN)


F = TypeVar("F", bound=Callable[..., Any])


def inspected(function: F) -> F:
    """Store a function's signature with it, since LangChain asks for it at every call.

    Working it out takes a third of a decision's time.
    """
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function
