"""Finds the text of a call to route, and removes its flags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from llama_index.core.base.llms.types import (
    ChatMessage,
    MessageRole,
    TextBlock,
)

from llama_index_tryage._message_texts import texts_of_documents
from llama_index_tryage._modalities import modalities_of
from tryage import Decision
from tryage.binding import (
    Change,
    FlagsFrom,
    check_flags_from,
    check_text_from,
    flag_mode,
    own_text,
    passed_query,
    strip_own,
)
from tryage.errors import PromptError
from tryage.flags import parse

CallInput = str | Sequence[ChatMessage]


class Reading(NamedTuple):
    """What is routed of a call.

    Attributes:
        text: the routed text.
        flags_act: whether it is the user's own, so that its flags act and are taken off.
    """

    text: str
    flags_act: bool


TOOL_REPORTS = ("Observation: ", "Result of executing the code given:")
"""How the messages begin in which a `ReActAgent` or a `CodeActAgent` reports tool results."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """Finds the routed text of a prompt or of messages.

    Attributes:
        flags_from: where the user's own text stands: ``"last_message"`` or a function of the
            prompt or the messages. That text is then what is routed, and its flags act. None:
            flags are off. What LlamaIndex wrote is no ``"last_message"`` of the user.
        text_from: a function of the prompt or the messages that returns the text to route; None
            takes the query that LlamaIndex or a `TryageFlags` around the call tells, else the
            prompt, or the user's last message.

    Among messages the flags of the last one of the user act. Those of earlier ones acted when
    they were the last; they are taken off too, so that they reach no expert.
    """

    flags_from: FlagsFrom = None
    text_from: Callable[[Any], str] | None = None

    def __post_init__(self) -> None:
        check_flags_from(self.flags_from, "prompts and messages have")
        if self.text_from is not None and not callable(self.text_from):
            raise TypeError(f"text_from is {self.text_from!r}; it is a function, or None")
        check_text_from(self.text_from, self.flags_from)

    def read(self, call_input: CallInput, *, composed: bool = False) -> Reading:
        """Return the text to route, and whether its flags act.

        Args:
            call_input: the prompt or the messages.
            composed: whether LlamaIndex wrote them.

        Raises:
            PromptError: there is no such text.
        """
        if callable(self.flags_from):
            return Reading(own_text(self.flags_from, call_input), True)
        if self.text_from is not None:
            return Reading(own_text(self.text_from, call_input, "text_from"), False)
        is_own = self.flags_from is not None and not composed
        query = None if is_own else passed_query()
        if query is not None:
            return Reading(query, False)
        if isinstance(call_input, str):
            return Reading(call_input, is_own)
        message = routed_message(call_input)
        text = message.content or ""
        if not text.strip():  # images, sounds or documents alone, or a file of text
            files = texts_of_documents(message)
            kinds = " ".join(f"[{kind}]" for kind in modalities_of(call_input))
            return Reading(files or kinds or ("" if files is None else "[file]"), False)
        return Reading(text, is_own and message.role == MessageRole.USER)

    def strip(self, call_input: CallInput, decision: Decision, *, composed: bool = False) -> Any:
        """Return the input without the user's flags; the input itself is unchanged.

        Args:
            call_input: the prompt or the messages.
            decision: on its text.
            composed: whether LlamaIndex wrote them.

        Raises:
            PromptError: the text that a function read is not part of the input.
        """
        if self.flags_from is None:
            return call_input
        if callable(self.flags_from):
            return strip_own(self.flags_from, call_input, decision.prompt, _rewrite)
        if composed or flag_mode(True) != "warn":
            return call_input  # no text of it is known to be the user's
        return decision.prompt if isinstance(call_input, str) else strip_messages(call_input)


def strip_messages(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return copies of messages without the flags in those of the user."""
    return [_strip_message(message) for message in messages]


def routed_message(messages: Sequence[ChatMessage]) -> ChatMessage:
    """Return the user's last message with text, or the last message with text.

    A message may hold an image alone; what was written before it is then all there is to read.
    What agents of LlamaIndex write of tools into messages of the user is passed over, unless it
    is all that there is of the user. A file of text that the user sent stands for what the user did
    not write.
    """
    if not messages:
        raise PromptError("the list of messages is empty; there is nothing to route")
    last = last_report = last_message = None
    for message in reversed(messages):
        text = message.content or ""
        if not text.strip():
            continue
        last_message = last_message or message
        if message.role == MessageRole.USER:
            if not text.startswith(TOOL_REPORTS):
                last = message
                break
            last_report = last_report or message
    written = last or last_report
    if written is not None:
        return written
    users = (message for message in reversed(messages) if message.role == MessageRole.USER)
    file = next((message for message in users if texts_of_documents(message)), None)
    return file or last_message or messages[-1]


def _strip_message(message: ChatMessage) -> ChatMessage:
    if message.role != MessageRole.USER:
        return message
    blocks = [
        block.model_copy(update={"text": parse(block.text).prompt})
        if isinstance(block, TextBlock)
        else block
        for block in message.blocks
    ]
    return message.model_copy(update={"blocks": blocks})


def _rewrite(call_input: CallInput, change: Change) -> Any | None:
    """Return a copy of the input with its last text that `change` accepts changed, else None."""
    if isinstance(call_input, str):
        return change(call_input)
    for place in reversed(range(len(call_input))):
        blocks = _rewrite_blocks(call_input[place].blocks, change)
        if blocks is not None:
            messages = list(call_input)
            messages[place] = call_input[place].model_copy(update={"blocks": blocks})
            return messages
    return None


def _rewrite_blocks(blocks: Sequence[Any], change: Change) -> list[Any] | None:
    for place in reversed(range(len(blocks))):
        block = blocks[place]
        text = change(block.text) if isinstance(block, TextBlock) else None
        if text is not None:
            rewritten = list(blocks)
            rewritten[place] = block.model_copy(update={"text": text})
            return rewritten
    return None
