"""Hundreds of calls of every kind, good and bad: threads and memory end where they were."""

import asyncio
import contextlib
import gc
import random
import threading
import time
import tracemalloc

import pytest
from kit import RawServer, cases, completion, event, response

from tryage import Expert, Library
from tryage.dispatch import (
    Breaker,
    DispatchOptions,
    Health,
    adispatch,
    adispatch_stream,
    dispatch,
    dispatch_batch,
    dispatch_stream,
)
from tryage.errors import TryageError
from tryage.experts import Endpoint
from tryage.runtime import EndpointOptions, Runtime

pytest.importorskip("httpx")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

MOST_GROWTH = 300_000
"""Bytes that the second half of the calls may leave behind, of some 250 calls."""

STREAM = response(b"", "Content-Type: text/event-stream", length=False)
REPLIES = (
    [response(completion("yes"))],
    [response(completion("yes"))],
    [STREAM, event(content="one "), event(content="two"), b"data: [DONE]\n\n"],
    [STREAM, event(content="one "), event(content="two"), b"data: [DONE]\n\n"],
    [response(b"{}", status="503 Busy")],
    [response(b'{"error": {"message": "no"}}', status="400 No")],
    [response(completion(""))],
    [STREAM, event(content="one ")],
    [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf"],
    [b"no HTTP"],
    [],
)


class Soak:
    """Calls two experts behind one server, in every way that there is.

    Attributes:
        answered: calls that gave an answer.
        failed: calls that raised Tryage's own error.
    """

    def __init__(self, server, decide, seed=0):
        self.answered = self.failed = 0
        self._server = server
        self._decide = decide
        self._chance = random.Random(seed)
        experts = [Expert(name=n, model="m", endpoint=Endpoint(url=server.url)) for n in "ab"]
        self.runtime = Runtime(
            Library(experts), endpoints=EndpointOptions(read=5, retries=1, backoff=0.001)
        )
        self.health = Health(Breaker(failures=4, seconds=0.01))

    def calls(self, count):
        """Make calls."""
        ways = (
            self._blocking,
            self._streamed,
            self._abandoned,
            self._awaited,
            self._awaited_stream,
            self._batch,
            self._late,
        )
        for _ in range(count):
            self._server.answer(*self._chance.choice(REPLIES))
            try:
                self._chance.choice(ways)()
            except TryageError:
                self.failed += 1
            else:
                self.answered += 1

    def _decision(self):
        return self._decide(*self._chance.sample("ab", 2))

    def _call(self, name):
        return self.runtime.run(name, "hello").text

    def _pieces(self, name):
        return self.runtime.stream(name, "hello")

    def _options(self):
        timeout = self._chance.choice([None, 20.0])
        return DispatchOptions(timeout=timeout)

    def _blocking(self):
        dispatch(self._decision(), self._call, self._options(), health=self.health)

    def _streamed(self):
        list(dispatch_stream(self._decision(), self._pieces, self._options(), health=self.health))

    def _abandoned(self):
        stream = dispatch_stream(
            self._decision(), self._pieces, self._options(), health=self.health
        )
        with contextlib.closing(stream):
            next(stream)

    def _awaited(self):
        async def call(name):
            return (await self.runtime.arun(name, "hello")).text

        asyncio.run(adispatch(self._decision(), call, self._options(), health=self.health))

    def _awaited_stream(self):
        async def read():
            stream = adispatch_stream(
                self._decision(),
                lambda name: self.runtime.astream(name, "hello"),
                self._options(),
                health=self.health,
            )
            return [piece async for piece in stream]

        asyncio.run(read())

    def _batch(self):
        def call(name, rows):
            return [self._call(name) for _ in rows]

        decisions = [self._decision() for _ in range(3)]
        for outcome in dispatch_batch(decisions, call, health=self.health):
            if isinstance(outcome, TryageError):
                raise outcome

    def _late(self):
        def call(name):
            time.sleep(0.003)
            return name

        dispatch(self._decision(), call, DispatchOptions(timeout=0.001))


def test_a_soak_leaves_neither_threads_nor_memory(socket_enabled, decide):
    server = RawServer()
    soak = Soak(server, decide)
    half = cases(250)
    try:
        soak.calls(50)
        soak.runtime.close()
        settle()
        threads = threading.active_count()
        tracemalloc.start()
        try:
            soak.calls(half)
            server.requests.clear()
            settle()
            before, _ = tracemalloc.get_traced_memory()
            soak.calls(half)
            server.requests.clear()
            settle()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        soak.runtime.close()
        settle()
        assert soak.answered + soak.failed == 50 + 2 * half
        assert min(soak.answered, soak.failed) > half / 5
        assert threading.active_count() <= threads
        assert after - before < MOST_GROWTH
    finally:
        server.close()


def settle():
    """Wait until the threads of calls are gone, and collect."""
    for _ in range(500):
        if not any(t.name.startswith("tryage-call") for t in threading.enumerate()):
            break
        time.sleep(0.01)
    gc.collect()
