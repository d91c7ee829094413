"""What the LangChain adapter costs: `make bench-adapters`.

A chat model that does nothing is called directly, through a pass-through `RunnableLambda`, and
through Tryage with the bundled router `open7`; all in one run, in turns, so that whatever else the
machine does falls on all of them alike. Writes benchmarks/results/adapters.json and exits with 1
where a figure misses its bound.
"""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda

from langchain_tryage import ChatTryage, TryageRouter
from tryage import Router

RESULTS = Path(__file__).parent / "results" / "adapters.json"
CALLS, BATCH, BATCHES, AT_ONCE, SLEEP = 400, 256, 15, 50, 0.1
BOUNDS = {"invoke_ms": 1.0, "batch_ms_per_prompt": 0.3, "concurrent_ratio": 1.3}

WORDS = "train leaves station covers river garden function returns list sorted proof number".split()


def prompts(count: int, start: int = 0) -> list[str]:
    """Texts of some 40 words, all different."""
    return [
        " ".join(WORDS[(n * k + k) % len(WORDS)] for k in range(40)) + f" {n}?"
        for n in range(start, start + count)
    ]


class NoOp(BaseChatModel):
    """Answers at once."""

    @property
    def _llm_type(self) -> str:
        return "no-op"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="yes"))])


class Slow(NoOp):
    """Answers after 100 ms."""

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        await asyncio.sleep(SLEEP)
        return self._generate(messages)


def median_seconds(
    calls: dict[str, Callable[[Any], Any]], rounds: int, given: Callable[[int], Any]
) -> dict[str, float]:
    """Time every call once a round, in turns; the median of each."""
    seconds = {name: [] for name in calls}
    for number in range(rounds):
        value = given(number)
        for name, call in calls.items():
            started = time.perf_counter()
            call(value)
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


async def concurrent(model: Runnable[Any, Any], count: int) -> float:
    """Seconds until `count` calls at once have all been answered."""
    texts = prompts(count)
    started = time.perf_counter()
    await asyncio.gather(*(model.ainvoke(text) for text in texts))
    return time.perf_counter() - started


async def ratios(models: dict[str, Runnable[Any, Any]]) -> dict[str, dict[str, float]]:
    """Of each model, 50 calls at once against one call: medians of five."""
    told = {}
    for name, model in models.items():
        await concurrent(model, AT_ONCE)
        one = statistics.median([await concurrent(model, 1) for _ in range(5)])
        many = statistics.median([await concurrent(model, AT_ONCE) for _ in range(5)])
        told[name] = {"one_s": one, "fifty_s": many, "ratio": many / one}
    return told


def measure() -> dict[str, Any]:
    """Return all figures."""
    router = Router.from_pretrained("open7")
    model = NoOp()
    experts = dict.fromkeys(router.library.names, model)
    ways = {
        "direct": model,
        "lambda": RunnableLambda(lambda value, config: model.invoke(value, config)),
        "ChatTryage": ChatTryage(router, experts),
        "TryageRouter": TryageRouter(router, experts),
    }
    texts = prompts(CALLS)
    invoke = {name: way.invoke for name, way in ways.items()}
    batch = {name: way.batch for name, way in ways.items()}
    median_seconds(invoke, 50, lambda n: texts[n])  # warm-up
    median_seconds(batch, 2, lambda n: prompts(BATCH, n))
    invoke_s = median_seconds(invoke, CALLS, lambda n: texts[n])
    batch_s = median_seconds(batch, BATCHES, lambda n: prompts(BATCH, n * BATCH))
    route_s = median_seconds({"route": router.route}, CALLS, lambda n: texts[n])
    slow = dict.fromkeys(router.library.names, Slow())
    at_once = asyncio.run(
        ratios({"ChatTryage": ChatTryage(router, slow), "TryageRouter": TryageRouter(router, slow)})
    )
    tryage = ("ChatTryage", "TryageRouter")
    return {
        "invoke_ms": {name: 1e3 * seconds for name, seconds in invoke_s.items()},
        "batch_ms_per_prompt": {n: 1e3 * seconds / BATCH for n, seconds in batch_s.items()},
        "route_ms": 1e3 * route_s["route"],
        "concurrent": at_once,
        "added": {
            "invoke_ms": {n: 1e3 * (invoke_s[n] - invoke_s["lambda"]) for n in tryage},
            "batch_ms_per_prompt": {
                n: 1e3 * (batch_s[n] - batch_s["lambda"]) / BATCH for n in tryage
            },
            "concurrent_ratio": {n: at_once[n]["ratio"] for n in tryage},
        },
    }


def main() -> int:
    figures = measure()
    missed = 0
    print("added to a pass-through RunnableLambda; 50 calls at once against one")
    for what, bound in BOUNDS.items():
        for name, value in figures["added"][what].items():
            missed += value > bound
            print(f"{what:<20} {name:<13} {value:7.3f}   bound {bound:g}")
    RESULTS.parent.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    versions = {"langchain-core": version("langchain-core")}
    told = {"bounds": BOUNDS, **figures, **machine, **versions}
    RESULTS.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
