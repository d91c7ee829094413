"""Finds the text of a call to route, removes its flags, and annotates responses."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    DocumentBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.tools.types import BaseTool

from llama_index_tryage._documents import document_text, texts_of_documents
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
    text_tokens,
)
from tryage.errors import PromptError
from tryage.flags import parse
from tryage.tokens import count_tokens

R = TypeVar("R", ChatResponse, CompletionResponse)
CallInput = str | Sequence[ChatMessage]

MODALITIES = ("image", "audio", "video", "document")
"""Kinds of block that an expert must state to take, if it states what it takes."""


class Reading(NamedTuple):
    """What is routed of a call.

    Attributes:
        text: the routed text.
        flags_act: whether it is the user's own, so that its flags act and are taken off.
    """

    text: str
    flags_act: bool


_TOOL_REPORTS = ("Observation: ", "Result of executing the code given:")
"""How the messages begin in which a `ReActAgent` or a `CodeActAgent` reports tool results."""

_TOOLS: WeakKeyDictionary[BaseTool, float] = WeakKeyDictionary()
"""Tool → characters that describe it."""


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


def annotate(response: R, data: dict[str, Any]) -> R:
    """Return a copy of a response that carries the decision.

    Where the expert is a router itself, its own decision is the ``"inner"`` one of this. A copy,
    because the expert may keep the response. Not on its message: that goes into chat histories,
    and clients send a message's additional arguments on to their service.
    """
    inner = response.additional_kwargs.get("tryage")
    if inner is not None:
        data = {**data, "inner": inner}
    return response.model_copy(
        update={"additional_kwargs": {**response.additional_kwargs, "tryage": data}}
    )


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
            if not text.startswith(_TOOL_REPORTS):
                last = message
                break
            last_report = last_report or message
    written = last or last_report
    if written is not None:
        return written
    users = (message for message in reversed(messages) if message.role == MessageRole.USER)
    file = next((message for message in users if texts_of_documents(message)), None)
    return file or last_message or messages[-1]


def modalities_of(
    call_input: CallInput, kwargs: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Return the modalities of a call other than text, in the order of `MODALITIES`.

    Args:
        call_input: the prompt or the messages.
        kwargs: of the call; multi-modal LLMs take images as `image_documents`.
    """
    messages = () if isinstance(call_input, str) else call_input
    kinds = {kind for message in messages for kind in _kinds(message.blocks)}
    if kwargs and kwargs.get("image_documents"):
        kinds.add("image")
    return tuple(kind for kind in MODALITIES if kind in kinds)


def sent_tokens(call_input: CallInput, tools: Any = None) -> float:
    """Return the estimated tokens of all that is sent: system prompt, history, calls, tools.

    Args:
        call_input: the prompt or the messages.
        tools: LlamaIndex's own, or a vendor's descriptions of them.
    """
    if isinstance(call_input, str):
        tokens = count_tokens(call_input)
    else:
        tokens = sum(map(_message_tokens, call_input))
    return tokens + (sum(map(_tool_tokens, tools)) if isinstance(tools, list | tuple) else 0)


def _message_tokens(message: ChatMessage) -> float:
    tokens = 0.0
    for block in message.blocks:
        # Almost every block is text, and isinstance is slow for classes of LlamaIndex.
        tokens += count_tokens(block.text) if type(block) is TextBlock else _block_tokens(block)
    others = message.additional_kwargs
    return tokens + text_tokens(others["tool_calls"]) if "tool_calls" in others else tokens


def _block_tokens(block: Any) -> float:
    if isinstance(block, TextBlock):
        return count_tokens(block.text)
    if isinstance(block, ThinkingBlock):
        return count_tokens(block.content or "")
    if isinstance(block, ToolCallBlock):
        return count_tokens(block.tool_name) + text_tokens(block.tool_kwargs)
    if isinstance(block, DocumentBlock):
        return count_tokens(document_text(block) or "")
    return sum(map(_block_tokens, _nested(block)))


def read_text(blocks: Iterable[Any]) -> str:
    """Return a message as text, for a model that reads text only.

    Calls of tools are written out, cited texts stand for themselves; what a model thought before,
    and marks for caches, are left out.

    Raises:
        PromptError: there is a picture, a sound, a video or a document.
    """
    texts = []
    for block in blocks:
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ToolCallBlock):
            tool_kwargs = block.tool_kwargs
            arguments = (
                tool_kwargs
                if isinstance(tool_kwargs, str)
                else json.dumps(tool_kwargs, ensure_ascii=False)
            )
            texts.append(f"{block.tool_name}({arguments})")
        elif text := document_text(block):
            texts.append(text)
        elif block.block_type in MODALITIES:
            raise PromptError(f"a local pipeline reads text, not a block of {block.block_type!r}")
        else:
            texts.append(read_text(_nested(block)))
    return "\n".join(text for text in texts if text)


def _tool_tokens(tool: Any) -> float:
    """Return the estimated tokens that describe a tool; a schema is made once for each."""
    if not isinstance(tool, BaseTool):
        return text_tokens(tool)
    with contextlib.suppress(KeyError, TypeError):  # not every tool can be a key
        return _TOOLS[tool]
    try:
        data = tool.metadata
        described = [data.name or "", data.description, data.get_parameters_dict()]
    except Exception:  # noqa: BLE001 - tools are the user's; the expert's call raises the error
        return 0
    tokens = text_tokens(described)
    with contextlib.suppress(TypeError):
        _TOOLS[tool] = tokens
    return tokens


def _nested(block: Any) -> list[Any]:
    """Return the blocks that a block holds."""
    nested = getattr(block, "content", None) or getattr(block, "cited_content", None)
    if isinstance(nested, list):
        return nested
    return [] if nested is None or isinstance(nested, str) else [nested]


def _kinds(blocks: Iterable[Any]) -> Iterator[str]:
    for block in blocks:
        if type(block) is not TextBlock:
            if document_text(block) is None:
                yield block.block_type
            yield from _kinds(_nested(block))


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
