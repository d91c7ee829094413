"""Ways to wait for a submitted call: blocking, awaited, or as a stream of pieces."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import wait
from typing import TypeVar

from tryage.runtime.answer import Answer
from tryage.runtime.batching import CallCancellation, Request

T = TypeVar("T")

Start = Callable[[Callable[[str], None] | None, CallCancellation], Request]
"""Submits a call: (function that takes each piece, cancellation) → the queued call."""


def wait_for_answer(start: Start) -> Answer:
    """Wait for an answer; an interrupt ends the generation."""
    cancel = CallCancellation()
    try:
        return start(None, cancel).future.result()
    except BaseException:
        cancel.set()
        raise


async def await_answer(start: Start) -> Answer:
    """Await an answer without a thread; cancelling ends the generation first."""
    cancel = CallCancellation()
    future = asyncio.wrap_future(start(None, cancel).future)
    return await _await_and_cancel(future, cancel)


async def _await_and_cancel(future: asyncio.Future[T], cancel: CallCancellation) -> T:
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancel.set()
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # marks it as retrieved: nobody waits for it any more
        raise


def start_in_thread(run: Callable[[], Answer]) -> Start:
    """Return a `Start` that runs a blocking call in its own thread and emits one piece."""

    def start(emit: Callable[[str], None] | None, cancel: CallCancellation) -> Request:
        request = Request(None, None, emit, cancel)

        def work() -> None:
            try:
                answer = run()
            except BaseException as error:  # noqa: BLE001 - the reader gets it
                request.fail(error)
            else:
                if emit is not None:
                    emit(answer.text)
                request.answer(answer)

        threading.Thread(target=work, name="tryage-call-once", daemon=True).start()
        return request

    return start


class TextStream(Iterator[str]):
    """The pieces of an answer as they are generated; read to the end, or use as context manager.

    Nothing runs before the first piece is read. Joined, the pieces are `answer.text`.

    Attributes:
        answer: the complete answer with its counts, after the last piece was read; else None.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._request: Request | None = None
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._closed = False
        self.answer: Answer | None = None

    def __next__(self) -> str:
        if self._closed:
            raise StopIteration
        try:
            if self._request is None:
                self._request = self._start(self._pieces.put, CallCancellation())
                pieces = self._pieces
                self._request.future.add_done_callback(lambda _: pieces.put(None))
            piece = self._pieces.get()
            if piece is not None:
                return piece
            self.answer = self._request.future.result()
        except BaseException:
            self.close()
            raise
        self._closed = True
        raise StopIteration

    def close(self) -> None:
        """End the generation; returns once the model is free."""
        self._closed = True
        if self._request is not None:
            self._request.cancel.set()
            wait([self._request.future])

    def __enter__(self) -> TextStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # An abandoned stream must not leave the model running.
        if self._request is not None:
            self._request.cancel.set()


class AsyncTextStream(AsyncIterator[str]):
    """`TextStream` for an event loop, which is not blocked while the model runs.

    Attributes:
        answer: the complete answer with its counts, after the last piece was read; else None.

    Args:
        begin: coroutine function that returns the `Start`; a model may have to be fetched first.
    """

    def __init__(self, begin: Callable[[], Awaitable[Start]]) -> None:
        self._begin = begin
        self._request: Request | None = None
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._closed = False
        self.answer: Answer | None = None

    def __aiter__(self) -> AsyncTextStream:
        return self

    async def __anext__(self) -> str:
        if self._closed:
            raise StopAsyncIteration
        try:
            if self._request is None:
                start = await self._begin()
                send = self._sender()
                self._request = start(send, CallCancellation())
                self._request.future.add_done_callback(lambda _: send(None))
            piece = await self._pieces.get()
            if piece is not None:
                return piece
            self.answer = self._request.future.result()
        except BaseException:
            await self.aclose()
            raise
        self._closed = True
        raise StopAsyncIteration

    def _sender(self) -> Callable[[str | None], None]:
        loop, pieces = asyncio.get_running_loop(), self._pieces

        def send(piece: str | None) -> None:
            # The loop may close while the model runs; then nobody reads.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        return send

    async def aclose(self) -> None:
        """End the generation; returns once the model is free."""
        self._closed = True
        if self._request is not None:
            self._request.cancel.set()
            future = asyncio.wrap_future(self._request.future)
            await asyncio.wait([future])
            future.exception()  # marks it as retrieved: the result of a closed stream is not needed

    async def __aenter__(self) -> AsyncTextStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._request is not None:
            self._request.cancel.set()


async def run_in_thread(work: Callable[[CallCancellation], Answer]) -> Answer:
    """Run blocking work in a thread; a cancelled caller waits until the work has ended."""
    cancel = CallCancellation()
    return await _await_and_cancel(asyncio.ensure_future(asyncio.to_thread(work, cancel)), cancel)
