"""Which chunk of a stream the record of its dispatch belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

from tryage.dispatch.scopes import END

T = TypeVar("T")


def marked(chunks: Iterator[T], *, late: bool) -> Iterator[tuple[T, bool]]:
    """Yield every chunk, and whether the record of the dispatch belongs to it.

    Args:
        chunks: of a stream.
        late: whether that is the last chunk in place of the first, see `Stream.is_checked_late`.
    """
    if not late:
        is_first = True
        for chunk in chunks:
            yield chunk, is_first
            is_first = False
        return
    held = next(chunks, END)
    for chunk in chunks:
        yield held, False
        held = chunk
    if held is not END:
        yield held, True


async def amarked(chunks: AsyncIterator[T], *, late: bool) -> AsyncIterator[tuple[T, bool]]:
    """Do what `marked` does."""
    if not late:
        is_first = True
        async for chunk in chunks:
            yield chunk, is_first
            is_first = False
        return
    held = await anext(chunks, END)
    async for chunk in chunks:
        yield held, False
        held = chunk
    if held is not END:
        yield held, True
