"""A small real HTTP server that speaks OpenAI's chat completions, on loopback.

What it does is read from the model's name: ``ok``, ``slow``, ``fail`` (500), ``busy`` (429),
``refuse`` (400), ``cut`` (the stream dies in the middle), ``drop`` (closes without a word),
``empty``.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW = 30.0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        """Say nothing."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(body)
        self.close_connection = True
        kind = body["model"].rpartition("-")[2]
        if kind == "slow":
            self.server.stopping.wait(SLOW)
            kind = "drop"
        if kind == "drop":
            return
        if kind in ("fail", "busy", "refuse"):
            status = {"fail": 500, "busy": 429, "refuse": 400}[kind]
            self._send(status, json.dumps({"error": {"message": f"{kind}!", "type": kind}}))
        elif body.get("stream"):
            self._stream(body, cut=kind == "cut")
        elif kind == "cut":
            self._send(200, json.dumps(answer(body))[:40], length=4000)
        else:
            self._send(200, json.dumps(answer(body)))

    def _send(self, status, text, *, length=None):
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body, *, cut):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        whole = answer(body)
        message = whole["choices"][0]["message"]
        words = message["content"].split(" ") if message["content"] else []
        deltas = [{"content": word if n == 0 else f" {word}"} for n, word in enumerate(words)]
        calls = message.get("tool_calls") or []
        deltas += [{"tool_calls": [{**call, "index": n}]} for n, call in enumerate(calls)]
        base = {key: whole[key] for key in ("id", "created", "model")}
        base["object"] = "chat.completion.chunk"
        for number, delta in enumerate(deltas):
            if cut and number == 1:
                return
            choice = {"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": None}
            self._chunk({**base, "choices": [choice]})
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self._chunk({**base, "choices": [end]})
        self._chunk({**base, "choices": [], "usage": whole["usage"]})
        self._data(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, value):
        self._data(f"data: {json.dumps(value)}\n\n".encode())

    def _data(self, data):
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def answer(body):
    """A whole completion: the model's name and the last message, or a call of the first tool."""
    last = body["messages"][-1]
    content = last["content"] if isinstance(last["content"], str) else "many parts"
    text = "" if body["model"].endswith("empty") else f"{body['model']} says {content}"
    message = {"role": "assistant", "content": text}
    if body.get("tools") and last["role"] != "tool":
        tool = body["tools"][0]["function"]
        names = tool["parameters"].get("properties", {})
        arguments = json.dumps(dict.fromkeys(names, 7))
        call = {"name": tool["name"], "arguments": arguments}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call-1", "type": "function", "function": call}],
        }
    read, written = 5, len(text.split())
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }


@contextmanager
def serve():
    """Run the server; yields it, with `url` and the bodies it has `seen`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.stopping = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
