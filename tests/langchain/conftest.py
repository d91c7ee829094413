"""Prompts of both kinds, and scripted experts for the fitted router."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from langchain_tryage.testing import (
    CallbackRecorder,
    ScriptedChat,
    ScriptedText,
    ScriptedToolChat,
    ScriptedToolWholeChat,
    ScriptedWholeChat,
    ScriptedWholeText,
)

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


async def until(condition, seconds=30):
    """Let other tasks run until a condition holds; fail if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture(scope="session")
def kit():
    """Prompts of both kinds, the scripted models, and a set of them for the fitted router."""

    def experts(kind=ScriptedChat, **faults):
        names = ("coder", "writer", "giant")
        return {name: kind(label=name, **faults.get(name, {})) for name in names}

    return SimpleNamespace(
        code=CODE,
        prose=PROSE,
        experts=experts,
        Whole=ScriptedWholeChat,
        Calling=ScriptedToolChat,
        CallingWhole=ScriptedToolWholeChat,
        Streaming=ScriptedChat,
        Text=ScriptedText,
        WholeText=ScriptedWholeText,
        Recorder=CallbackRecorder,
        until=until,
    )
