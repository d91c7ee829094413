"""What tracing adds to a call: while it is off, and with OpenTelemetry's SDK.

``python benchmarks/tracing.py`` writes ``benchmarks/results/tracing.json``.
"""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider

from tryage.tracing import attempt_span, check_span, decide_span, is_tracing, start_tracing

RESULT = Path(__file__).parent / "results" / "tracing.json"
REPEATS, CALLS = 7, 20_000


def decide() -> None:
    """The hook of a decision."""
    if is_tracing():
        with decide_span("library", ["prompt"]) as span:
            span.set({"tryage.expert": "expert"})


def attempt() -> None:
    """The hook of an attempt."""
    with attempt_span("expert", "text-generation"):
        pass


def check() -> None:
    """The hook of a check."""
    with check_span("check", "expert") as span:
        span.set({"gen_ai.evaluation.score.value": 1.0})


def microseconds(hook: Callable[[], None]) -> float:
    """Return the time of one call, the least of some repeats."""
    best = min(timeit.repeat(hook, number=CALLS, repeat=REPEATS)) / CALLS
    return round(best * 1e6, 2)


if __name__ == "__main__":
    hooks = {"decide": decide, "attempt": attempt, "check": check}
    result = {"unit": "µs per call", "off": {name: microseconds(f) for name, f in hooks.items()}}
    start_tracing(TracerProvider())
    result["on"] = {name: microseconds(f) for name, f in hooks.items()}
    RESULT.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(RESULT.read_text(encoding="utf-8"))
