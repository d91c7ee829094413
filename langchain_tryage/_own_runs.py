"""An expert's own callbacks: they receive the events of each of its calls, as of a direct call.

All other callbacks see the routing model's run alone. A handler that is in both lists gets each
event once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks

from langchain_tryage._experts import Call, Labels
from tryage.dispatch import aclose, close

ResultT = TypeVar("ResultT", ChatResult, LLMResult)
ChunkT = TypeVar("ChunkT")


class OwnRuns:
    """Reports an expert's calls to its own callbacks; does nothing where it has none.

    Args:
        labels: of the expert and its model.
        model: the expert's.
        prompts: what goes to it: messages, or the texts of a batch, each a run of its own.
        call: of the routing model.
        arguments: of the expert's call.
    """

    def __init__(
        self,
        labels: Labels,
        model: Any,
        prompts: list[Any],
        call: Call,
        arguments: Mapping[str, Any],
    ) -> None:
        self._handlers: list[Any] = []
        if not labels.handlers:
            return
        outer = call.run_manager
        outer_handlers = [] if outer is None else outer.handlers
        self._handlers += [handler for handler in labels.handlers if handler not in outer_handlers]
        self._parent = None if outer is None else outer.parent_run_id
        self._labels = labels
        self._model = model
        self._prompts = prompts
        self._arguments = dict(arguments)
        self._runs: list[Any] = []
        self._chunks: list[Any] = []

    def answer(self, call: Callable[[], ResultT]) -> ResultT:
        """Call the expert."""
        if not self._handlers:
            return call()
        self._runs = self._start(CallbackManager)
        try:
            result = call()
        except BaseException as error:
            for run in self._runs:
                run.on_llm_error(error, response=_NOTHING)
            raise
        for run, row in zip(self._runs, _rows(result), strict=False):
            run.on_llm_end(row)
        return result

    async def aanswer(self, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Call the expert."""
        if not self._handlers:
            return await call()
        self._runs = await self._start(AsyncCallbackManager)
        try:
            result = await call()
        except BaseException as error:
            for run in self._runs:
                await run.on_llm_error(error, response=_NOTHING)
            raise
        for run, row in zip(self._runs, _rows(result), strict=False):
            await run.on_llm_end(row)
        return result

    def stream(self, chunks: Iterator[ChunkT]) -> Iterator[ChunkT]:
        """Yield the expert's chunks."""
        try:
            if not self._handlers:
                yield from chunks
                return
            (run,) = self._start(CallbackManager)
            try:
                for chunk in chunks:
                    self._chunks.append(chunk)
                    run.on_llm_new_token(_token(chunk), chunk=chunk)
                    yield chunk
            except BaseException as error:
                run.on_llm_error(error, response=self._whole())
                raise
            run.on_llm_end(self._whole())
        finally:
            close(chunks)

    async def astream(self, chunks: AsyncIterator[ChunkT]) -> AsyncIterator[ChunkT]:
        """Yield the expert's chunks."""
        try:
            if not self._handlers:
                async for chunk in chunks:
                    yield chunk
                return
            (run,) = await self._start(AsyncCallbackManager)
            try:
                async for chunk in chunks:
                    self._chunks.append(chunk)
                    await run.on_llm_new_token(_token(chunk), chunk=chunk)
                    yield chunk
            except BaseException as error:
                await run.on_llm_error(error, response=self._whole())
                raise
            await run.on_llm_end(self._whole())
        finally:
            # Closed now, not at garbage collection: it may hold a connection.
            await aclose(chunks)

    def _start(self, kind: Callable[..., Any]) -> Any:
        """Begin the runs; awaitable where the manager is asynchronous."""
        model, arguments = self._model, self._arguments
        metadata = {**self._labels.metadata, **model._get_ls_params(**arguments)}
        manager = kind(
            self._handlers,
            parent_run_id=self._parent,
            tags=list(self._labels.tags),
            metadata=metadata,
        )
        stop = arguments.get("stop")
        run_options = {"options": {"stop": stop}, "batch_size": len(self._prompts)}
        if isinstance(model, BaseChatModel):
            params = model._get_invocation_params(**arguments)
            begin = manager.on_chat_model_start
        else:
            params = {**model._dict_for_compat(), "stop": stop}
            begin = manager.on_llm_start
        return begin(model._serialized, self._prompts, invocation_params=params, **run_options)

    def _whole(self) -> LLMResult:
        """Return the chunks so far as one answer."""
        if not self._chunks:
            return _NOTHING
        if isinstance(self._chunks[0], ChatGenerationChunk):
            whole: Any = merge_chat_generation_chunks(self._chunks)
        else:
            whole, *others = self._chunks
            for chunk in others:
                whole = whole + chunk
        return LLMResult(generations=[[whole]])


_NOTHING = LLMResult(generations=[[]])


def _rows(result: ChatResult | LLMResult) -> list[LLMResult]:
    if isinstance(result, LLMResult):
        return result.flatten()
    return [LLMResult(generations=[[*result.generations]], llm_output=result.llm_output)]


def _token(chunk: Any) -> Any:
    return chunk.message.content if isinstance(chunk, ChatGenerationChunk) else chunk.text
