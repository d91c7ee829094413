"""Measure `tryage route --input` on a million prompts: speed, processor time and memory.

::

    python benchmarks/streaming.py             # measure, write results/streaming.json, fill in
    python benchmarks/streaming.py --render    # fill in the page from the results that are there

The prompts are those of the public tables, repeated: each repetition replaces one word of a prompt
by another of its words and adds a number, so that no prompt occurs twice. Memory is that of the
command and its workers together, sampled: PSS, which counts a page that several share once, and
RSS, which counts it for each. Beside them stands what each prompt must cost: its JSON read, its
text tokenized by the `tokenizers` library, its line written.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from data import data_folder, provenance, read_jsonl
from publishing import publish
from scale_table import slope

from tryage.encoders import StaticEncoder

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "streaming.json"
PAGE = HERE.parent / "docs" / "speed.md"
MARKS = ("<!-- streaming: begin -->", "<!-- streaming: end -->")
TABLES = {
    "open7": ("open7_train", "open7_test"),
    "routerbench11": ("routerbench11_train",),
}
WORKERS = 2
MOST_MEGABYTES, FEWEST_A_SECOND = 300, 15_000
SAMPLE = 4096


def real_prompts(data: Path, tables: Sequence[str]) -> list[str]:
    """Return the prompts of tables."""
    files = (data / "routing" / f"{table}.jsonl.gz" for table in tables)
    return [row["prompt"] for file in files for row in read_jsonl(file)]


def write_prompts(path: Path, prompts: Sequence[str], count: int) -> None:
    """Write so many different prompts: the real ones, then changed ones."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = prompts[number % len(prompts)]
            if number >= len(prompts):
                words = text.split(" ")
                words[rng.randrange(len(words))] = rng.choice(words)
                text = f"{' '.join(words)} ({number})"
            file.write(json.dumps({"prompt": text}) + "\n")


def memory(process: psutil.Process) -> tuple[float, float]:
    """Return PSS and RSS of a process and those that it started, in MB."""
    pss = rss = 0
    try:
        for one in (process, *process.children(recursive=True)):
            full = one.memory_full_info()
            pss, rss = pss + full.pss, rss + full.rss
    except psutil.Error:  # one of them ends just now
        return 0.0, 0.0
    return pss / 2**20, rss / 2**20


def command(router: str, prompts: Path, out: Path) -> dict[str, float]:
    """Run the command once."""
    words = ("route", "--router", router, "--input", prompts, "--output", out)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.Popen(
        [sys.executable, "-m", "tryage", *map(str, words), "--workers", str(WORKERS)],
        stderr=subprocess.DEVNULL,
    )
    process, peaks = psutil.Process(run.pid), (0.0, 0.0)
    while run.poll() is None:
        now = memory(process)
        peaks = (max(peaks[0], now[0]), max(peaks[1], now[1]))
        time.sleep(0.5)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode:
        raise SystemExit(f"tryage route ended with {run.returncode}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "seconds": seconds,
        "processor_seconds": processor,
        "pss_mb": peaks[0],
        "rss_mb": peaks[1],
        "output_mb": out.stat().st_size / 2**20,
    }


def floor(prompts: Path, out: Path) -> dict[str, float]:
    """Return the microseconds a prompt of what cannot be left out, on one thread."""
    with prompts.open("rb") as file:
        lines = [file.readline() for _ in range(SAMPLE)]
    with out.open("rb") as file:
        decisions = [json.loads(file.readline()) for _ in range(SAMPLE)]
    texts = [json.loads(line)["prompt"] for line in lines]
    tokenizer = StaticEncoder.bundled()._tokenizer
    steps: dict[str, Callable[[], object]] = {
        "json_read": lambda: [json.loads(line) for line in lines],
        "json_written": lambda: [json.dumps(decision) for decision in decisions],
        "tokenizer": lambda: tokenizer.encode_batch_fast(texts, add_special_tokens=False),
    }
    best = {}
    for name, step in steps.items():
        times = []
        for _ in range(5):
            start = time.process_time()
            step()
            times.append(time.process_time() - start)
        best[name] = 1e6 * min(times) / SAMPLE
    return best


def measure(data: Path, count: int) -> dict[str, Any]:
    """Measure both routers on a tenth of the prompts, and on all."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    routers = {}
    with tempfile.TemporaryDirectory(prefix="tryage-") as folder:
        for router, tables in TABLES.items():
            texts = real_prompts(data, tables)
            prompts, out = Path(folder) / "prompts.jsonl", Path(folder) / "decisions.jsonl"
            runs = {}
            for size in (count // 10, count):
                write_prompts(prompts, texts, size)
                runs[size] = command(router, prompts, out)
            routers[router] = {
                "experts": len(json.loads(out.open().readline())["ranking"]),
                "characters": sum(map(len, texts)) / len(texts),
                "runs": runs,
                "floor_us": floor(prompts, out),
            }
    return {"workers": WORKERS, "routers": routers}


def table(results: dict[str, Any]) -> str:
    """Return the figures as a table."""
    lines = [
        "| router | prompts | mean characters | a second | processor, µs a prompt | PSS, MB | "
        "RSS, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    floors, slopes = [], []
    for router, row in results["routers"].items():
        for size, run in row["runs"].items():
            count = int(size)
            lines.append(
                f"| `{router}` | {count:,} | {row['characters']:.0f} "
                f"| {count / run['seconds']:,.0f} | {1e6 * run['processor_seconds'] / count:.0f} "
                f"| {run['pss_mb']:.0f} | {run['rss_mb']:.0f} |"
            )
        powers = [slope(row["runs"], key) for key in ("seconds", "processor_seconds", "pss_mb")]
        slopes.append(f"`{router}` {powers[0]:.2f}, {powers[1]:.2f} and {powers[2]:.2f}")
        least = row["floor_us"]
        floors.append(
            f"on those of `{router}` the `tokenizers` library alone takes "
            f"{least['tokenizer']:.0f} µs a prompt on one thread, `json.loads` "
            f"{least['json_read']:.1f} and `json.dumps` of the lines {least['json_written']:.1f}"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"`--workers {results['workers']}`, three processes together; {results['machine']}, "
            f"Python {results['python']}. Slopes of seconds, processor time and PSS: "
            f"{', '.join(slopes)}. What must be done anyway: {'; '.join(floors)}.",
        ]
    )


def missed(results: dict[str, Any]) -> list[str]:
    """Return the aims that are missed: prompts a second, and memory."""
    aims = []
    for router, row in results["routers"].items():
        for size, run in row["runs"].items():
            if run["pss_mb"] > MOST_MEGABYTES:
                aims.append(f"{router}: {size} prompts take {run['pss_mb']:.0f} MB")
            if (rate := int(size) / run["seconds"]) < FEWEST_A_SECOND:
                aims.append(f"{router}: {rate:,.0f} of {size} prompts a second")
    return aims


def main() -> None:
    """Read the arguments; measure or only render."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--prompts", type=int, default=1_000_000)
    status = publish(
        lambda args: (
            provenance("python benchmarks/streaming.py") | measure(data_folder(), args.prompts)
        ),
        table,
        results=RESULTS,
        page=PAGE,
        marks=MARKS,
        parser=parser,
        missed=missed,
    )
    raise SystemExit(status)


if __name__ == "__main__":
    main()
