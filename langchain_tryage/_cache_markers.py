"""Prompt-cache markers of one vendor, which other vendors refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain.agents.middleware.types import ModelRequest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.tools import BaseTool

_SETTINGS = ("cache_control", "prompt_cache_key", "prompt_cache_retention", "cachedContent")
_HEADERS = ("x-session-affinity",)
_BLOCK_MARKERS = ("cache_control", "cachePoint")
_INSIDE = ("extras", "metadata")


def without_foreign_markers(request: ModelRequest[Any], model: BaseChatModel) -> ModelRequest[Any]:
    """Return the request, without cache markers if the model is of another vendor.

    Middleware that runs before the router's may have marked it for the agent's own model.

    Args:
        request: as the agent made it, for its own model.
        model: the one to call.
    """
    if _vendor(request.model) == _vendor(model):
        return request
    changed: dict[str, Any] = {
        "messages": [_message(message) for message in request.messages],
        "tools": [_tool(tool) for tool in request.tools],
        "model_settings": _settings(request.model_settings),
    }
    if request.system_message is not None:
        changed["system_message"] = _message(request.system_message)
    return request.override(**changed)


def _vendor(model: BaseChatModel) -> str:
    return model._get_ls_params().get("ls_provider", model._llm_type)


def _without_markers(value: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the markers of a block or tool; a tool's own parameters keep their names."""
    return {
        key: _without_markers(inner) if key in _INSIDE and isinstance(inner, Mapping) else inner
        for key, inner in value.items()
        if key not in _BLOCK_MARKERS
    }


def _message(message: BaseMessage) -> Any:
    if not isinstance(message.content, list):
        return message
    blocks = (_without_markers(b) if isinstance(b, dict) else b for b in message.content)
    return message.model_copy(update={"content": [block for block in blocks if block != {}]})


def _tool(tool: Any) -> Any:
    if isinstance(tool, BaseTool):
        if not tool.extras:
            return tool
        return tool.model_copy(update={"extras": _without_markers(tool.extras) or None})
    return _without_markers(tool)


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    remaining = {key: value for key, value in settings.items() if key not in _SETTINGS}
    headers = remaining.get("extra_headers")
    if isinstance(headers, Mapping):
        remaining["extra_headers"] = {k: v for k, v in headers.items() if k.lower() not in _HEADERS}
    return remaining
