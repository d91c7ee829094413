"""Measure what `TryageLLM` adds to a direct call of its expert: `make bench-adapters`.

An expert that does nothing is called directly and through the bundled router `open7`, the two in
turns, every prompt once, so that whatever else the machine does falls on both alike. Then calls of
an expert that takes 100 ms, one and fifty at once, directly and routed. Writes
benchmarks/results/adapters_llama_index.json, fills in the table of docs/llama-index.md, and exits
with 1 where a figure misses its bound.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from adapters_llama_index_table import MARKS, PAGE, table
from data import fill_in
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms import LLM, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.tools import ToolMetadata

from llama_index_tryage import TryageLLM, TryageSelector
from tryage import Router

RESULTS = Path(__file__).parent / "results" / "adapters_llama_index.json"
CALLS, WARM_UP, ROUNDS, AT_ONCE, SLEEP = 400, 50, 30, 50, 0.1
BOUNDS = {"added_ms": 1.0, "fifty_over_one": 1.3}
SEED = 0
WORDS = "train leaves station covers river garden function returns list sorted proof number".split()

Call = Callable[[str], Any]
ACall = Callable[[str], Awaitable[Any]]


class Instant(CustomLLM):
    """Answers at once; its asynchronous chat takes as long as it is told."""

    seconds: float = 0.0

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know."""
        return LLMMetadata(is_chat_model=True, model_name="instant")

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **_: Any) -> ChatResponse:
        """Answer at once."""
        return ChatResponse(message=ChatMessage("So be it.", role="assistant"))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **_: Any) -> ChatResponse:
        """Answer after a while, leaving the event loop free."""
        await asyncio.sleep(self.seconds)
        return ChatResponse(message=ChatMessage("So be it.", role="assistant"))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **_: Any) -> Iterator[ChatResponse]:
        """Answer in one piece."""
        yield ChatResponse(message=ChatMessage("So be it.", role="assistant"))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        """Answer at once."""
        return CompletionResponse(text="So be it.")

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **_: Any
    ) -> Iterator[CompletionResponse]:
        """Answer in one piece."""
        yield CompletionResponse(text="So be it.")


def prompts(count: int, start: int = 0) -> list[str]:
    """Texts of some 40 words, all different."""
    return [
        " ".join(WORDS[(n * k + k) % len(WORDS)] for k in range(40)) + f" {n}?"
        for n in range(start, start + count)
    ]


def in_turns(direct: Call, routed: Call) -> dict[str, Any]:
    """Time both ways on every prompt."""

    def clock(call: Call, text: str) -> float:
        started = time.perf_counter()
        call(text)
        return time.perf_counter() - started

    timings = [
        [clock(call, text) for call in (direct, routed)] for text in prompts(CALLS + WARM_UP)
    ]
    return added(timings[WARM_UP:])


async def ain_turns(direct: ACall, routed: ACall) -> dict[str, Any]:
    """Time both ways on every prompt, awaited."""

    async def clock(call: ACall, text: str) -> float:
        started = time.perf_counter()
        await call(text)
        return time.perf_counter() - started

    texts = prompts(CALLS + WARM_UP)
    timings = [[await clock(call, text) for call in (direct, routed)] for text in texts]
    return added(timings[WARM_UP:])


def added(timings: list[list[float]]) -> dict[str, Any]:
    """Return medians in milliseconds, and of the paired differences an interval too."""
    direct, routed = 1e3 * np.array(timings).T
    return {
        "direct_ms": float(np.median(direct)),
        "routed_ms": float(np.median(routed)),
        "added_ms": float(np.median(routed - direct)),
        "added_ms_ci95": interval(np.median, routed - direct),
    }


def interval(statistic: Callable[..., Any], *samples: np.ndarray) -> list[float]:
    """Return the 95 % interval of a statistic by bootstrap; samples are drawn together."""
    drawn = np.random.default_rng(SEED).integers(0, len(samples[0]), (1000, len(samples[0])))
    values = [statistic(*(sample[rows] for sample in samples)) for rows in drawn]
    return [float(np.quantile(values, share)) for share in (0.025, 0.975)]


async def at_once(llm: LLM, texts: list[str]) -> tuple[float, float]:
    """Return the seconds of all calls together, and for how long the event loop stood still."""
    pauses, done = [0.0], asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            pauses.append(time.perf_counter() - began - 0.001)

    watcher = asyncio.create_task(watch())
    started = time.perf_counter()
    await asyncio.gather(*(llm.achat([ChatMessage(text)]) for text in texts))
    seconds = time.perf_counter() - started
    done.set()
    await watcher
    return seconds, max(pauses)


async def concurrent(ways: dict[str, LLM]) -> dict[str, dict[str, Any]]:
    """Call every way once and fifty times at once, in turns, after a round that warms up."""
    timings: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        texts = prompts(AT_ONCE, number * AT_ONCE)
        for name, llm in ways.items():
            one, _ = await at_once(llm, texts[:1])
            timings[name].append((one, *await at_once(llm, texts)))
    return {name: _ratio(np.array(rounds[1:])) for name, rounds in timings.items()}


def _ratio(rounds: np.ndarray) -> dict[str, Any]:
    one, fifty, pause = rounds.T

    def ratio(fifty: np.ndarray, one: np.ndarray) -> float:
        return float(np.median(fifty) / np.median(one))

    return {
        "one_ms": float(1e3 * np.median(one)),
        "fifty_ms": float(1e3 * np.median(fifty)),
        "fifty_over_one": ratio(fifty, one),
        "fifty_over_one_ci95": interval(ratio, fifty, one),
        "worst_round_over_one": float(fifty.max() / np.median(one)),
        "loop_stood_still_ms": float(1e3 * np.median(pause)),
    }


def measure() -> dict[str, Any]:
    """Return every figure."""
    router = Router.from_pretrained("open7")
    expert, slow = Instant(), Instant(seconds=SLEEP)
    llm = TryageLLM(router, dict.fromkeys(router.library.names, expert))
    slow_llm = TryageLLM(router, dict.fromkeys(router.library.names, slow))
    tools = [ToolMetadata(name=n, description="An engine.") for n in router.library.names]
    selector = TryageSelector(router)

    def message(text: str) -> list[ChatMessage]:
        return [ChatMessage(text)]

    return {
        "chat": in_turns(lambda t: expert.chat(message(t)), lambda t: llm.chat(message(t))),
        "complete": in_turns(expert.complete, llm.complete),
        "stream_chat": in_turns(
            lambda t: list(expert.stream_chat(message(t))),
            lambda t: list(llm.stream_chat(message(t))),
        ),
        "achat": asyncio.run(
            ain_turns(lambda t: expert.achat(message(t)), lambda t: llm.achat(message(t)))
        ),
        "select": in_turns(lambda _: None, lambda t: selector.select(tools, t)),
        "concurrent": asyncio.run(concurrent({"direct": slow, "routed": slow_llm})),
    }


def main() -> int:
    """Measure, write the results and the page's table; return 1 where a bound is missed."""
    provenance = {
        "command": "python benchmarks/adapters_llama_index.py",
        "versions": {name: version(name) for name in ("tryage", "llama-index-core", "numpy")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average_at_start": os.getloadavg()[0],
        "seed": SEED,
        "router": "open7",
        "calls": CALLS,
        "rounds": ROUNDS,
        "at_once": AT_ONCE,
        "seconds_each": SLEEP,
        "bounds": BOUNDS,
    }
    results = provenance | measure()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    fill_in(PAGE, table(results), MARKS)
    sys.stdout.write(table(results) + "\n")
    most = max(results[way]["added_ms"] for way in ("chat", "complete", "stream_chat", "achat"))
    ratio = results["concurrent"]["routed"]["fifty_over_one"]
    return int(most > BOUNDS["added_ms"] or ratio > BOUNDS["fifty_over_one"])


if __name__ == "__main__":
    sys.exit(main())
