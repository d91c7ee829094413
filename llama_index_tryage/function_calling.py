"""`TryageFunctionCallingLLM`: tools reach the chosen expert through its own preparation."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from inspect import isawaitable
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    LLMMetadata,
    MessageRole,
    ToolCallBlock,
)
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools.types import BaseTool

from llama_index_tryage._fields import metadata_or_reason
from llama_index_tryage._inputs import CallInput
from llama_index_tryage.llm import TryageLLM
from tryage import Router
from tryage.dispatch import blame_request
from tryage.errors import ExpertError


class TryageFunctionCallingLLM(TryageLLM, FunctionCallingLLM):
    """A `TryageLLM` that agents and structured programs can give tools to.

    A call with tools goes to an expert that calls functions; the others are not eligible for it,
    with that reason. The expert converts the tools itself, so experts of several vendors may stand
    side by side. A call without tools may go to any expert.

    Args:
        router: a router, a router folder, the name of a bundled router or a Hub id.
        experts: expert name → LLM; None runs the library's own Hugging Face pipelines.
        **options: as `TryageLLM`.
    """

    def __init__(
        self,
        router: Router | str | Path,
        experts: Mapping[str, LLM] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(router, experts, **options)

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex knows this class."""
        return "TryageFunctionCallingLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """As `TryageLLM.metadata`; it calls functions where an expert that may answer does."""
        callers = [name for name in self._generative() if self._why_no_tools(name) is None]
        metadata_ = super().metadata
        return metadata_.model_copy(update={"is_function_calling_model": bool(callers)})

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return arguments of `chat` that no expert's format has touched yet."""
        messages = list(chat_history or [])
        if isinstance(user_msg, str):
            user_msg = ChatMessage(user_msg, role=MessageRole.USER)
        if user_msg is not None:
            messages.append(user_msg)
        if not tools:  # other arguments about tools would reach experts that take none
            return {"messages": messages, **kwargs}
        return {
            "messages": messages,
            "tools": list(tools),
            "verbose": verbose,
            "allow_parallel_tool_calls": allow_parallel_tool_calls,
            "tool_required": tool_required,
            **kwargs,
        }

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the tool calls of a response, as the expert that wrote it reads them.

        Raises:
            ValueError: there are none and `error_on_no_tool_call` says that this is an error.
        """
        record = response.additional_kwargs.get("tryage") or {}
        expert = self._binding.experts.get(record.get("answered_by", ""))
        if isinstance(expert, FunctionCallingLLM):
            # To a router among the experts the response is as it gave it.
            inner_kwargs = {**response.additional_kwargs, "tryage": record.get("inner")}
            return expert.get_tool_calls_from_response(
                response.model_copy(update={"additional_kwargs": inner_kwargs}),
                error_on_no_tool_call=error_on_no_tool_call,
                **kwargs,
            )
        calls = self._read_calls(response.message)
        if not calls and error_on_no_tool_call:
            raise ValueError("the response holds no tool calls")
        return calls

    def _read_calls(self, message: ChatMessage) -> list[ToolSelection]:
        """Return the calls of a message whose expert is unknown, such as one of a history.

        Calls in blocks are in LlamaIndex's form; others are in that of one of the experts.
        """
        blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
        if blocks or not message.additional_kwargs.get("tool_calls"):
            return [_selection(block) for block in blocks]
        response = ChatResponse(message=message)
        for expert in self._binding.experts.values():
            if not isinstance(expert, FunctionCallingLLM):
                continue
            try:
                calls = expert.get_tool_calls_from_response(response, error_on_no_tool_call=False)
            except Exception:  # noqa: BLE001 - vendors' classes raise anything on others' calls
                continue
            if calls:
                return calls
        return []

    def _unfit(self, call_input: CallInput, kwargs: Mapping[str, Any]) -> dict[str, str]:
        reasons = super()._unfit(call_input, kwargs)
        if _holds_tools(kwargs):
            for name in self._binding.experts:
                why = self._why_no_tools(name)
                if why is not None:
                    reasons[name] = why
        return reasons

    def _method_of(
        self, method: str, kwargs: Mapping[str, Any]
    ) -> Callable[[str, LLM], Callable[[Any], Any]]:
        if not _holds_tools(kwargs):
            return super()._method_of(method, kwargs)
        tools, others = kwargs["tools"], {k: v for k, v in kwargs.items() if k != "tools"}

        def call_with_tools(name: str, expert: LLM) -> Callable[[Any], Any]:
            call = getattr(self._child(name, expert), f"{method}_with_tools")
            ask = partial(call, tools, **others)
            return lambda messages: _blaming_tools(tools, partial(ask, chat_history=list(messages)))

        return call_with_tools

    def _why_no_tools(self, name: str) -> str | None:
        """Return why an expert takes no tools, or None where it does."""
        expert = self._binding.experts[name]
        if self._binding.router.library[name].tools is False:
            return "it takes no tools, says the library"
        if not isinstance(expert, FunctionCallingLLM):
            return f"it takes no tools: {type(expert).__name__} is no FunctionCallingLLM"
        stated = metadata_or_reason(expert)
        if isinstance(stated, str):
            return f"whether it takes tools is unknown: {stated}"
        if not stated.is_function_calling_model:
            return "it takes no tools: its model does not call functions"
        return None


def _holds_tools(kwargs: Mapping[str, Any]) -> bool:
    """Whether a call carries tools of LlamaIndex, rather than a vendor's descriptions of them."""
    tools = kwargs.get("tools")
    return (
        isinstance(tools, list)
        and bool(tools)
        and all(isinstance(tool, BaseTool) for tool in tools)
    )


def _blaming_tools(tools: Sequence[BaseTool], ask: Callable[[], Any]) -> Any:
    """Call an expert; where tools cannot be described to any, its error is the request's fault."""
    try:
        answer = ask()
    except Exception as error:
        _blame_if_bad(tools, error)
        raise
    return _ablaming_tools(tools, answer) if isawaitable(answer) else answer


async def _ablaming_tools(tools: Sequence[BaseTool], answer: Awaitable[Any]) -> Any:
    """Do what `_blaming_tools` does."""
    try:
        return await answer
    except Exception as error:
        _blame_if_bad(tools, error)
        raise


def _blame_if_bad(tools: Sequence[BaseTool], error: Exception) -> None:
    try:
        for tool in tools:
            tool.metadata.to_openai_tool()
    except Exception:  # noqa: BLE001 - a tool's schema is the user's own and may raise anything
        blame_request(error)


def _selection(block: ToolCallBlock) -> ToolSelection:
    """Return a call in LlamaIndex's form; no text at all stands for no arguments.

    Raises:
        ExpertError: the arguments are no JSON object.
    """
    arguments = block.tool_kwargs
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError) as error:
            raise ExpertError(
                f"the call of tool {block.tool_name!r} is not JSON: {error}"
            ) from error
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise ExpertError(
            f"the call of tool {block.tool_name!r} holds {type(arguments).__name__} where its "
            "arguments are named"
        )
    return ToolSelection(
        tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=arguments
    )
