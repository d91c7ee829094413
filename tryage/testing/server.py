"""`FakeOpenAI`: an OpenAI-compatible chat server on loopback that answers, streams and fails.

For tests only: it checks no key and listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from types import TracebackType
from typing import Any, Self

from tryage.errors import OptionError, did_you_mean
from tryage.testing.completions import completion, stream_events, words

Body = dict[str, Any]
Turn = str | tuple[int, Any] | tuple[int, Any, Mapping[str, str]]

STATUSES = {"fail": 500, "busy": 429, "refuse": 400, "unauthorized": 401, "missing": 404}

FAULTS = {
    **dict.fromkeys(STATUSES, ""),
    "answer": "answers",
    "crlf": "streams with CR LF at the ends of lines",
    "cut": "ends early: half of a body; a stream after its first piece, without its end",
    "drip": "sends spaces for ever, one after the other",
    "drop": "closes the connection without a word",
    "empty": "answers with an empty text",
    "endless": "streams for ever",
    "error": "streams a piece, then an error",
    "flood": "sends an error whose body never ends",
    "hang": "waits until `release`, then closes the connection",
    "nonsense": "answers with HTML",
    "sever": "promises more bytes than it sends",
    "wait": "waits until `release`, then answers",
}
"""Name of a turn → what the server does."""


class FakeOpenAI:
    """A server that speaks OpenAI's chat completions; use it in a ``with`` block.

    What it does with a request (its turn) is, in this order: the next entry of `script`; what
    `turns` says of the model's name; the first word of the model's name, between hyphens, that is
    one of `FAULTS` (``gpt-busy``, ``hang-coder``); else it answers.

    Args:
        reply: request body → text of the answer, or its message with ``content`` and
            ``tool_calls``. By default the model's name and the last message, or a call of the
            first tool.
        turns: model's name → turn.
        delay: seconds before every answer.
        timeout: seconds after which a request that waits goes on by itself.

    Attributes:
        script: turns of the next requests: a name from `FAULTS`, or (status, body) or (status,
            body, headers), the body text or JSON. Entries are removed as they are used.
        requests: bodies of the requests so far, each with its ``path``.
        keys: their Authorization headers, None without one.
        finish_reason: what answers state as the reason why they ended.
        counts: (prompt, completion) tokens that answers state; None: 5, and the words written.
        hung_up: set once a client closed a connection that was being written to.
    """

    def __init__(
        self,
        *,
        reply: Callable[[Body], str | Body] | None = None,
        turns: Mapping[str, Turn] | None = None,
        delay: float = 0.0,
        timeout: float = 30.0,
    ) -> None:
        for turn in (turns or {}).values():
            _check(turn)
        self.reply = reply or _echo
        self.turns = dict(turns or {})
        self.delay = delay
        self.timeout = timeout
        self.script: list[Turn] = []
        self.requests: list[Body] = []
        self.keys: list[str | None] = []
        self.finish_reason = "stop"
        self.counts: tuple[int, int] | None = None
        self.hung_up = threading.Event()
        self._released = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """Its port.

        Raises:
            RuntimeError: it does not run.
        """
        if self._server is None:
            raise RuntimeError("the server does not run; use it in a with block")
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Its address, as a base URL of OpenAI's clients."""
        return f"http://127.0.0.1:{self.port}/v1"

    def release(self) -> None:
        """Let the requests that wait go on, those that come later too."""
        self._released.set()

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None

    def waited(self, seconds: float | None = None) -> bool:
        """Wait until `release`, at most so long (`timeout`); return whether it was released."""
        return self._released.wait(self.timeout if seconds is None else seconds)

    def turn(self, body: Body) -> Turn:
        """Return what to do with a request, and take it off the script."""
        with self._lock:
            if self.script:
                return self.script.pop(0)
        model = str(body.get("model", ""))
        if model in self.turns:
            return self.turns[model]
        return next((word for word in model.split("-") if word in FAULTS), "answer")

    def record(self, body: Body, key: str | None) -> None:
        """Note a request."""
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)

    def message(self, body: Body, turn: str) -> Body:
        """Return the message that answers a request."""
        reply = "" if turn == "empty" else self.reply(body)
        message = {"content": reply} if isinstance(reply, str) else dict(reply)
        return {"role": "assistant", "content": None, **message}

    def usage(self, message: Body) -> dict[str, int]:
        """Return the token counts of an answer."""
        read, written = self.counts or (5, len(words(message["content"] or "")))
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, owner: FakeOpenAI) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note that a client hung up."""
        self.owner.hung_up.set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    _line_end = b"\n"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Read a request, and do what its turn says."""
        owner = self.server.owner
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(data)
        except ValueError:
            self._send(400, {"error": {"message": "the request is not JSON"}})
            return
        owner.record(body | {"path": self.path}, self.headers.get("Authorization"))
        turn = owner.turn(body)
        _check(turn)
        if owner.delay:
            sleep(owner.delay)
        if isinstance(turn, tuple):
            self._send(*turn)
        else:
            self._do(turn, body)

    def _do(self, turn: str, body: Body) -> None:
        if turn in ("hang", "wait"):
            self.server.owner.waited()
        if turn in ("hang", "drop"):
            self.close_connection = True
        elif turn in STATUSES:
            self._send(STATUSES[turn], {"error": {"message": f"{turn}!", "type": turn}})
        elif turn == "nonsense":
            self._send(200, "<html>")
        elif turn in ("drip", "flood"):
            self._trickle(turn)
        elif body.get("stream"):
            self._stream(turn, body)
        else:
            self._whole(turn, body)

    def _whole(self, turn: str, body: Body) -> None:
        owner = self.server.owner
        message = owner.message(body, turn)
        whole = completion(body, message, owner.usage(message), owner.finish_reason)
        if turn in ("cut", "sever"):
            data = json.dumps(whole).encode()
            self._headers(200, {"Content-Length": str(len(data))})
            self.close_connection = True
            self.wfile.write(data[: len(data) // 2])
        else:
            self._send(200, whole)

    def _send(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        self._headers(status, kind | dict(headers or {}))
        self.wfile.write(data)

    def _headers(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _trickle(self, turn: str) -> None:
        """Send what never ends: byte by byte an answer, or at once the body of an error."""
        self._headers(200 if turn == "drip" else 500, {"Connection": "close"})
        self.close_connection = True
        with self._client():
            while not self.server.owner.waited(0.01 if turn == "drip" else 0):
                self.wfile.write(b" " if turn == "drip" else b"x" * 10_000)
                self.wfile.flush()

    def _stream(self, turn: str, body: Body) -> None:
        owner = self.server.owner
        message = owner.message(body, turn)
        headers = {"Content-Type": "text/event-stream", "Connection": "close"}
        if turn == "sever":
            headers["Content-Length"] = "10000"
        self._headers(200, headers)
        self.close_connection = True
        pieces, ends = stream_events(body, message, owner.usage(message), owner.finish_reason)
        self._line_end = b"\r\n" if turn == "crlf" else b"\n"
        with self._client():
            for number, piece in enumerate(pieces):
                self._event(piece)
                if turn in ("cut", "sever") and number == 0:
                    return
                if turn == "error":
                    self._event({"error": {"message": "overloaded"}})
                    return
                while turn == "endless" and not owner.waited(0.01):
                    self._event(piece)
            for end in ends:
                self._event(end)
            self.wfile.write(b"data: [DONE]\n\n")

    @contextlib.contextmanager
    def _client(self) -> Any:
        """Note a client that hangs up, which is its right."""
        try:
            yield
        except OSError:
            self.server.owner.hung_up.set()

    def _event(self, event: Any) -> None:
        data = json.dumps(event, ensure_ascii=False).encode("utf-8", "replace")
        end = self._line_end
        self.wfile.write(b": comment" + end + b"data: " + data + end + end)
        self.wfile.flush()


def _echo(body: Body) -> str | Body:
    """Answer with the model's name and the last message, or call the first tool with sevens."""
    last = body["messages"][-1]
    tools: Sequence[Body] = body.get("tools") or ()
    if not tools or last["role"] == "tool":
        content = last["content"]
        if isinstance(content, list):
            content = " and ".join(part.get("text", part["type"]) for part in content)
        return f"{body['model']} says {content}"
    tool = tools[0]["function"]
    arguments = dict.fromkeys(tool["parameters"].get("properties", {}), 7)
    call = {"name": tool["name"], "arguments": json.dumps(arguments)}
    return {"tool_calls": [{"id": "call-1", "type": "function", "function": call}]}


def _check(turn: Turn) -> None:
    if isinstance(turn, str) and turn not in FAULTS:
        hint = did_you_mean(turn, FAULTS)
        raise OptionError(f"unknown turn {turn!r}; there are: {', '.join(FAULTS)}.{hint}")
