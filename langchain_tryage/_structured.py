"""Structured output: each expert makes it in its own way; if it does not fit, the expert failed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from operator import itemgetter
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers.base import BaseLLMOutputParser
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import Runnable, RunnableConfig, RunnablePassthrough, RunnableSequence
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ValidationError

from tryage.dispatch import aclose
from tryage.errors import ExpertError

STRUCTURED = "_tryage_structured"
"""Call argument that holds the `Structure` which the answer must fit."""


class Structure:
    """A schema, and how `with_structured_output` was asked for it.

    Args:
        schema: as `with_structured_output` takes it.
        settings: its other arguments, such as `method` and `strict`.

    Attributes:
        tool: the schema as a tool in OpenAI's form.
    """

    def __init__(self, schema: Any, settings: Mapping[str, Any]) -> None:
        self.schema = schema
        self.settings = dict(settings)
        self.tool: dict[str, Any] = convert_to_openai_tool(schema)

    @property
    def name(self) -> str:
        """The schema's name."""
        return str(self.tool["function"]["name"])

    @property
    def needs_tools(self) -> bool:
        """Whether it is asked for by a tool, whatever else a model can do."""
        return self.settings.get("method") == "function_calling"

    def __repr__(self) -> str:
        # Part of cache keys, so it must differ between schemas.
        return f"Structure({json.dumps(self.tool, sort_keys=True)}, {self.settings})"

    def binding_of(self, model: BaseChatModel) -> tuple[Runnable[Any, Any], Runnable[Any, Any]]:
        """Return the model bound to the structure, and the parser of its answer.

        Raises:
            ExpertError: the model's runnable is not a model followed by a parser.
            NotImplementedError, ValueError: as its own `with_structured_output`.
        """
        runnable: Any = model.with_structured_output(self.schema, **self.settings)
        if not isinstance(runnable, RunnableSequence):
            raise ExpertError(
                f"{type(model).__name__}.with_structured_output is not a model followed by a parser"
            )
        first, *others = runnable.steps
        return first, others[0] if len(others) == 1 else RunnableSequence(*others)

    def require_fit(self, name: str, parser: Runnable[Any, Any], message: BaseMessage) -> None:
        """Refuse an answer that does not fit the schema.

        Args:
            name: the expert.
            parser: its own.
            message: its answer.

        Raises:
            ExpertError: it does not fit; the next expert is tried.
        """
        try:
            value = _parsed(parser, message)
        except Exception as error:  # noqa: BLE001 - vendors' parsers raise anything
            raise ExpertError(
                f"{name}'s answer does not fit {self.name}: {_reason(error)}"
            ) from None
        if value is None:
            raise ExpertError(f"{name} answered without the structure that was asked for")


class StructureParser(Runnable[Any, Any]):
    """Reads a routed answer with the parser of the expert that gave it.

    Args:
        model: the routing model.
        structure: the requested structure.
    """

    def __init__(self, model: Any, structure: Structure) -> None:
        self._model = model
        self._structure = structure

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Read one answer."""
        parser, message = self._parser_for(input)
        return parser.invoke(message, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Read one answer."""
        parser, message = self._parser_for(input)
        return await parser.ainvoke(message, config, **kwargs)

    def transform(
        self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Read a stream, as soon as its expert is known."""
        buffered: list[Any] = []
        for chunk in input:
            buffered.append(chunk)
            if _record(chunk) is not None:
                break
        if buffered:
            parser, buffered[-1] = self._parser_for(buffered[-1])
            yield from parser.transform(_joined(buffered, input), config, **kwargs)

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Read a stream, as soon as its expert is known."""
        buffered: list[Any] = []
        async for chunk in input:
            buffered.append(chunk)
            if _record(chunk) is not None:
                break
        if not buffered:
            return
        parser, buffered[-1] = self._parser_for(buffered[-1])
        parsed = parser.atransform(_ajoined(buffered, input), config, **kwargs)
        try:
            async for value in parsed:
                yield value
        finally:
            await aclose(parsed)

    def _parser_for(self, message: BaseMessage) -> tuple[Runnable[Any, Any], BaseMessage]:
        """Return the parser for a message, and the message as its expert returned it."""
        record = _record(message) or {}
        name = record.get("answered_by")
        expert = self._model._binding.experts.get(name)
        if expert is None:
            raise ExpertError(f"no expert is named that gave the structured answer: {name!r}")
        inner = record.get("inner")
        if inner is not None:
            response_metadata = {**message.response_metadata, "tryage": inner}
            message = message.model_copy(update={"response_metadata": response_metadata})
        return self._structure.binding_of(expert.model)[1], message


def structured(
    model: Any, schema: Any, include_raw: bool, settings: Mapping[str, Any]
) -> Runnable[Any, Any]:
    """Return a routing chat model whose answers are read into a schema.

    Args:
        model: the routing model.
        schema: as `with_structured_output` takes it.
        include_raw: whether to return a dict of ``raw``, ``parsed`` and ``parsing_error``.
        settings: `method`, `strict` and other arguments of the experts' `with_structured_output`.
    """
    structure = Structure(schema, settings)
    method = {"method": settings.get("method", "function_calling")}
    llm = model.bind(
        **{STRUCTURED: structure},
        ls_structured_output_format={"kwargs": {**settings, **method}, "schema": schema},
    )
    parser = StructureParser(model, structure)
    if not include_raw:
        parsed: Runnable[Any, Any] = llm | parser
        return parsed
    reads = RunnablePassthrough.assign(
        parsed=itemgetter("raw") | parser, parsing_error=lambda _: None
    )
    gives_up = RunnablePassthrough.assign(parsed=lambda _: None)
    raw: Runnable[Any, Any] = {"raw": llm} | reads.with_fallbacks(
        [gives_up], exception_key="parsing_error"
    )
    return raw


def _parsed(parser: Runnable[Any, Any], message: BaseMessage) -> Any:
    """Parse a message without runs that a tracer would record."""
    value: Any = message
    for step in parser.steps if isinstance(parser, RunnableSequence) else [parser]:
        if isinstance(step, BaseLLMOutputParser) and isinstance(value, BaseMessage):
            value = step.parse_result([ChatGeneration(message=value)])
        else:
            value = step.invoke(value, {"callbacks": []})
    return value


def _reason(error: BaseException) -> str:
    """Return why an answer does not fit, without quoting it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValidationError):
            first = cause.errors(include_url=False, include_input=False)[0]
            return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _record(message: Any) -> Mapping[str, Any] | None:
    record = message.response_metadata.get("tryage") if isinstance(message, BaseMessage) else None
    return record if isinstance(record, Mapping) else None


def _joined(buffered: list[Any], remaining: Iterator[Any]) -> Iterator[Any]:
    yield from buffered
    yield from remaining


async def _ajoined(buffered: list[Any], remaining: AsyncIterator[Any]) -> AsyncIterator[Any]:
    for chunk in buffered:
        yield chunk
    async for chunk in remaining:
        yield chunk
