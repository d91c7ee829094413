"""The answer of an endpoint, piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator

from tryage.runtime.answer import Answer
from tryage.runtime.chat_protocol import Reply


class EndpointStream(Iterator[str]):
    """The pieces of an answer as they arrive; closing the stream closes the connection.

    The request is sent when the first piece is read. Joined, the pieces are `answer.text`.

    Attributes:
        answer: the whole answer with its counts, once the last piece was read; else None.
    """

    def __init__(self, reply: Reply, pieces: Generator[str, None, None]) -> None:
        self._reply = reply
        self._pieces = pieces
        self.answer: Answer | None = None

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration:
            if self._reply.done:
                self.answer = self._reply.answer()
            raise

    def whole(self) -> Answer:
        """Return the answer; call this after the last piece was read."""
        return self._reply.answer()

    def close(self) -> None:
        """Stop reading and close the connection."""
        self._pieces.close()

    def __enter__(self) -> EndpointStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncEndpointStream(AsyncIterator[str]):
    """`EndpointStream` for an event loop.

    Attributes:
        answer: the whole answer with its counts, once the last piece was read; else None.
    """

    def __init__(self, reply: Reply, pieces: AsyncGenerator[str, None]) -> None:
        self._reply = reply
        self._pieces = pieces
        self.answer: Answer | None = None

    def __aiter__(self) -> AsyncEndpointStream:
        return self

    async def __anext__(self) -> str:
        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            if self._reply.done:
                self.answer = self._reply.answer()
            raise

    def whole(self) -> Answer:
        """Return the answer; call this after the last piece was read."""
        return self._reply.answer()

    async def aclose(self) -> None:
        """Stop reading and close the connection."""
        await self._pieces.aclose()

    async def __aenter__(self) -> AsyncEndpointStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
