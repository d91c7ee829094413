"""`TryageFlags`: takes flags off the user's own query before an engine sees it; passes them on."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.prompts.mixin import PromptMixinType
from llama_index.core.schema import QueryBundle

from tryage.binding import astream_passing_on, passing_on, stream_passing_on
from tryage.flags import Flags, parse


class TryageFlags(BaseQueryEngine):
    """Runs a query engine on the user's query without its flags; the routers inside obey them.

    What the engine adds afterwards, retrieved documents above all, never sets a flag, so
    `TryageLLM` and `TryageSelector` inside it need no `flags_from`::

        engine = TryageFlags(index.as_query_engine(llm=TryageLLM(router, experts)))

    Args:
        engine: any query engine.
        callback_manager: by default the engine's own.
    """

    def __init__(
        self, engine: BaseQueryEngine, *, callback_manager: CallbackManager | None = None
    ) -> None:
        self._engine = engine
        super().__init__(callback_manager or engine.callback_manager)

    def _get_prompt_modules(self) -> PromptMixinType:
        return {"engine": self._engine}

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        read, query = _read(query_bundle)
        with passing_on(read):
            return _passing_on(read, self._engine.query(query))

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        read, query = _read(query_bundle)
        with passing_on(read):
            return _passing_on(read, await self._engine.aquery(query))


def _passing_on(flags: Flags, response: RESPONSE_TYPE) -> RESPONSE_TYPE:
    """Let flags act while a streamed response is read: only then the engine asks its LLM."""
    if isinstance(response, StreamingResponse) and response.response_gen is not None:
        response.response_gen = stream_passing_on(flags, response.response_gen)
    elif isinstance(response, AsyncStreamingResponse):
        response.response_gen = astream_passing_on(flags, response.response_gen)
    return response


def _read(query: QueryBundle) -> tuple[Flags, QueryBundle]:
    """Return the flags of a query, and the query without them; `query` itself stays as it is."""
    read = parse(query.query_str)
    if not read.found:
        return read, query
    others: dict[str, Any] = {
        "image_path": query.image_path,
        # Made of the text with its flags, so made anew.
        "custom_embedding_strs": None,
        "embedding": None,
    }
    return read, QueryBundle(read.prompt, **others)
