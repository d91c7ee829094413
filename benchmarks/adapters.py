"""Measure what the LangChain adapter costs: `make bench-adapters`.

A chat model that answers at once is called directly, through a pass-through `RunnableLambda`, and
through Tryage with the bundled router `open7`; all in one run, in turns, so that whatever else the
machine does falls on all of them alike. Then calls of a model that takes 100 ms, one and fifty at
once. Writes benchmarks/results/adapters.json, fills in the table of docs/langchain.md, and exits
with 1 where a figure misses its bound.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from adapters_table import MARKS, PAGE, table
from data import fill_in
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from langchain_tryage import ChatTryage, TryageRouter
from tryage import Router

RESULTS = Path(__file__).parent / "results" / "adapters.json"
CALLS, BATCH, BATCHES, ROUNDS, AT_ONCE, SLEEP = 400, 256, 15, 30, 50, 0.1
BOUNDS = {"invoke_ms": 1.0, "batch_ms_per_prompt": 0.3, "concurrent_ratio": 1.3}
TRYAGE = ("ChatTryage", "TryageRouter")
SEED = 0

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


def ways(model: BaseChatModel, router: Router) -> dict[str, Runnable[Any, Any]]:
    """Return the ways to a model: alone, through a lambda, through both classes of Tryage."""

    def through(value: Any, config: RunnableConfig) -> Any:
        return model.invoke(value, config)

    async def athrough(value: Any, config: RunnableConfig) -> Any:
        return await model.ainvoke(value, config)

    experts = dict.fromkeys(router.library.names, model)
    return {
        "direct": model,
        "lambda": RunnableLambda(through, athrough),
        "ChatTryage": ChatTryage(router, experts),
        "TryageRouter": TryageRouter(router, experts),
    }


def in_turns(
    calls: dict[str, Callable[[Any], Any]], inputs: list[Any], warm_up: int, of: int = 1
) -> dict[str, dict[str, Any]]:
    """Time every call on every input, in turns.

    Args:
        calls: name → call; that of "lambda" is what the others are compared with.
        inputs: what the calls get, one after the other.
        warm_up: how many of them are not counted.
        of: prompts in an input.

    Returns:
        Name → median in milliseconds a prompt; for Tryage also that of the paired differences.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for value in inputs:
        for name, call in calls.items():
            started = time.perf_counter()
            call(value)
            seconds[name].append(time.perf_counter() - started)
    milliseconds = {name: 1e3 / of * np.array(times[warm_up:]) for name, times in seconds.items()}
    figures: dict[str, dict[str, Any]] = {
        n: {"median": float(np.median(t))} for n, t in milliseconds.items()
    }
    for name in TRYAGE:
        added = milliseconds[name] - milliseconds["lambda"]
        figures[name]["added"] = float(np.median(added))
        figures[name]["added_ci95"] = interval(np.median, added)
    return figures


def interval(statistic: Callable[..., Any], *samples: np.ndarray) -> list[float]:
    """Return the 95 % interval of a statistic by bootstrap; samples are drawn together."""
    drawn = np.random.default_rng(SEED).integers(0, len(samples[0]), (1000, len(samples[0])))
    values = [statistic(*(sample[rows] for sample in samples)) for rows in drawn]
    return [float(np.quantile(values, share)) for share in (0.025, 0.975)]


async def at_once(model: Runnable[Any, Any], texts: list[str]) -> float:
    """Seconds until calls at once have all been answered."""
    started = time.perf_counter()
    await asyncio.gather(*(model.ainvoke(text) for text in texts))
    return time.perf_counter() - started


async def concurrent(models: dict[str, Runnable[Any, Any]]) -> dict[str, dict[str, Any]]:
    """Call every model once and fifty times at once, in turns, after a round that warms up."""
    timings: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for number in range(ROUNDS + 1):
        texts = prompts(AT_ONCE, number * AT_ONCE)
        for name, model in models.items():
            timings[name].append((await at_once(model, texts[:1]), await at_once(model, texts)))
    return {name: _ratio(np.array(rounds[1:])) for name, rounds in timings.items()}


def _ratio(rounds: np.ndarray) -> dict[str, Any]:
    one, fifty = rounds.T

    def ratio(fifty: np.ndarray, one: np.ndarray) -> float:
        return float(np.median(fifty) / np.median(one))

    return {
        "one_ms": float(1e3 * np.median(one)),
        "fifty_ms": float(1e3 * np.median(fifty)),
        "ratio": ratio(fifty, one),
        "ratio_ci95": interval(ratio, fifty, one),
    }


def measure() -> dict[str, Any]:
    """Return all figures."""
    router = Router.from_pretrained("open7")
    quick = ways(NoOp(), router)
    one = {name: way.invoke for name, way in quick.items()}
    many = {name: way.batch for name, way in quick.items()}
    batches = [prompts(BATCH, n * BATCH) for n in range(BATCHES + 2)]
    return {
        "invoke_ms": in_turns(one, prompts(CALLS + 50), 50),
        "batch_ms_per_prompt": in_turns(many, batches, 2, BATCH),
        "concurrent": asyncio.run(concurrent(ways(Slow(), router))),
    }


def missed(results: dict[str, Any]) -> list[str]:
    """Return the bounds that a figure misses, with the figure."""
    notes = []
    for name in TRYAGE:
        values = {
            "invoke_ms": results["invoke_ms"][name]["added"],
            "batch_ms_per_prompt": results["batch_ms_per_prompt"][name]["added"],
            "concurrent_ratio": results["concurrent"][name]["ratio"],
        }
        notes += [
            f"{name} misses {what} with {values[what]:.2f}"
            for what, bound in BOUNDS.items()
            if values[what] > bound
        ]
    return notes


def main() -> int:
    """Measure, write the results and the page's table; return 1 where a bound is missed."""
    provenance = {
        "command": "python benchmarks/adapters.py",
        "versions": {name: version(name) for name in ("tryage", "langchain-core", "numpy")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average_at_start": os.getloadavg()[0],
        "seed": SEED,
        "router": "open7",
        "calls": CALLS,
        "batch": BATCH,
        "batches": BATCHES,
        "rounds": ROUNDS,
        "at_once": AT_ONCE,
        "seconds_each": SLEEP,
        "bounds": BOUNDS,
    }
    figures = measure()
    results = provenance | figures | {"missed": missed(figures)}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    fill_in(PAGE, table(results), MARKS)
    sys.stdout.write(table(results) + "\n")
    return int(bool(results["missed"]))


if __name__ == "__main__":
    sys.exit(main())
