"""Tools bound before an expert is chosen, and what a call requires of an expert."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import BaseMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from tryage import Expert
from tryage.binding import Binding
from tryage.dispatch import describe_error

_INPUTS = {
    "image": "image",
    "image_url": "image",
    "audio": "audio",
    "input_audio": "audio",
    "video": "video",
    "file": "pdf",
}
"""Type of a content block → input modality."""

_NOT_COMMON = ("last_updated", "name", "open_weights", "release_date", "status")
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


@dataclass(frozen=True, slots=True)
class Needs:
    """What one call requires of an expert, beyond answering text.

    Attributes:
        tools: the call has tools.
        tool_choice: the expert must call one.
        inputs: modalities to read besides text: ``"image"``, ``"audio"``, ``"video"``, ``"pdf"``.
    """

    tools: bool = False
    tool_choice: bool = False
    inputs: frozenset[str] = frozenset()

    @classmethod
    def of(cls, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> Needs:
        """Read them off a call's messages and arguments."""
        tools = bool(kwargs.get("tools"))
        forced = kwargs.get("tool_choice") not in (None, False, "auto", "none")
        inputs = {
            _INPUTS[block["type"]]
            for message in messages
            if isinstance(message.content, list)
            for block in message.content
            if isinstance(block, dict) and block.get("type") in _INPUTS
        }
        return cls(tools, tools and forced, frozenset(inputs))

    def __bool__(self) -> bool:
        return self.tools or bool(self.inputs)

    def reason_against(self, model: BaseChatModel, expert: Expert) -> str | None:
        """Return why an expert cannot do it, or None.

        Args:
            model: the expert's chat model.
            expert: its entry in the library. An ability that is not stated counts as present.
        """
        profile: Mapping[str, Any] = model.profile or {}
        if self.tools:
            if type(model).bind_tools is BaseChatModel.bind_tools:
                return f"the call has tools, and {type(model).__name__} cannot bind any"
            if expert.tools is False or profile.get("tool_calling") is False:
                return "the call has tools, which it does not support"
            if self.tool_choice and profile.get("tool_choice") is False:
                return "the call forces a tool, which it does not support"
        for kind in sorted(self.inputs):
            unstated = expert.modalities is None or kind in expert.modalities
            if not unstated or profile.get(f"{kind}_inputs") is False:
                return f"the call holds {kind} content, which it does not read"
        return None


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
    try:
        return needs.reason_against(expert.model, entry)
    except Exception as error:  # noqa: BLE001 - vendors' classes raise anything
        return f"what it can do is not known: {describe_error(error)}"


def common_profile(profiles: Sequence[ModelProfile | None]) -> ModelProfile | None:
    """Return the profile that holds for every model: common abilities, smallest sizes.

    An ability that one model lacks is False; a key that one model does not state is left out.
    """
    stated = [profile for profile in profiles if profile]
    if not stated or len(stated) < len(profiles):
        return None
    common: dict[str, Any] = {}
    for key in sorted({key for profile in stated for key in profile} - set(_NOT_COMMON)):
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
