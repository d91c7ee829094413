"""Scripted experts for tests: LangChain models that stream, fail, hang and call tools.

They need no network and no weights; what they answer follows from what they are sent.
`ScriptedChat` streams its words, `ScriptedToolChat` also calls tools; the ``Whole`` kinds cannot
stream. `ScriptedText` and `ScriptedWholeText` are text models.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tryage._scripted import Scripted, ScriptedText, ScriptedWholeText, spoken

__all__ = [
    "CallbackRecorder",
    "ScriptedChat",
    "ScriptedText",
    "ScriptedToolChat",
    "ScriptedToolWholeChat",
    "ScriptedWholeChat",
    "ScriptedWholeText",
]


class ScriptedWholeChat(Scripted, BaseChatModel):
    """A chat model that answers with its label and the last message; it cannot stream.

    Attributes:
        label: its name; answers begin with it, and ``label-model`` is the model that they name.
        answer: text of every answer, or a function from messages to it; None: as above.
        fault: exception that every call raises.
        gate: a `tryage.testing.Gate` that holds every call before its answer.
    """

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        params = super()._get_ls_params(stop=stop, **kwargs)
        return {**params, "ls_model_name": f"{self.label}-model", "ls_provider": "scripted"}

    def _text(self, messages: Sequence[BaseMessage], stop: Any, kwargs: dict[str, Any]) -> str:
        last = messages[-1].text
        return self._next_text(messages, last, messages=messages, stop=stop, kwargs=kwargs)

    def _message_fields(self, text: str) -> dict[str, Any]:
        written = len(text.split())
        usage = {"input_tokens": 5, "output_tokens": written, "total_tokens": 5 + written}
        return {
            "response_metadata": {"model_name": f"{self.label}-model"},
            "usage_metadata": usage,
        }

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self.gate is not None:
            self.gate.wait()
        text = self._text(messages, stop, kwargs)
        message = AIMessage(content=text, **self._message_fields(text))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self.gate is not None:
            await self.gate.wait_async()
        return self._generate(messages, stop, **kwargs)


class ScriptedChat(ScriptedWholeChat):
    """The same, streamed word by word.

    Attributes:
        late: exception that a stream raises after its first word.
    """

    late: Any = None

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        if self.gate is not None:
            self.gate.wait()
        text = self._text(messages, stop, kwargs)
        for piece in spoken(text, self.late):
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        last = AIMessageChunk(content="", **self._message_fields(text), chunk_position="last")
        yield ChatGenerationChunk(message=last)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        if self.gate is not None:
            await self.gate.wait_async()
        for chunk in self._stream(messages, stop, **kwargs):
            yield chunk


class ScriptedToolWholeChat(ScriptedWholeChat):
    """Calls tools; cannot stream.

    It calls the tool that `tool_choice` names, else the one whose name the last user message
    speaks of, with the number or the quoted text of that message as arguments. After a tool's
    result it answers.
    """

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[Any, AIMessage]:
        """Bind tools in OpenAI's format."""
        chosen = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=[convert_to_openai_tool(t) for t in tools], **chosen, **kwargs)

    def _tool_calls(
        self, messages: Sequence[BaseMessage], kwargs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        choice, tools = kwargs.get("tool_choice"), kwargs.get("tools") or []
        if isinstance(messages[-1], ToolMessage) and choice is None:
            return []
        text = next(m.text for m in reversed(messages) if isinstance(m, HumanMessage))
        tool = _required_tool(tools, choice, text)
        if tool is None:
            return []
        properties = tool.get("parameters", {}).get("properties", {})
        args = {name: _argument(schema, text) for name, schema in properties.items()}
        call_id = f"{self.label}-{len(self._calls)}"
        return [{"name": tool["name"], "args": args, "id": call_id, "type": "tool_call"}]

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        result = super()._generate(messages, stop, **kwargs)
        calls = self._tool_calls(messages, kwargs)
        if not calls:
            return result
        plain: Any = result.generations[0].message
        message = AIMessage(
            content="",
            tool_calls=calls,
            response_metadata=plain.response_metadata,
            usage_metadata=plain.usage_metadata,
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


class ScriptedToolChat(ScriptedToolWholeChat, ScriptedChat):
    """Calls tools as `ScriptedToolWholeChat` does, and streams the arguments in two pieces."""

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        calls = self._tool_calls(messages, kwargs)
        if not calls:
            yield from super()._stream(messages, stop, **kwargs)
            return
        if self.gate is not None:
            self.gate.wait()
        args = json.dumps(calls[0]["args"], ensure_ascii=False)
        fields = self._message_fields(self._text(messages, stop, kwargs))
        name = {"name": calls[0]["name"], "id": calls[0]["id"]}
        nameless = {"name": None, "id": None}
        pieces: list[Any] = [(name, args[:3], {}), (nameless, args[3:], fields)]
        for begun, piece, extra in pieces:
            call: Any = {**begun, "args": piece, "index": 0, "type": "tool_call_chunk"}
            message = AIMessageChunk(content="", tool_call_chunks=[call], **extra)
            yield ChatGenerationChunk(message=message)


class CallbackRecorder(BaseCallbackHandler):
    """Records what callbacks receive.

    Attributes:
        starts: of every run of a chat model: its keyword arguments, ``messages`` and
            ``serialized``.
        tokens: tokens that were streamed.
        ends: results of the runs that ended.
        errors: errors of runs of models and chains.
    """

    def __init__(self) -> None:
        self.starts: list[dict[str, Any]] = []
        self.tokens: list[Any] = []
        self.ends: list[LLMResult] = []
        self.errors: list[BaseException] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        """Record a start."""
        self.starts.append(kwargs | {"messages": messages, "serialized": serialized})

    def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        """Ignore chains."""

    def on_chain_error(self, error: BaseException, **kwargs: Any) -> None:
        """Record an error."""
        self.errors.append(error)

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        """Record a token."""
        self.tokens.append(token)

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        """Record a result."""
        self.ends.append(response)

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        """Record an error."""
        self.errors.append(error)


def _required_tool(
    tools: Sequence[dict[str, Any]], choice: Any, text: str
) -> dict[str, Any] | None:
    """Return the tool to call: the one chosen, else the one whose name the text speaks of."""
    by_name: dict[str, dict[str, Any]] = {}
    for tool in tools:
        by_name[tool["function"]["name"]] = tool["function"]
    if choice in by_name:
        return by_name[choice]
    for name, function in by_name.items():
        if any(word in text.lower() for word in name.split("_") if len(word) > 3):
            return function
    return next(iter(by_name.values())) if choice == "any" else None


def _argument(schema: dict[str, Any], text: str) -> Any:
    number = re.search(r"-?\d+", text)
    if schema.get("type") in ("integer", "number"):
        return int(number.group()) if number else 0
    quoted = re.search(r"['\"](.+?)['\"]", text)
    return quoted.group(1) if quoted else text
