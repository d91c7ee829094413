"""What `TryageLLM` costs over a direct call of its expert.

Prints one JSON object. Everything is measured in one run on one router, direct and routed calls
taking turns, so that what else the machine does falls on both alike.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms import LLM, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.tools import ToolMetadata

from llama_index_tryage import TryageLLM, TryageSelector
from tryage import Router

QUESTION = "A train leaves at 9:40 and covers 210 km at 84 km/h. When does it arrive?"
CALLS = 400
CONCURRENT = 50
SECONDS = 0.1

Call = Callable[[], Any]


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


def in_turns(direct: Call, routed: Call, calls: int = CALLS) -> dict[str, float]:
    """Return median milliseconds of both, and the median of their paired differences."""
    for call in (direct, routed):
        for _ in range(20):
            call()
    taken = []
    for _ in range(calls):
        pair = []
        for call in (direct, routed):
            started = time.perf_counter()
            call()
            pair.append(time.perf_counter() - started)
        taken.append(pair)
    return _medians(taken)


async def ain_turns(direct: Call, routed: Call, calls: int = CALLS) -> dict[str, float]:
    """Do what `in_turns` does, with coroutine functions."""
    for call in (direct, routed):
        for _ in range(20):
            await call()
    taken = []
    for _ in range(calls):
        pair = []
        for call in (direct, routed):
            started = time.perf_counter()
            await call()
            pair.append(time.perf_counter() - started)
        taken.append(pair)
    return _medians(taken)


def _medians(taken: list[list[float]]) -> dict[str, float]:
    direct, routed = zip(*taken, strict=True)
    added = [b - a for a, b in taken]
    found = {"direct_ms": direct, "routed_ms": routed, "added_ms": added}
    return {name: round(statistics.median(values) * 1000, 4) for name, values in found.items()}


async def side_by_side(llm: LLM, messages: list[ChatMessage]) -> float:
    """Return how many times one call's time `CONCURRENT` calls take together."""

    async def timed(calls: int) -> float:
        started = time.perf_counter()
        await asyncio.gather(*(llm.achat(messages) for _ in range(calls)))
        return time.perf_counter() - started

    await timed(CONCURRENT)  # warm-up
    one = statistics.median([await timed(1) for _ in range(5)])
    together = statistics.median([await timed(CONCURRENT) for _ in range(5)])
    return round(together / one, 3)


async def longest_pause(llm: LLM, messages: list[ChatMessage]) -> float:
    """Return the longest time in milliseconds that the event loop stood still meanwhile."""
    longest, done = 0.0, False

    async def watch() -> None:
        nonlocal longest
        while not done:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - started - 0.001)

    watcher = asyncio.create_task(watch())
    await asyncio.gather(*(llm.achat(messages) for _ in range(CONCURRENT)))
    done = True
    await watcher
    return round(longest * 1000, 2)


def measure() -> dict[str, object]:
    """Return every figure; times are medians."""
    router = Router.from_pretrained("open7")
    name = router.route(QUESTION).expert
    expert, slow = Instant(), Instant(seconds=SECONDS)
    llm = TryageLLM(router, dict.fromkeys(router.library.names, expert))
    slow_llm = TryageLLM(router, dict.fromkeys(router.library.names, slow))
    messages = [ChatMessage(QUESTION)]
    tools = [ToolMetadata(name=n, description="An engine.") for n in router.library.names]
    selector = TryageSelector(router)
    return {
        "router": "open7",
        "experts": len(router.library),
        "expert": name,
        "calls": CALLS,
        "chat": in_turns(lambda: expert.chat(messages), lambda: llm.chat(messages)),
        "complete": in_turns(lambda: expert.complete(QUESTION), lambda: llm.complete(QUESTION)),
        "stream_chat": in_turns(
            lambda: list(expert.stream_chat(messages)), lambda: list(llm.stream_chat(messages))
        ),
        "achat": asyncio.run(
            ain_turns(lambda: expert.achat(messages), lambda: llm.achat(messages))
        ),
        "route": in_turns(lambda: None, lambda: router.route(QUESTION, flags=False)),
        "select": in_turns(lambda: None, lambda: selector.select(tools, QUESTION)),
        "concurrent": {
            "calls": CONCURRENT,
            "seconds_each": SECONDS,
            "direct_times_one": asyncio.run(side_by_side(slow, messages)),
            "routed_times_one": asyncio.run(side_by_side(slow_llm, messages)),
            "direct_longest_pause_ms": asyncio.run(longest_pause(slow, messages)),
            "routed_longest_pause_ms": asyncio.run(longest_pause(slow_llm, messages)),
        },
    }


if __name__ == "__main__":
    found = measure()
    print(json.dumps(found, indent=2))
    added = max(found[way]["added_ms"] for way in ("chat", "complete", "stream_chat", "achat"))
    times = found["concurrent"]["routed_times_one"]
    if added > 1.0 or times > 1.3:
        sys.exit(f"over budget: {added} ms added (at most 1), {times} times one call (at most 1.3)")
