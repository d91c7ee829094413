"""Pydantic schemas of Tryage's objects: models hold the objects, and dump plain types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import CoreSchema, core_schema

from tryage.characters import short


def object_schema(
    kind: type[Any],
    read: Callable[[Mapping[str, Any]], Any],
    write: Callable[[Any], dict[str, Any]],
    properties: Mapping[str, Any],
) -> CoreSchema:
    """Return pydantic's schema of a class.

    Objects pass unchanged. Dumped, also by `model_dump`, they are what `write` returns.

    Args:
        kind: the class.
        read: makes an object of what `write` returned; raises ValueError where it cannot.
        write: returns an object as JSON types.
        properties: JSON schema of what it returns, by key.
    """

    def validate(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if isinstance(value, Mapping):
            return read(value)
        raise ValueError(f"found {short(value)}; give a {kind.__name__} or a mapping")

    schema: CoreSchema = core_schema.no_info_plain_validator_function(
        validate,
        json_schema_input_schema=core_schema.dict_schema(),
        serialization=core_schema.plain_serializer_function_ser_schema(write),
        metadata={
            "pydantic_js_functions": [
                lambda _schema, _handler: {
                    "title": kind.__name__,
                    "type": "object",
                    "properties": dict(properties),
                }
            ]
        },
    )
    return schema
