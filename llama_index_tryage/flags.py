"""`TryageFlags`: takes flags off what the user wrote before an engine or an agent sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.base.response.schema import (
    RESPONSE_TYPE,
    AsyncStreamingResponse,
    StreamingResponse,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.chat_engine.types import (
    AGENT_CHAT_RESPONSE_TYPE,
    BaseChatEngine,
    StreamingAgentChatResponse,
)
from llama_index.core.prompts.mixin import PromptMixin, PromptMixinType
from llama_index.core.schema import NodeWithScore, QueryBundle

from llama_index_tryage._inputs import strip_messages
from tryage.binding import astream_passing_on, check_options, passing_on, stream_passing_on
from tryage.errors import PromptError
from tryage.flags import Flags, parse

_MESSAGES = ("user_msg", "chat_history", "memory", "ctx")
"""Positional arguments of an agent's `run`."""


class TryageFlags(BaseQueryEngine, BaseChatEngine):
    """Runs an engine or an agent on the user's text without its flags; routers inside obey them.

    Nothing else sets a flag inside: no retrieved document, no result of a tool, no memory, no
    earlier answer. So `TryageLLM` and `TryageSelector` need no `flags_from` there. They route by
    the user's text, whatever is built around it::

        engine = TryageFlags(index.as_query_engine(llm=TryageLLM(router, experts)))
        chat = TryageFlags(index.as_chat_engine(llm=TryageLLM(router, experts)))
        agent = TryageFlags(FunctionAgent(tools=tools, llm=TryageFunctionCallingLLM(router)))

    It has the methods of what it is given: `query`, `retrieve` and `synthesize`, `chat` and
    `stream_chat`, or `run`, and passes on every other attribute.

    Args:
        engine: a query engine, a chat engine, or an agent or workflow, which `run` starts.
        callback_manager: by default the engine's own.
        key: argument of `run` that holds the user's text.

    Raises:
        TypeError: it is none of these.
    """

    def __init__(
        self,
        engine: Any,
        *,
        callback_manager: CallbackManager | None = None,
        key: str = "user_msg",
    ) -> None:
        if not any(hasattr(engine, method) for method in ("query", "chat", "run")):
            raise TypeError(
                f"engine is of type {type(engine).__name__}; it is a query engine, a chat engine "
                "or an agent"
            )
        check_options({"key": key})
        self._engine = engine
        self._key = key
        engine_manager = getattr(engine, "callback_manager", None)
        super().__init__(callback_manager or engine_manager or CallbackManager([]))

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the engine."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._engine, name)

    def _get_prompt_modules(self) -> PromptMixinType:
        return {"engine": self._engine} if isinstance(self._engine, PromptMixin) else {}

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        flags_read, query = _read_query(query_bundle)
        with passing_on(flags_read):
            return _passing_on(flags_read, self._engine.query(query))

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        flags_read, query = _read_query(query_bundle)
        with passing_on(flags_read):
            return _passing_on(flags_read, await self._engine.aquery(query))

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Return what the engine retrieves."""
        flags_read, query = _read_query(query_bundle)
        with passing_on(flags_read):
            nodes: list[NodeWithScore] = self._engine.retrieve(query)
            return nodes

    async def aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """Return what the engine retrieves."""
        flags_read, query = _read_query(query_bundle)
        with passing_on(flags_read):
            nodes: list[NodeWithScore] = await self._engine.aretrieve(query)
            return nodes

    def synthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """Return the engine's answer from these nodes."""
        flags_read, query = _read_query(query_bundle)
        with passing_on(flags_read):
            response = self._engine.synthesize(query, nodes, additional_source_nodes)
            return _passing_on(flags_read, response)

    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> RESPONSE_TYPE:
        """Return the engine's answer from these nodes."""
        flags_read, query = _read_query(query_bundle)
        with passing_on(flags_read):
            response = await self._engine.asynthesize(query, nodes, additional_source_nodes)
            return _passing_on(flags_read, response)

    def chat(
        self,
        message: str | QueryBundle,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> AGENT_CHAT_RESPONSE_TYPE:
        """Return the chat engine's answer; `kwargs` reach it."""
        flags_read, message = _read_message(message)
        with passing_on(flags_read):
            response: AGENT_CHAT_RESPONSE_TYPE = self._engine.chat(
                message, _without_flags(chat_history), **kwargs
            )
            return response

    async def achat(
        self,
        message: str | QueryBundle,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> AGENT_CHAT_RESPONSE_TYPE:
        """Return the chat engine's answer; `kwargs` reach it."""
        flags_read, message = _read_message(message)
        with passing_on(flags_read):
            response: AGENT_CHAT_RESPONSE_TYPE = await self._engine.achat(
                message, _without_flags(chat_history), **kwargs
            )
            return response

    def stream_chat(
        self,
        message: str | QueryBundle,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> StreamingAgentChatResponse:
        """Stream the chat engine's answer; `kwargs` reach it."""
        flags_read, message = _read_message(message)
        with passing_on(flags_read):
            response: StreamingAgentChatResponse = self._engine.stream_chat(
                message, _without_flags(chat_history), **kwargs
            )
            return response

    async def astream_chat(
        self,
        message: str | QueryBundle,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> StreamingAgentChatResponse:
        """Stream the chat engine's answer; `kwargs` reach it."""
        flags_read, message = _read_message(message)
        with passing_on(flags_read):
            response: StreamingAgentChatResponse = await self._engine.astream_chat(
                message, _without_flags(chat_history), **kwargs
            )
            return response

    def reset(self) -> None:
        """Reset the chat engine's conversation."""
        self._engine.reset()

    @property
    def chat_history(self) -> list[ChatMessage]:
        """The chat engine's conversation."""
        history: list[ChatMessage] = self._engine.chat_history
        return history

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Start the agent or workflow; arguments and result are those of its own `run`.

        Raises:
            PromptError: nothing is given that the user may have written.
        """
        kwargs |= dict(zip(_MESSAGES, args, strict=False))
        start = kwargs.get("start_event")
        if start is None:
            flags_read, kwargs = self._read_run(kwargs)
        else:
            flags_read, fields = self._read_run(dict(start.items()))
            kwargs["start_event"] = type(start)(**fields)
        with passing_on(flags_read):
            return self._engine.run(**kwargs)

    def _read_run(self, fields: dict[str, Any]) -> tuple[Flags, dict[str, Any]]:
        """Return the flags of the messages that a run is started with, and these without them."""
        message, history = fields.get(self._key), fields.get("chat_history")
        own = message
        if own is None and history and history[-1].role == MessageRole.USER:
            own = history[-1]
        if own is None and fields.get("ctx") is None:  # a run that goes on has been told before
            raise PromptError(
                f"run has no argument {self._key!r}; say with key= which one holds the user's text"
            )
        flags_read = Flags("") if own is None else parse(_text(own))
        stripped: dict[str, Any] = {}
        if message is not None:
            stripped[self._key] = _stripped(message)
        if history is not None:
            stripped["chat_history"] = _without_flags(history)
        return flags_read, {**fields, **stripped}


def _passing_on(flags: Flags, response: RESPONSE_TYPE) -> RESPONSE_TYPE:
    """Let flags act while a streamed response is read: only then the engine asks its LLM."""
    if isinstance(response, StreamingResponse) and response.response_gen is not None:
        response.response_gen = stream_passing_on(flags, response.response_gen)
    elif isinstance(response, AsyncStreamingResponse):
        response.response_gen = astream_passing_on(flags, response.response_gen)
    return response


def _read_message(message: str | QueryBundle) -> tuple[Flags, str | QueryBundle]:
    """Return the flags of what a user says to a chat engine, and the message without them."""
    if isinstance(message, QueryBundle):
        return _read_query(message)
    flags_read = parse(message)
    return flags_read, flags_read.prompt


def _text(message: str | ChatMessage) -> str:
    return message if isinstance(message, str) else message.content or ""


def _stripped(message: str | ChatMessage) -> str | ChatMessage:
    return parse(message).prompt if isinstance(message, str) else strip_messages([message])[0]


def _without_flags(messages: Sequence[ChatMessage] | None) -> list[ChatMessage] | None:
    """Return a history without flags: those of earlier turns acted then."""
    return None if messages is None else strip_messages(messages)


def _read_query(query: QueryBundle) -> tuple[Flags, QueryBundle]:
    """Return the flags of a query, and a copy of it without them."""
    flags_read = parse(query.query_str)
    if not flags_read.found:
        return flags_read, query
    others: dict[str, Any] = {
        "image_path": query.image_path,
        # Made of the text with its flags, so made anew.
        "custom_embedding_strs": None,
        "embedding": None,
    }
    return flags_read, QueryBundle(flags_read.prompt, **others)
