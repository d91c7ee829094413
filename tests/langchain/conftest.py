"""Scripted chat models that answer from their input."""

from __future__ import annotations

import asyncio
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

_SKIPS = pytest.StashKey[dict[str, set[str]]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Note which of LangChain's standard tests are skipped."""
    report = yield
    if item.path.name == "test_standard.py" and item.cls is not None and report.skipped:
        skips = item.config.stash.setdefault(_SKIPS, {})
        skips.setdefault(item.cls.__name__, set()).add(item.originalname)
    return report


@pytest.fixture
def standard_skips(request):
    """Class of standard tests → names of those that were skipped."""
    return request.config.stash.get(_SKIPS, {})


CODE = "def alpha_count(total, count=3):\n    if total > count:\n        return total - count\n"
PROSE = "The quiet river follows the garden, and the garden watches a small village."


class Whole(BaseChatModel):
    """Answers with its label and the last message; cannot stream."""

    label: str
    fault: Any = None
    _calls: list[Any] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self):
        return "scripted"

    @property
    def _identifying_params(self):
        return {"label": self.label}

    def _get_ls_params(self, stop=None, **kwargs):
        params = super()._get_ls_params(stop=stop, **kwargs)
        return params | {"ls_model_name": f"{self.label}-model", "ls_provider": "scripted"}

    def _text(self, messages, stop, kwargs):
        self._calls.append({"messages": messages, "stop": stop, "kwargs": kwargs})
        if self.fault is not None:
            raise self.fault
        text = f"{self.label} says {messages[-1].text}"
        for mark in stop or []:
            text = text.partition(mark)[0]
        return text

    def _message_fields(self, text):
        written = len(text.split())
        usage = {"input_tokens": 5, "output_tokens": written, "total_tokens": 5 + written}
        return {
            "response_metadata": {"model_name": f"{self.label}-model"},
            "usage_metadata": usage,
        }

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        text = self._text(messages, stop, kwargs)
        message = AIMessage(content=text, **self._message_fields(text))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return self._generate(messages, stop, **kwargs)


class Streaming(Whole):
    """The same, word by word; `late` is raised after the first."""

    late: Any = None

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        text = self._text(messages, stop, kwargs)
        for number, word in enumerate(text.split(" ")):
            if number == 1 and self.late is not None:
                raise self.late
            piece = word if number == 0 else f" {word}"
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        last = AIMessageChunk(content="", **self._message_fields(text), chunk_position="last")
        yield ChatGenerationChunk(message=last)

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        for chunk in self._stream(messages, stop, **kwargs):
            yield chunk


def _wanted(tools, choice, text):
    """The tool to call, if any: the one chosen, else the one whose name the text speaks of."""
    by_name = {tool["function"]["name"]: tool["function"] for tool in tools}
    if choice in by_name:
        return by_name[choice]
    for name, tool in by_name.items():
        if any(word in text.lower() for word in name.split("_") if len(word) > 3):
            return tool
    return next(iter(by_name.values())) if choice == "any" else None


def _argument(schema, text):
    number = re.search(r"-?\d+", text)
    if schema.get("type") in ("integer", "number"):
        return int(number.group()) if number else 0
    quoted = re.search(r"['\"](.+?)['\"]", text)
    return quoted.group(1) if quoted else text


class _Calls:
    """Tools: what is called, and with which arguments, is read from the messages."""

    def bind_tools(self, tools, *, tool_choice=None, **kwargs):
        chosen = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=[convert_to_openai_tool(t) for t in tools], **chosen, **kwargs)

    def _tool_calls(self, messages, kwargs):
        choice, tools = kwargs.get("tool_choice"), kwargs.get("tools") or []
        if isinstance(messages[-1], ToolMessage) and choice is None:
            return []
        text = next(m.text for m in reversed(messages) if isinstance(m, HumanMessage))
        tool = _wanted(tools, choice, text)
        if tool is None:
            return []
        properties = tool.get("parameters", {}).get("properties", {})
        args = {name: _argument(schema, text) for name, schema in properties.items()}
        call_id = f"{self.label}-{len(self._calls)}"
        return [{"name": tool["name"], "args": args, "id": call_id, "type": "tool_call"}]

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        result = super()._generate(messages, stop, **kwargs)
        calls = self._tool_calls(messages, kwargs)
        if calls:
            message = result.generations[0].message
            message = AIMessage(content="", tool_calls=calls, **_recorded_fields(message))
            result = ChatResult(generations=[ChatGeneration(message=message)])
        return result


class CallingWhole(_Calls, Whole):
    """Calls tools; cannot stream."""


class Calling(_Calls, Streaming):
    """Calls tools, and streams the arguments in two pieces."""

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        calls = self._tool_calls(messages, kwargs)
        if not calls:
            yield from super()._stream(messages, stop, **kwargs)
            return
        args = json.dumps(calls[0]["args"], ensure_ascii=False)
        fields = self._message_fields(self._text(messages, stop, kwargs))
        name = {"name": calls[0]["name"], "id": calls[0]["id"]}
        pieces = [(name, args[:3], {}), ({"name": None, "id": None}, args[3:], fields)]
        for begun, piece, fields in pieces:
            call = {**begun, "args": piece, "index": 0, "type": "tool_call_chunk"}
            message = AIMessageChunk(content="", tool_call_chunks=[call], **fields)
            yield ChatGenerationChunk(message=message)


def _recorded_fields(message):
    return {
        "response_metadata": message.response_metadata,
        "usage_metadata": message.usage_metadata,
    }


class Recorder(BaseCallbackHandler):
    """Records what callbacks receive."""

    def __init__(self):
        self.starts = []
        self.tokens = []
        self.ends = []
        self.errors = []

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self.starts.append(kwargs | {"messages": messages, "serialized": serialized})

    def on_chain_start(self, serialized, inputs, **kwargs):
        pass

    def on_chain_error(self, error, **kwargs):
        self.errors.append(error)

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)

    def on_llm_end(self, response, **kwargs):
        self.ends.append(response)

    def on_llm_error(self, error, **kwargs):
        self.errors.append(error)


async def until(condition, seconds=30):
    """Let other tasks run until a condition holds; fail if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture(scope="session")
def kit():
    """Prompts of both kinds, the scripted models, and a set of them for the fitted router."""

    def experts(kind=Streaming, **faults):
        names = ("coder", "writer", "giant")
        return {name: kind(label=name, **faults.get(name, {})) for name in names}

    return SimpleNamespace(
        code=CODE,
        prose=PROSE,
        experts=experts,
        Whole=Whole,
        Calling=Calling,
        CallingWhole=CallingWhole,
        Streaming=Streaming,
        Recorder=Recorder,
        until=until,
    )
