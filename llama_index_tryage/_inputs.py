"""Which text of a call is routed, how flags are taken off it, and where the decision is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
    TextBlock,
)

from tryage import Decision
from tryage.binding import (
    Change,
    FlagsFrom,
    check_flags_from,
    check_text_from,
    own_text,
    strip_own,
)
from tryage.errors import PromptError
from tryage.flags import parse

R = TypeVar("R", ChatResponse, CompletionResponse)
Given = str | Sequence[ChatMessage]

MODALITIES = ("image", "audio", "video", "document")
"""Kinds of block that an expert must state to take, if it states what it takes."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """Finds the routed text of a prompt or of messages.

    Attributes:
        flags_from: where the user's own text stands: ``"last_message"`` or a function of the
            prompt or the messages. That text is then what is routed, and its flags act. None:
            flags are off.
        text_from: a function of the prompt or the messages that returns the text to route; None
            takes the prompt, or the user's last message.

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

    def read(self, given: Given) -> tuple[str, bool]:
        """Return the text to route, and whether its flags act.

        Raises:
            PromptError: there is no such text.
        """
        if callable(self.flags_from):
            return own_text(self.flags_from, given), True
        if self.text_from is not None:
            return own_text(self.text_from, given, "text_from"), False
        if isinstance(given, str):
            return given, self.flags_from is not None
        message = routed_message(given)
        users = message.role == MessageRole.USER
        return message.content or "", self.flags_from is not None and users

    def strip(self, given: Given, decision: Decision) -> Any:
        """Return `given` without the user's flags; `given` itself stays as it is.

        Args:
            given: the prompt or the messages.
            decision: what was decided on its text.

        Raises:
            PromptError: the text that a function read is not part of `given`.
        """
        if self.flags_from is None:
            return given
        if callable(self.flags_from):
            return strip_own(self.flags_from, given, decision.prompt, _rewrite)
        if isinstance(given, str):
            return decision.prompt
        return [_strip_message(message) for message in given]


def annotate(response: R, told: dict[str, Any]) -> R:
    """Return a copy of a response that carries the decision.

    A copy, because the expert may keep the response. Not on its message: that goes into chat
    histories, and clients send a message's additional arguments on to their service.
    """
    return response.model_copy(
        update={"additional_kwargs": {**response.additional_kwargs, "tryage": told}}
    )


def routed_message(messages: Sequence[ChatMessage]) -> ChatMessage:
    """Return the last message of the user that holds text, or the last of all that does.

    A message may hold an image alone; what was written before it is then all there is to read.
    """
    if not messages:
        raise PromptError("the list of messages is empty; there is nothing to route")
    written = [message for message in messages if (message.content or "").strip()]
    users = (message for message in reversed(written) if message.role == MessageRole.USER)
    return next(users, (written or messages)[-1])


def modalities_of(given: Given) -> tuple[str, ...]:
    """Return what a prompt or messages hold besides text, in the order of `MODALITIES`."""
    if isinstance(given, str):
        return ()
    found = {kind for message in given for kind in _kinds(message.blocks)}
    return tuple(kind for kind in MODALITIES if kind in found)


def _kinds(blocks: Iterable[Any]) -> Iterator[str]:
    for block in blocks:
        yield block.block_type
        nested = getattr(block, "content", None)
        if isinstance(nested, list):
            yield from _kinds(nested)


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


def _rewrite(given: Given, change: Change) -> Any | None:
    """Return a copy of `given` with its last text that `change` accepts changed, else None."""
    if isinstance(given, str):
        return change(given)
    for place in reversed(range(len(given))):
        blocks = _rewrite_blocks(given[place].blocks, change)
        if blocks is not None:
            messages = list(given)
            messages[place] = given[place].model_copy(update={"blocks": blocks})
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
