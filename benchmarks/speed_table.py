"""The table of `docs/speed.md`, from the results of `benchmarks/speed.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
MARKS = ("<!-- speed: begin -->", "<!-- speed: end -->")

BASELINES = {
    "sentence-transformers": "all-MiniLM-L6-v2 by sentence-transformers, the vector alone",
    "semantic-router": "semantic-router with the same model, 5 routes of 60 utterances",
}


def table(results: dict[str, Any]) -> str:
    """Return the figures as tables."""
    single, batch = results["single"], results["batch_256"]
    lines = [
        "| one prompt | median, ms | 95th percentile, ms |",
        "|---|---|---|",
        _line("the `tokenizers` library alone", single["tokenizer"]),
        _line("the prompt's vector (`StaticEncoder.encode`)", single["encoder"]),
        _line("**a whole decision (`Router.route`)**", single["route"]),
        _line("the same, with `[Flag: small, recent]` in the prompt", single["route_with_flags"]),
        *(
            _line(BASELINES[name], results["baselines"][name])
            for name in results.get("baselines", ())
        ),
        "",
        "| grows with | | median, ms |",
        "|---|---|---|",
    ]
    for count, row in results["experts"].items():
        lines.append(f"| experts | {int(count):,} | {row['median_ms']:.3f} |")
    for count, row in results["characters"].items():
        lines.append(f"| characters of the prompt | {int(count):,} | {row['median_ms']:.3f} |")
    for count, row in results["batch_growth"].items():
        lines.append(f"| prompts of a batch | {int(count):,} | {row['median_ms']:.1f} |")
    steered = ", ".join(
        f"{1e3 * row['median_ms']:.0f} µs for {int(count):,} experts"
        for count, row in results["steering"].items()
    )
    ratio = results["ratio"]
    threads = "thread" if results["threads"] == 1 else "threads"
    return "\n".join(
        [
            *lines,
            "",
            f"- A decision takes {_ratio(ratio, 'median')} times as long as the tokenizer at the "
            f"median, {_ratio(ratio, 'p95')} times at the 95th percentile (95 % bootstrap "
            "intervals).",
            f"- Batches of 256 take {batch['route_batch']['median_ms']:.1f} ms: "
            f"{results['batch_throughput_ratio']:.2f} times the throughput of the tokenizer's "
            "`encode_batch_fast`.",
            f"- Everything but the prediction (flags, policy, objective, record), with two words "
            f"and two limits in the flag: {steered}.",
            f"- `import tryage` takes {results['import_s']:.2f} s, loading `open7` "
            f"{results['load_s']:.3f} s; a process that has decided holds "
            f"{results['resident_mb']:.0f} MB.",
            "",
            f"{results['prompts']:,} prompts of open7_test, each seen once; {results['machine']}, "
            f"{results['threads']} {threads}, Python {results['python']}, one run.",
        ]
    )


def _line(what: str, row: dict[str, float]) -> str:
    return f"| {what} | {row['median_ms']:.3f} | {row['p95_ms']:.3f} |"


def _ratio(ratio: dict[str, Any], name: str) -> str:
    low, high = ratio[f"{name}_ci95"]
    return f"{ratio[name]:.2f} ({low:.2f} to {high:.2f})"
