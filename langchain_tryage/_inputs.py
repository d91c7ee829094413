"""Finds the text of an input to route, and removes its flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue

from langchain_tryage._message_texts import texts_of_files
from langchain_tryage._modalities import modalities
from tryage import Decision
from tryage.binding import (
    LAST_MESSAGE,
    Change,
    FlagsFrom,
    check_flags_from,
    check_text_from,
    flag_mode,
    own_text,
    passed_query,
    strip_own,
)
from tryage.errors import PromptError, did_you_mean
from tryage.flags import Flags, parse

TextFrom = Literal["last_message", "system_and_last"] | int | Callable[[Any], str]
"""What is routed: the user's last message, the system's and it, the last k, a function's text."""

SYSTEM_AND_LAST: Literal["system_and_last"] = "system_and_last"

_NO_MESSAGES = (AttributeError, KeyError, NotImplementedError, TypeError, ValueError)
"""What LangChain raises where it cannot make messages of something."""

_ROLES = {
    HumanMessage: "user",
    AIMessage: "assistant",
    SystemMessage: "system",
    ToolMessage: "tool",
    FunctionMessage: "function",
}
_OTHER_NAMES = {"human": "user", "ai": "assistant", "developer": "system"}
"""Role of a `ChatMessage` → the usual name of that role."""

WithoutFlags = Callable[[str], str]
"""Returns a text without its flags."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is routed of one input.

    Attributes:
        text: what the router reads.
        flags_act: whether the text is the user's own, so that its flags act.
        stripped: other texts of the input → these without flags, as far as they were needed.
    """

    text: str = field(repr=False)
    flags_act: bool
    stripped: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class TextSource:
    """Finds the routed text of an input, and takes flags off it.

    Attributes:
        key: for dicts, the key of what is routed.
        flags_from: where the user's own text stands: ``"last_message"``, a dict key, or a function
            of the input. That text is then what is routed, and its flags act. None: flags are off.
        text_from: which messages are routed: ``"last_message"`` of the user,
            ``"system_and_last"``, a number k: the last k of user and model, up to the user's
            last, or a function of the input that returns the text.

    Where none of them is set, the query that a `TryageFlags` around the call passes on is routed.

    Among messages the flags of the last one of the user act. Those of earlier ones acted when
    they were the last; they are taken off too, so that they reach no expert.
    """

    key: str | None = None
    flags_from: FlagsFrom = None
    text_from: TextFrom = LAST_MESSAGE

    def __post_init__(self) -> None:
        check_flags_from(self.flags_from)
        check_text_from(self.text_from, self.flags_from)
        text_from = self.text_from
        if callable(text_from):
            return
        if text_from not in (LAST_MESSAGE, SYSTEM_AND_LAST) and not (
            isinstance(text_from, int) and text_from is not True and text_from >= 1
        ):
            raise ValueError(
                f"text_from is {text_from!r}; it is {LAST_MESSAGE!r}, {SYSTEM_AND_LAST!r}, a "
                "number of messages, or a function of the input"
            )
        if callable(self.flags_from) and text_from != LAST_MESSAGE:
            raise ValueError(
                f"text_from={text_from!r} has no say where flags_from is a function: the text "
                "that it returns is the one that is routed"
            )
        flags_from = self.flags_from
        if self.key and isinstance(flags_from, str) and flags_from not in (LAST_MESSAGE, self.key):
            raise ValueError(
                f"key={self.key!r} and flags_from={flags_from!r} name two texts; the text that "
                "holds the user's flags is the one that is routed"
            )

    def read(self, value: Any) -> Reading:
        """Read the text to route off an input.

        Raises:
            PromptError: the input holds no such text.
        """
        if callable(self.flags_from):
            return Reading(own_text(self.flags_from, value), True)
        if callable(self.text_from):
            return Reading(own_text(self.text_from, value, "text_from"), False)
        query = passed_query()
        if query is not None and self == _NOTHING_NAMED:
            return Reading(query, False)
        part = self.part(value)
        if isinstance(part, str):
            return Reading(part, self.flags_from is not None)
        messages = _messages(part)
        message = routed_message(messages)
        flags_act = self.flags_from is not None and role_of(message) == "user"
        before = self._before(messages, message)
        # The flags of other messages are not this call's: routing does not see them.
        stripped = {text: parse(text).prompt for text in before} if flags_act else {}
        texts = [stripped.get(text, text) for text in before]
        own = _text(message)
        if not own.strip():  # pictures, sounds or documents alone, or a file of text
            flags_act, files = False, texts_of_files(message.content)
            kinds = " ".join(f"[{kind}]" for kind in sorted(modalities(messages)))
            own = files or ("" if texts else kinds or ("" if files is None else "[file]"))
        text = "\n\n".join([*texts, own] if own else texts)
        return Reading(text, flags_act, stripped)

    def strip(self, value: Any, reading: Reading, decision: Decision) -> Any:
        """Return a copy of the input without the user's flags.

        Args:
            value: the input.
            reading: of the input.
            decision: what was decided on the routed text.

        Raises:
            PromptError: the text that a function read is not part of the input.
        """
        if self.flags_from is None:
            return value
        if callable(self.flags_from):
            return strip_own(self.flags_from, value, decision.prompt, _rewrite)
        stripped = dict(reading.stripped)
        # Where flags are passed on, the router leaves those of the text alone.
        if reading.flags_act and flag_mode(True) == "warn":
            stripped[reading.text] = decision.prompt

        def without_flags(text: str) -> str:
            """Return the text without flags; no text is parsed twice."""
            return stripped[text] if text in stripped else parse(text).prompt

        part = self.part(value)
        part_stripped = _strip_part(part, without_flags)
        if part_stripped is part:
            return value
        key = self.dict_key
        return part_stripped if key is None else {**value, key: part_stripped}

    def take_flags(self, value: Any) -> tuple[Flags, Any]:
        """Return the flags of the user's text, and the input without the user's flags.

        Raises:
            PromptError: the input holds no text.
        """
        part = self.part(value)
        text = part
        if not isinstance(part, str):
            message = routed_message(_messages(part))
            text = _text(message) if role_of(message) == "user" else ""
        flags = parse(text)
        stripped = _strip_part(part, lambda user_text: parse(user_text).prompt)
        key = self.dict_key
        return flags, stripped if key is None else {**value, key: stripped}

    def _before(self, messages: Sequence[BaseMessage], routed: BaseMessage) -> list[str]:
        """Return the texts that are routed together with the routed message."""
        text_from = self.text_from
        if text_from == LAST_MESSAGE:
            return []
        place = next(i for i, message in enumerate(messages) if message is routed)
        roles = ("user", "assistant") if isinstance(text_from, int) else ("system",)
        texts = [_text(m) for m in messages[:place] if role_of(m) in roles]
        texts = [text for text in texts if text.strip()]
        return texts[max(0, len(texts) - text_from + 1) :] if isinstance(text_from, int) else texts

    @property
    def dict_key(self) -> str | None:
        """The key of the routed part, where inputs are dicts."""
        flags_from = self.flags_from
        return self.key or (
            flags_from if isinstance(flags_from, str) and flags_from != LAST_MESSAGE else None
        )

    def part(self, value: Any) -> Any:
        """Return the part of an input that is routed.

        Raises:
            PromptError: the input is no dict with that key, or is a dict and no key is named.
        """
        key = self.dict_key
        if not isinstance(value, Mapping):
            if key is not None:
                raise PromptError(f"key={key!r} needs a dict, found {type(value).__name__}")
            return value
        keys = ", ".join(map(repr, value))
        if key is None:
            raise PromptError(f"the input is a dict; say with key= which text to route: {keys}")
        if key not in value:
            hint = did_you_mean(key, map(str, value)) or f" It has: {keys}."
            raise PromptError(f"the input has no key {key!r}.{hint}")
        return value[key]


_NOTHING_NAMED = TextSource()


def _messages(part: Any) -> Sequence[BaseMessage]:
    if isinstance(part, PromptValue):
        return part.to_messages()
    if isinstance(part, BaseMessage):
        return [part]
    if not isinstance(part, Sequence):
        raise PromptError(
            f"cannot see the text of {type(part).__name__}; pass a string, a prompt or messages, "
            "or say with key= or flags_from= where the text is"
        )
    try:
        return convert_to_messages(part)
    except _NO_MESSAGES as error:
        reason = str(error).partition("\n")[0]
        raise PromptError(f"the input is not a list of messages: {reason}") from error


def routed_message(messages: Sequence[BaseMessage]) -> BaseMessage:
    """Return the user's last message with text, or the last message with text.

    A message may hold an image alone; what was written before it is then all there is to read. A
    file of text that the user sent stands for what the user did not write.
    """
    if not messages:
        raise PromptError("the list of messages is empty; there is nothing to route")
    users = [message for message in reversed(messages) if role_of(message) == "user"]
    for message in users:
        if _text(message).strip():
            return message
    for message in users:
        if texts_of_files(message.content):
            return message
    written = (message for message in reversed(messages) if _text(message).strip())
    return next(written, messages[-1])


def role_of(message: BaseMessage) -> str:
    """Return a message's role: ``"user"``, ``"assistant"``, ``"system"``, ``"tool"`` or another."""
    if isinstance(message, ChatMessage):
        return _OTHER_NAMES.get(message.role, message.role)
    for kind, role in _ROLES.items():
        if isinstance(message, kind):
            return role
    return message.type


def _text(message: BaseMessage) -> str:
    """Return a message's text, one line per block, so that no flag spans two blocks."""
    if isinstance(message.content, str):
        return message.content
    texts = (block if isinstance(block, str) else _block_text(block) for block in message.content)
    return "\n".join(text for text in texts if text is not None)


def _block_text(block: Mapping[str, Any]) -> str | None:
    text = block.get("text") if block.get("type") == "text" else None
    return text if isinstance(text, str) else None


def _strip_part(part: Any, without_flags: WithoutFlags) -> Any:
    """Return text, a prompt or messages without the user's flags; themselves if there are none."""
    if isinstance(part, str):
        return without_flags(part)
    if isinstance(part, StringPromptValue):
        return StringPromptValue(text=without_flags(part.text))
    messages = _messages(part)
    stripped = [_strip_message(message, without_flags) for message in messages]
    if all(new is old for new, old in zip(stripped, messages, strict=True)):
        return part
    if isinstance(part, BaseMessage):
        return stripped[0]
    return ChatPromptValue(messages=stripped) if isinstance(part, PromptValue) else stripped


def _strip_message(message: BaseMessage, without_flags: WithoutFlags) -> BaseMessage:
    if role_of(message) != "user":
        return message
    content: Any = message.content
    if isinstance(content, str):
        content = without_flags(content)
    else:
        content = [_strip_block(block, without_flags) for block in content]
    unchanged = content == message.content
    return message if unchanged else message.model_copy(update={"content": content})


def _strip_block(block: str | dict[str, Any], without_flags: WithoutFlags) -> str | dict[str, Any]:
    if isinstance(block, str):
        return without_flags(block)
    text = _block_text(block)
    return block if text is None else {**block, "text": without_flags(text)}


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
