"""Which text of an input is routed, how flags are taken off it, and where the decision is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue

from tryage import Decision
from tryage.binding import LAST_MESSAGE, FlagsFrom, own_text, replace_last
from tryage.errors import PromptError, did_you_mean
from tryage.flags import parse

M = TypeVar("M", bound=BaseMessage)
Change = Callable[[str], str | None]

TOP = 5
"""Experts of the ranking that metadata carries."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """Finds the routed text of an input.

    Attributes:
        key: for dicts, the key of what is routed.
        flags_from: where the user's own text stands: ``"last_message"``, a dict key, or a function
            of the input. That text is then what is routed, and its flags act. None: flags are off.
    """

    key: str | None = None
    flags_from: FlagsFrom = None

    def __post_init__(self) -> None:
        named = self.flags_from
        if self.key and isinstance(named, str) and named not in (LAST_MESSAGE, self.key):
            raise ValueError(
                f"key={self.key!r} and flags_from={named!r} name two texts; the text that holds "
                "the user's flags is the one that is routed"
            )

    def read(self, given: Any) -> tuple[str, bool]:
        """Return the text to route, and whether its flags act.

        Raises:
            PromptError: the input holds no such text.
        """
        if callable(self.flags_from):
            return own_text(self.flags_from, given), True
        part = self._part(given)
        if isinstance(part, str):
            return part, self.flags_from is not None
        message = routed_message(_messages(part))
        return str(message.text), self.flags_from is not None and isinstance(message, HumanMessage)

    def strip(self, given: Any, decision: Decision) -> Any:
        """Return the input without the flags that `decision` read; the input itself stays as it is.

        Raises:
            PromptError: the text that a function read is not part of the input.
        """
        if not callable(self.flags_from):
            part = _strip_part(self._part(given))
            key = self._key
            return part if key is None else {**given, key: part}
        text = own_text(self.flags_from, given)
        if text == decision.prompt:
            return given
        stripped = _rewrite(given, lambda found: replace_last(found, text, decision.prompt))
        if stripped is None:
            raise PromptError(
                "flags were found in the text that flags_from returned, but the input does not "
                "hold that text, so they cannot be taken off; return it word for word"
            )
        return stripped

    @property
    def _key(self) -> str | None:
        named = self.flags_from
        return self.key or (named if isinstance(named, str) and named != LAST_MESSAGE else None)

    def _part(self, given: Any) -> Any:
        key = self._key
        if not isinstance(given, Mapping):
            if key is not None:
                raise PromptError(f"key={key!r} needs a dict, found {type(given).__name__}")
            return given
        found = ", ".join(map(repr, given))
        if key is None:
            raise PromptError(f"the input is a dict; say with key= which text to route: {found}")
        if key not in given:
            hint = did_you_mean(key, map(str, given)) or f" It has: {found}."
            raise PromptError(f"the input has no key {key!r}.{hint}")
        return given[key]


def annotate(message: M, decision: Decision) -> M:
    """Return a copy of a message that carries the decision.

    A copy, because the expert's cache may hold the message itself.
    """
    told = {**message.response_metadata, "tryage": decision.to_dict(top=TOP)}
    return message.model_copy(update={"response_metadata": told})


def strip_messages(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the messages with the flags of the last human one taken off."""
    routed = routed_message(messages)
    return [_strip_message(m) if m is routed else m for m in messages]


def _messages(part: Any) -> Sequence[BaseMessage]:
    if isinstance(part, PromptValue):
        return part.to_messages()
    if isinstance(part, BaseMessage):
        return [part]
    if isinstance(part, Sequence):
        return convert_to_messages(part)
    raise PromptError(
        f"cannot see the text of {type(part).__name__}; pass a string, a prompt or messages, or "
        "say with key= or flags_from= where the text is"
    )


def routed_message(messages: Sequence[BaseMessage]) -> BaseMessage:
    """Return the last human message, or the last of all where there is none."""
    if not messages:
        raise PromptError("the list of messages is empty; there is nothing to route")
    human = (message for message in reversed(messages) if isinstance(message, HumanMessage))
    return next(human, messages[-1])


def _strip_part(part: Any) -> Any:
    if isinstance(part, str):
        return parse(part).prompt
    if isinstance(part, StringPromptValue):
        return StringPromptValue(text=parse(part.text).prompt)
    messages = strip_messages(_messages(part))
    if isinstance(part, BaseMessage):
        return messages[0]
    return ChatPromptValue(messages=messages) if isinstance(part, PromptValue) else messages


def _strip_message(message: BaseMessage) -> BaseMessage:
    if not isinstance(message, HumanMessage):
        return message
    if isinstance(message.content, str):
        content: Any = parse(message.content).prompt
    else:
        content = [_rewrite_block(b, lambda t: parse(t).prompt) or b for b in message.content]
    return message.model_copy(update={"content": content})


def _rewrite(value: Any, change: Change) -> Any | None:
    """Return a copy of `value` with its last text that `change` accepts changed, else None."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, StringPromptValue):
        text = change(value.text)
        return None if text is None else StringPromptValue(text=text)
    if isinstance(value, PromptValue):
        messages = _rewrite(value.to_messages(), change)
        return None if messages is None else ChatPromptValue(messages=messages)
    if isinstance(value, BaseMessage):
        content = _rewrite(value.content, change)
        return None if content is None else value.model_copy(update={"content": content})
    if isinstance(value, Mapping):
        return _rewrite_item(dict(value), list(value), change)
    if isinstance(value, list | tuple):
        changed = _rewrite_item(list(value), range(len(value)), change)
        return changed if changed is None or isinstance(value, list) else tuple(changed)
    return None


def _rewrite_item(items: Any, places: Sequence[Any], change: Change) -> Any | None:
    for place in reversed(places):
        rewritten = _rewrite(items[place], change)
        if rewritten is not None:
            items[place] = rewritten
            return items
    return None


def _rewrite_block(block: str | dict[str, Any], change: Change) -> Any | None:
    if isinstance(block, str):
        return change(block)
    if block.get("type") != "text":
        return None
    return {**block, "text": change(cast(str, block["text"]))}
