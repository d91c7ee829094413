"""Structured output: an answer that does not fit the schema is a failure of its expert."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import BaseModel, ValidationError

from langchain_tryage._tools import NeutralTool
from tryage.errors import ExpertError

STRUCTURED = "_tryage_structured"
"""Call argument that says that the tools are a schema which the answer must fit."""


def require_fit(name: str, message: BaseMessage, tools: Sequence[Any]) -> None:
    """Refuse an answer that calls no schema, or one with arguments that do not fit it.

    Args:
        name: the expert.
        message: its answer.
        tools: the schemas, as `bind_tools` took them.

    Raises:
        ExpertError: it does not fit; the next expert is tried.
    """
    schemas = {_name(tool): getattr(tool, "original", tool) for tool in tools}
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    if not calls:
        raise ExpertError(f"{name} answered without the structure that was asked for")
    for call in calls:
        schema = schemas.get(call["name"])
        if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
            continue
        try:
            schema.model_validate(call["args"])
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"])) or call["name"]
            raise ExpertError(
                f"{name}'s answer does not fit {call['name']}: {field}: {first['msg']}"
            ) from None


def _name(tool: Any) -> str:
    return str(tool["function"]["name"]) if isinstance(tool, NeutralTool) else str(tool)
