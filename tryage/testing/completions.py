"""Bodies of chat completions, whole and as the events of a stream."""

from __future__ import annotations

import re
from typing import Any

Body = dict[str, Any]


def words(text: str) -> list[str]:
    """Return the pieces in which a text is streamed: words, each with the space before it."""
    return re.findall(r" ?[^ ]+| +", text)


def completion(body: Body, message: Body, usage: dict[str, int], finish_reason: str) -> Body:
    """Return a whole completion that answers a request."""
    choice = {"index": 0, "message": message, "finish_reason": _reason(message, finish_reason)}
    return _frame(body, "chat.completion") | {"choices": [choice], "usage": usage}


def stream_events(
    body: Body, message: Body, usage: dict[str, int], finish_reason: str
) -> tuple[list[Body], list[Body]]:
    """Return the events of a stream: its pieces, and what comes at its end."""
    frame = _frame(body, "chat.completion.chunk")
    deltas: list[Body] = [{"content": piece} for piece in words(message["content"] or "")]
    calls = message.get("tool_calls") or []
    deltas += [{"tool_calls": [{**call, "index": n}]} for n, call in enumerate(calls)]
    pieces = [
        frame
        | {"choices": [{"index": 0, "delta": {"role": "assistant"} | delta, "finish_reason": None}]}
        for delta in deltas
    ]
    reason = _reason(message, finish_reason)
    end = frame | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    return pieces, [end, frame | {"choices": [], "usage": usage}]


def _reason(message: Body, finish_reason: str) -> str:
    return "tool_calls" if message.get("tool_calls") else finish_reason


def _frame(body: Body, kind: str) -> Body:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": body.get("model", "")}
