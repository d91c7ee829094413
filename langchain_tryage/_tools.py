"""Tools bound before an expert is chosen, and what a call requires of an expert."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.language_models import BaseChatModel, BaseLanguageModel, BaseLLM
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableSequence, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tryage._modalities import KINDS, modalities
from langchain_tryage._structured import STRUCTURED, Structure
from tryage import Expert
from tryage.binding import Binding
from tryage.dispatch import describe_error

_LIBRARY_NAMES = {kind: {kind, "document"} if kind == "pdf" else {kind} for kind in KINDS}
"""Modality → the names that a library's entry may give it."""

NO_KWARGS: Mapping[str, Any] = {}
"""The arguments of a call without any."""

_SINGLE_MODEL_KEYS = ("last_updated", "name", "open_weights", "release_date", "status")
"""Keys of a profile that describe one model alone."""


class NeutralTool(dict[str, Any]):
    """A tool in OpenAI's form, which tracers, caches and LangGraph read, with its original.

    The chosen expert converts the original itself.
    """

    original: Any

    @classmethod
    def of(cls, original: Any) -> NeutralTool:
        """Wrap a tool, a function, a schema, or a vendor's own tool."""
        if isinstance(original, NeutralTool):
            return original
        try:
            tool = cls(convert_to_openai_tool(original))
        except ValueError:
            if not isinstance(original, Mapping):
                raise
            tool = cls(original)
        tool.original = original
        return tool

    def __reduce__(self) -> tuple[Any, ...]:
        return NeutralTool.of, (self.original,)


def originals(tools: Iterable[Any]) -> list[Any]:
    """Return the originals of tools given to `bind_tools`."""
    return [tool.original if isinstance(tool, NeutralTool) else tool for tool in tools]


def is_forced(tool_choice: Any) -> bool:
    """Tell whether a call's `tool_choice` makes the model call a tool."""
    return tool_choice not in (None, False, "auto", "none")


def joined_tools(bound: Sequence[Any] | None, tools: Sequence[Any]) -> list[Any]:
    """Return a call's tools, and after them those bound to the expert under other names."""
    names = {tool_name(tool) for tool in tools}
    return [*tools, *(tool for tool in bound or () if tool_name(tool) not in names)]


def tool_name(tool: Any) -> str:
    """Return the name under which a model calls a tool, in any vendor's form."""
    if not isinstance(tool, Mapping):
        return str(getattr(tool, "name", tool))
    function = tool.get("function")
    inner = function if isinstance(function, Mapping) else tool
    return str(inner.get("name") or tool.get("type") or tool)


@dataclass(frozen=True, slots=True)
class Needs:
    """What one call requires of an expert, beyond answering text.

    Attributes:
        tools: the call has tools.
        tool_choice: the expert must call one.
        structure: what the answer must fit, if anything.
        inputs: modalities to read besides text, as `modalities` tells them.
    """

    tools: bool = False
    tool_choice: bool = False
    inputs: frozenset[str] = frozenset()
    structure: Structure | None = None

    @classmethod
    def of(cls, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any] = NO_KWARGS) -> Needs:
        """Read them off a call's messages and arguments."""
        tools = bool(kwargs.get("tools"))
        forced = is_forced(kwargs.get("tool_choice"))
        return cls(tools, tools and forced, modalities(messages), kwargs.get(STRUCTURED))

    def __bool__(self) -> bool:
        return self.tools or bool(self.inputs) or self.structure is not None

    def reason_against(self, model: Any, expert: Expert) -> str | None:
        """Return why an expert cannot do it, or None.

        Args:
            model: the expert's model, whose profile counts; None where it is a name or a chain.
            expert: its entry in the library. An ability that is not stated counts as present.
        """
        profile: Mapping[str, Any] = getattr(model, "profile", None) or {}
        if self.structure is not None:
            reason = _reason_against_structure(self.structure, model, expert, profile)
            if reason is not None:
                return reason
        if self.tools:
            if type(model).bind_tools is BaseChatModel.bind_tools:
                return f"the call has tools, and {type(model).__name__} cannot bind any"
            if expert.tools is False or profile.get("tool_calling") is False:
                return "the call has tools, which it does not support"
            if self.tool_choice and profile.get("tool_choice") is False:
                return "the call forces a tool, which it does not support"
        for kind in sorted(self.inputs):
            may_read = expert.modalities is None or not _LIBRARY_NAMES[kind].isdisjoint(
                expert.modalities
            )
            reads_text_alone = isinstance(model, BaseLLM)
            if reads_text_alone or not may_read or profile.get(f"{kind}_inputs") is False:
                return f"the call holds {kind} content, which it does not read"
        return None


def _reason_against_structure(
    structure: Structure, model: Any, expert: Expert, profile: Mapping[str, Any]
) -> str | None:
    """Return why an expert cannot make structured output, or None."""
    kind = type(model)
    has_tools = expert.tools is not False and profile.get("tool_calling") is not False
    if kind.with_structured_output is BaseChatModel.with_structured_output:
        if kind.bind_tools is BaseChatModel.bind_tools:
            return f"the call asks for structured output, which {kind.__name__} has no way to make"
        # LangChain's own way forces a tool.
        able = has_tools and profile.get("tool_choice") is not False
    elif structure.needs_tools:
        able = has_tools
    else:
        able = has_tools or profile.get("structured_output") is not False
    return None if able else "the call asks for structured output, which it does not support"


def unable(needs: Needs, binding: Binding[Any]) -> dict[str, str]:
    """Return the experts that cannot do what a call needs, each with the reason."""
    if not needs:
        return {}
    library = binding.router.library
    reasons = {
        name: _reason(needs, expert, library[name]) for name, expert in binding.experts.items()
    }
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _reason(needs: Needs, expert: Any, entry: Expert) -> str | None:
    """Return why none of an expert's models can do it; a chain's abilities are not known."""
    try:
        is_bare = isinstance(expert, str | Runnable)
        models = models_of(expert) if is_bare else [expert.model]
        reasons = [needs.reason_against(model, entry) for model in models or [None]]
        return None if None in reasons else reasons[0]
    except Exception as error:  # noqa: BLE001 - vendors' classes raise anything
        return f"what it can do is unknown: {describe_error(error)}"


def models_of(expert: Any) -> list[Any]:
    """Return the language models that take an expert's input: itself, or a part that comes first.

    A model with fallbacks has several; a name, a function, or a chain that begins with something
    else has none.
    """
    if isinstance(expert, BaseLanguageModel):
        return [expert]
    if isinstance(expert, RunnableBindingBase):
        return models_of(expert.bound)
    if isinstance(expert, DynamicRunnable):
        return models_of(expert.default)
    if isinstance(expert, RunnableSequence):
        return models_of(expert.first)
    if isinstance(expert, RunnableWithFallbacks):
        first = models_of(expert.runnable)
        return first and [m for each in expert.runnables for m in models_of(each)]
    return []


def common_profile(profiles: Sequence[ModelProfile | None]) -> ModelProfile | None:
    """Return the profile that holds for every model: common abilities, smallest sizes.

    An ability that one model lacks is False; a key that one model does not state is left out.
    """
    stated = [profile for profile in profiles if profile]
    if not stated or len(stated) < len(profiles):
        return None
    common: dict[str, Any] = {}
    for key in sorted({key for profile in stated for key in profile} - set(_SINGLE_MODEL_KEYS)):
        value = _common([profile.get(key) for profile in stated])
        if value is not None:
            common[key] = value
    return cast(ModelProfile, common) or None


def _common(values: list[Any]) -> Any:
    """Return the common value of one key of several profiles, None if there is none."""
    if any(value is False for value in values):
        return False
    if None in values:
        return None
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return min(values)
    if all(isinstance(value, list) for value in values):
        return [item for item in values[0] if all(item in value for value in values)]
    return values[0] if all(value == values[0] for value in values) else None
