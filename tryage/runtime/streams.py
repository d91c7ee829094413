"""Streams of text: errors reach the reader at once, closing one ends the generation."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tryage.runtime.answers import Answer

Work = Callable[[Callable[[str], None], threading.Event], Answer]
"""Generates: passes each piece of text on, looks at the event for cancellation."""


class _Worker:
    """One thread that generates; it is gone once `join` returns."""

    def __init__(self, work: Work, send: Callable[[str | None], None]) -> None:
        self.cancel = threading.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tryage-stream")
        self._future: Future[Answer] = self._executor.submit(work, send, self.cancel)
        self._future.add_done_callback(lambda _: send(None))

    def join(self) -> None:
        self._executor.shutdown(wait=True)

    def result(self) -> Answer:
        return self._future.result()


class TextStream(Iterator[str]):
    """Pieces of an answer as they are generated; use it as a context manager or read it out.

    Nothing runs before the first piece is asked for. Joined, the pieces are `answer.text`.

    Attributes:
        answer: the whole answer with its counts, once the last piece was read; else None.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._worker: _Worker | None = None
        self._pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._closed = False
        self.answer: Answer | None = None

    def __next__(self) -> str:
        if self._closed:
            raise StopIteration
        try:
            if self._worker is None:
                self._worker = _Worker(self._work, self._pieces.put)
            piece = self._pieces.get()
            if piece is not None:
                return piece
            self._worker.join()
            self.answer = self._worker.result()
        except BaseException:
            self.close()
            raise
        self._closed = True
        raise StopIteration

    def close(self) -> None:
        """End the generation; returns once its thread is gone."""
        self._closed = True
        if self._worker is not None:
            self._worker.cancel.set()
            self._worker.join()

    def __enter__(self) -> TextStream:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        # A reader that walks away must not leave a model running.
        if self._worker is not None:
            self._worker.cancel.set()


class AsyncTextStream(AsyncIterator[str]):
    """`TextStream` for an event loop, which stays free while the model works.

    Attributes:
        answer: the whole answer with its counts, once the last piece was read; else None.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._worker: _Worker | None = None
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._closed = False
        self.answer: Answer | None = None

    def __aiter__(self) -> AsyncTextStream:
        return self

    async def __anext__(self) -> str:
        if self._closed:
            raise StopAsyncIteration
        try:
            if self._worker is None:
                self._worker = _Worker(self._work, self._sender())
            piece = await self._pieces.get()
            if piece is not None:
                return piece
            await asyncio.to_thread(self._worker.join)
            self.answer = self._worker.result()
        except BaseException:
            await self.aclose()
            raise
        self._closed = True
        raise StopAsyncIteration

    def _sender(self) -> Callable[[str | None], None]:
        loop, pieces = asyncio.get_running_loop(), self._pieces

        def send(piece: str | None) -> None:
            # The loop may close while the model works; then nobody is left to read.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        return send

    async def aclose(self) -> None:
        """End the generation; returns once its thread is gone."""
        self._closed = True
        if self._worker is not None:
            self._worker.cancel.set()
            await asyncio.shield(asyncio.to_thread(self._worker.join))

    async def __aenter__(self) -> AsyncTextStream:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._worker is not None:
            self._worker.cancel.set()


async def run_cancellable(work: Callable[[threading.Event], Answer]) -> Answer:
    """Run blocking work in a thread; if the caller is cancelled, the work ends first."""
    cancel = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, cancel))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        cancel.set()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # marks it as seen: nobody waits for it any more
        raise
