"""A small chat endpoint that fails in every way that endpoints fail, for the soak.

``python benchmarks/fault_server.py`` prints its port and serves until its input ends.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("busy", "cut", "drop", "hang", "nonsense")
SHARE = 0.1
HANG = 0.4


class Handler(BaseHTTPRequestHandler):
    """Answers chat completions; a tenth of the requests meet a fault."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer one request, or fail."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = random.choice(FAULTS) if random.random() < SHARE else None
        if fault == "hang":
            time.sleep(HANG)
        if fault in ("drop", "hang"):
            self.close_connection = True
        elif fault == "busy":
            self._send(503, b"{}")
        elif fault == "nonsense":
            self._send(200, b"<html>")
        elif body.get("stream"):
            self._stream(cut=fault == "cut")
        else:
            choice = {"message": {"content": "an answer"}, "finish_reason": "stop"}
            self._send(200, json.dumps({"choices": [choice]}).encode())

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, *, cut: bool) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for piece in ("an ", "answer"):
            delta = {"choices": [{"delta": {"content": piece}}]}
            self.wfile.write(f"data: {json.dumps(delta)}\n\n".encode())
            if cut:
                return
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Says nothing about clients that hang up."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client hung up, which is its right."""


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
