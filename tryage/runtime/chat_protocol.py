"""OpenAI's chat protocol: the request's body, and the reply, whole or as a stream."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tryage.dispatch.faults import refusing_code
from tryage.errors import OptionError
from tryage.runtime.answer import Answer
from tryage.runtime.base import check_prompt
from tryage.runtime.inputs import Options, Prompt, check_messages

_MAX_REPLY = 16 * 2**20
_MOST_VALUES = 2**20
_MOST_TOKENS = 10**12
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_REPLACEMENT = "\ufffd"
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_JSON: Any = object()


class ReplyError(Exception):
    """The server's reply is not an answer.

    Attributes:
        refused: whether the reply refuses the request.
    """

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


def request_body(model: str, prompt: Prompt, options: Options, *, stream: bool) -> dict[str, Any]:
    """Return the body of a request to ``/chat/completions``.

    Raises:
        PromptError: the prompt is empty.
        OptionError: `chat` is False: an endpoint always applies the model's chat template.
    """
    if options.chat is False:
        raise OptionError("chat=False is not possible: an endpoint applies its own chat template")
    if isinstance(prompt, str):
        messages = [{"role": "user", "content": check_prompt(prompt)}]
    else:
        messages = [dict(message) for message in check_messages(prompt)]
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": options.max_new_tokens,
        "temperature": options.temperature,
    }
    if options.stop:
        body["stop"] = list(options.stop)
    if options.seed is not None:
        body["seed"] = options.seed
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def error_text(body: bytes) -> str:
    """Return the first line of the message in an error's JSON body; empty if there is none."""
    data = _parsed(body)
    error = data.get("error", data) if isinstance(data, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    if not isinstance(message, str):
        return ""
    return whole_characters(message.strip().partition("\n")[0])


def refuses(body: bytes) -> bool:
    """Tell whether an error's JSON body holds a code that refuses the request."""
    return refusing_code(_parsed(body))


class Reply:
    """Parses a reply as it arrives: one JSON object, or a stream of server-sent events.

    Args:
        whole: whether the reply is one object.
        largest: bytes of the object, or of one event of a stream, at most.

    Attributes:
        whole: as given.
        done: whether the answer is complete; nothing after that is read.
        events: events that were parsed.
    """

    def __init__(self, *, whole: bool, largest: int = _MAX_REPLY) -> None:
        self.whole = whole
        self._largest = largest
        self._since = time.perf_counter()
        self.clear()

    @property
    def text(self) -> str:
        """The answer so far."""
        # A list, since adding to a long text copies it each time.
        self._texts[:] = ["".join(self._texts)]
        return self._texts[0]

    @property
    def begun(self) -> bool:
        """Whether there is any text of the answer."""
        return any(self._texts)

    def clear(self) -> None:
        """Discard what was read, before another attempt."""
        self.done = False
        self.events = 0
        self._texts: list[str] = []
        self._half = ""
        self._buffer = bytearray()
        self._is_first = True
        self._finish: Any = None
        self._message: dict[str, Any] = {}
        self._usage: Mapping[str, Any] = {}

    def read(self, chunk: bytes) -> Iterator[str]:
        """Parse a chunk; yields the pieces of the answer that it completes, often none.

        Raises:
            ReplyError: it breaks the protocol, or the reply is too long.
        """
        if self.done:
            return
        self._buffer += chunk
        lines: list[bytes] = []
        if not self.whole and (b"\n" in chunk or b"\r" in chunk):
            *lines, rest = bytes(self._buffer).replace(b"\r", b"\n").split(b"\n")
            self._buffer = bytearray(rest)
        if len(self._buffer) > self._largest:
            raise ReplyError(f"it sent more than {self._largest} bytes")
        for line in lines:
            if piece := self._line(line):
                yield piece
            if self.done:
                return

    def _line(self, line: bytes) -> str:
        """Parse a line of a stream; returns its piece of the answer."""
        if self._is_first:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        self._is_first = False
        if not line.startswith(b"data:"):
            return ""
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return ""
        event = _object(data)
        self.events += 1
        if "error" in event:
            reason = error_text(data) or "it sent an error instead of an answer"
            raise ReplyError(reason, refused=refusing_code(event))
        self._usage = _mapping(event.get("usage")) or self._usage
        choice = _first_choice(event, required=False)
        delta = _mapping(choice.get("delta"))
        self._message |= {key: value for key, value in delta.items() if value is not None}
        self._finish = choice.get("finish_reason") or self._finish
        return self._piece(delta.get("content"))

    def _piece(self, content: Any) -> str:
        """Return the text of a piece, its characters whole."""
        if content is None:
            return ""
        if not isinstance(content, str):
            raise ReplyError("it sent a piece that is not text")
        piece = self._half + content
        # A pair of surrogates may be cut between two pieces.
        self._half = piece[-1] if "\ud800" <= piece[-1:] <= "\udbff" else ""
        piece = whole_characters(piece.removesuffix(self._half))
        if piece:
            self._texts.append(piece)
        return piece

    def end(self) -> Iterator[str]:
        """Take the end of the reply; yields what was held back.

        Raises:
            ReplyError: the answer is incomplete, empty, or a refusal.
        """
        if self.whole:
            self._read_whole()
        else:
            yield from self.read(b"\n")
            if self._half:
                self._texts.append(_REPLACEMENT)
                yield _REPLACEMENT
            # Some servers omit the closing line; a finish reason is as good.
            if not (self.done or self._finish):
                raise ReplyError("the stream was cut before its end")
        if not self.begun:
            raise self._no_text(self._message)
        self.done = True

    def _read_whole(self) -> None:
        """Parse the reply in one piece."""
        event = _object(bytes(self._buffer).removeprefix(_BYTE_ORDER_MARK))
        choice = _first_choice(event, required=True)
        self._message = dict(_mapping(choice.get("message")))
        self._finish = choice.get("finish_reason")
        self._usage = _mapping(event.get("usage"))
        text = self._message.get("content")
        if isinstance(text, str) and text:
            self._texts.append(whole_characters(text))

    def _no_text(self, message: Mapping[str, Any]) -> ReplyError:
        """Return the error of a reply that holds no text."""
        if self._finish == "content_filter":
            return ReplyError("its content filter kept the answer back", refused=True)
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal:
            return ReplyError(f"it refused: {whole_characters(refusal)}", refused=True)
        if message.get("tool_calls") or message.get("function_call"):
            return ReplyError("it called a tool, which nobody gave it, in place of answering")
        if message.get("content") == "":
            return ReplyError("it sent an empty answer")
        return ReplyError("what it sent holds no text")

    def answer(self) -> Answer:
        """Return the answer."""
        read, written = (_count(self._usage.get(f"{k}_tokens")) for k in ("prompt", "completion"))
        return Answer(
            text=self.text,
            prompt_tokens=read or 0,
            completion_tokens=written or 0,
            seconds=time.perf_counter() - self._since,
            finish_reason="length" if self._finish == "length" else "stop",
            counted=read is not None and written is not None,
        )


def whole_characters(text: str) -> str:
    """Return a text in which halves of surrogate pairs are joined, or replaced where alone."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def _object(data: bytes) -> Mapping[str, Any]:
    event = _parsed(data)
    if event is _NOT_JSON:
        raise ReplyError("what it sent is not JSON")
    if not isinstance(event, dict):
        raise ReplyError("what it sent is not a chat completion")
    return event


def _parsed(data: bytes) -> Any:
    """Return a JSON value; `_NOT_JSON` where it is none, or nested or divided too much."""
    # Each value takes some hundred bytes of memory, and may take two to send.
    if len(data) > _MOST_VALUES and sum(map(data.count, (b"[", b"{", b","))) > _MOST_VALUES:
        return _NOT_JSON
    try:
        # UTF-8 whatever the headers say, as JSON is.
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return _NOT_JSON


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first_choice(event: Mapping[str, Any], *, required: bool) -> Mapping[str, Any]:
    choices = event.get("choices")
    if not isinstance(choices, list) or (required and not choices):
        raise ReplyError("what it sent is not a chat completion")
    return _mapping(choices[0]) if choices else {}
