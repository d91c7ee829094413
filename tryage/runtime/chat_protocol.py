"""OpenAI's chat protocol: the request's body, and the reply, whole or as a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tryage.dispatch.faults import refusing_code
from tryage.errors import OptionError
from tryage.runtime.answer import Answer
from tryage.runtime.base import check_prompt
from tryage.runtime.inputs import Options, Prompt, check_messages

_MAX_REPLY = 16 * 2**20
"""Characters of a reply at most, so that a server cannot fill memory."""


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


def error_text(body: str) -> str:
    """Return the first line of the message in an error's JSON body; empty if there is none."""
    data = _parsed(body)
    error = data.get("error", data) if isinstance(data, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message.strip().partition("\n")[0] if isinstance(message, str) else ""


def refuses(body: str) -> bool:
    """Tell whether an error's JSON body holds a code that refuses the request."""
    return refusing_code(_parsed(body))


class Reply:
    """Parses a reply as it arrives: one JSON object, or a stream of server-sent events.

    Attributes:
        whole: whether the reply is one object.
        text: the answer so far.
        done: whether the answer is complete.
    """

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole
        self._since = time.perf_counter()
        self.clear()

    @property
    def seconds(self) -> float:
        """Seconds since the last attempt began."""
        return time.perf_counter() - self._attempt_began

    def clear(self) -> None:
        """Discard what was read, before another attempt."""
        self._attempt_began = time.perf_counter()
        self.text = ""
        self.done = False
        self._buffer: list[str] = []
        self._size = 0
        self._finish: Any = None
        self._message: dict[str, Any] = {}
        self._usage: Mapping[str, Any] = {}

    def read(self, chunk: str) -> Iterator[str]:
        """Parse a chunk; yields the pieces of the answer that it completes, often none.

        Raises:
            ReplyError: it breaks the protocol, or the reply is too long.
        """
        self._size += len(chunk)
        if self._size > _MAX_REPLY:
            raise ReplyError(f"it sent more than {_MAX_REPLY} characters")
        self._buffer.append(chunk)
        if self.whole or "\n" not in chunk:
            return
        # Not `splitlines`, which also splits at characters that may occur in an answer.
        *lines, rest = "".join(self._buffer).split("\n")
        self._buffer = [rest]
        for line in lines:
            if piece := self._event(line):
                yield piece

    def _event(self, line: str) -> str:
        """Parse a line of a stream; returns its piece of the answer."""
        if not line.startswith("data:"):
            return ""
        data = line[5:].strip()
        if data == "[DONE]":
            self.done = True
            return ""
        event = _object(data)
        if "error" in event:
            reason = error_text(data) or "it sent an error instead of an answer"
            raise ReplyError(reason, refused=refusing_code(event))
        self._usage = _mapping(event.get("usage")) or self._usage
        choice = _first_choice(event, required=False)
        delta = _mapping(choice.get("delta"))
        self._message |= {key: value for key, value in delta.items() if value is not None}
        piece = delta.get("content") or ""
        if not isinstance(piece, str):
            raise ReplyError("it sent a piece that is not text")
        self._finish = choice.get("finish_reason") or self._finish
        self.text += piece
        return piece

    def end(self) -> None:
        """Mark the end of the reply.

        Raises:
            ReplyError: the answer is incomplete, empty, or a refusal.
        """
        if self.whole:
            event = _object("".join(self._buffer))
            choice = _first_choice(event, required=True)
            self._message = dict(_mapping(choice.get("message")))
            self._finish = choice.get("finish_reason")
            self._usage = _mapping(event.get("usage"))
            text = self._message.get("content")
            self.text = text if isinstance(text, str) else ""
        elif not (self.done or self._finish):
            # Some servers omit the closing line; a finish reason is as good.
            raise ReplyError("the stream was cut before its end")
        if not self.text:
            raise self._no_text(self._message)
        self.done = True

    def _no_text(self, message: Mapping[str, Any]) -> ReplyError:
        """Return the error of a reply that holds no text."""
        if self._finish == "content_filter":
            return ReplyError("its content filter kept the answer back", refused=True)
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal:
            return ReplyError(f"it refused to answer: {refusal}", refused=True)
        if message.get("tool_calls") or message.get("function_call"):
            return ReplyError("it called a tool, which nobody gave it, in place of answering")
        if message.get("content") == "":
            return ReplyError("it sent an empty answer")
        return ReplyError("what it sent holds no text")

    def answer(self) -> Answer:
        """Return the answer."""
        read, written = (self._usage.get(f"{kind}_tokens") for kind in ("prompt", "completion"))
        return Answer(
            text=self.text,
            prompt_tokens=read if isinstance(read, int) else 0,
            completion_tokens=written if isinstance(written, int) else 0,
            seconds=time.perf_counter() - self._since,
            finish_reason="length" if self._finish == "length" else "stop",
            counted=isinstance(read, int) and isinstance(written, int),
        )


def _object(text: str) -> Mapping[str, Any]:
    event = _parsed(text)
    if event is _NOT_JSON:
        raise ReplyError("what it sent is not JSON")
    if not isinstance(event, dict):
        raise ReplyError("what it sent is not a chat completion")
    return event


def _parsed(text: str) -> Any:
    """Return a JSON value; `_NOT_JSON` where a text is none, or is nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first_choice(event: Mapping[str, Any], *, required: bool) -> Mapping[str, Any]:
    choices = event.get("choices")
    if not isinstance(choices, list) or (required and not choices):
        raise ReplyError("what it sent is not a chat completion")
    return _mapping(choices[0]) if choices else {}
