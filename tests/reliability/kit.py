"""What the reliability tests share: how many cases a loop tries, and a server on loopback."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator

LONG = "TRYAGE_RELIABILITY"
"""Environment variable: how many times as many cases as usual are tried."""

PATIENCE = 20.0
"""Seconds for which a server goes on with what ought to be cut off long before."""


TRIED = [0]
"""How many cases the present test has tried."""


def cases(usual: int, *, counted: bool = True) -> int:
    """Return how many cases a loop tries: `usual` in the suite, more in the long form.

    Args:
        usual: the number in the suite.
        counted: whether they are counted here, rather than one by one as they are tried.
    """
    number = max(1, round(usual * float(os.environ.get(LONG, "1"))))
    if counted:
        TRIED[0] += number
    return number


def completion(text: object, **message: object) -> bytes:
    """Return the body of a chat completion."""
    choice = {"message": {"content": text, **message}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]}).encode()


def event(**delta: object) -> bytes:
    """Return an event of a streamed chat completion."""
    return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"


def response(body: bytes, *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    """Return a whole HTTP response."""
    lines = [f"HTTP/1.1 {status}", *headers, "Connection: close"]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class RawServer:
    """Answers each request with the bytes that `reply` yields, then closes the connection.

    Attributes:
        reply: returns the bytes of a response, in the pieces in which they are sent.
        pause: seconds between two pieces.
        cut_off: how often a client hung up before the last piece was sent.
        requests: the requests, as they arrived.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.reply: Callable[[], Iterator[bytes]] = lambda: iter([response(completion("yes"))])
        self.pause = 0.0
        self.cut_off = 0
        self.requests: list[bytes] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        """Its address, as a library names it."""
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1"

    def answer(self, *pieces: bytes) -> None:
        """Answer every request with these bytes from now on."""
        self.pause = 0.0
        self.reply = lambda: iter(pieces)

    def drip(self, start: bytes, again: bytes, pause: float = 0.01) -> None:
        """Answer with `start`, and then with `again` over and over, until `PATIENCE` is over."""

        def reply() -> Iterator[bytes]:
            yield start
            for _ in range(round(PATIENCE / max(pause, 1e-5))):
                yield again

        self.pause, self.reply = pause, reply

    def close(self) -> None:
        """Stop, and wait for every thread."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(10)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(10)
            try:
                self.requests.append(_request(connection))
                for piece in self.reply():
                    connection.sendall(piece)
                    if self.pause and self._stopping.wait(self.pause):
                        return
            except OSError:
                self.cut_off += 1


def _request(connection: socket.socket) -> bytes:
    """Read one request to its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line[15:])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ),
        0,
    )
    while len(body) < length:
        body += _some(connection)
    return head + b"\r\n\r\n" + body


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(2**16)
    if not data:
        raise OSError("the client hung up")
    return data
