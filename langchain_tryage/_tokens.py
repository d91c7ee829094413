"""Pieces of a streamed text, reported to the callbacks of the run that streams it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.outputs import GenerationChunk


class WholeText(GenerationChunk):
    """The answer of a model that does not stream, which is no token of its own."""


def reported(
    chunks: Iterator[GenerationChunk], run_manager: CallbackManagerForLLMRun | None
) -> Iterator[GenerationChunk]:
    """Tell a run's callbacks each chunk's text, which `BaseLLM.stream` leaves to the model."""
    for chunk in chunks:
        if run_manager is not None and not isinstance(chunk, WholeText):
            run_manager.on_llm_new_token(chunk.text, chunk=chunk)
        yield chunk


async def areported(
    chunks: AsyncIterator[GenerationChunk], run_manager: AsyncCallbackManagerForLLMRun | None
) -> AsyncIterator[GenerationChunk]:
    """Do what `reported` does, without blocking."""
    async for chunk in chunks:
        if run_manager is not None and not isinstance(chunk, WholeText):
            await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
        yield chunk
