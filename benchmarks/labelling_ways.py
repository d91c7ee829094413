"""The same losses in plain ways, for `labelling.py`: prompt by prompt, and fixed batches."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tryage import Library
from tryage.labeling.rows import Row
from tryage.labeling.tokens import Window, encode_row
from tryage.runtime import Runtime

LENGTHS = {0.0: 33, 0.1: 58, 0.25: 88, 0.5: 162, 0.75: 282, 0.9: 460, 0.99: 1658}
"""Share of prompts → characters that so many do not exceed: those of open7_train."""


def mixed_prompts(texts: Path, count: int, seed: int) -> list[dict[str, str]]:
    """Return excerpts of the quickstart's texts, as long as real prompts, domain after domain."""
    rng = random.Random(seed)
    shares, sizes = list(LENGTHS), [math.log(size) for size in LENGTHS.values()]
    sources = {
        path.stem: [json.loads(line)["text"] for line in path.open(encoding="utf-8")]
        for path in sorted(texts.glob("*.jsonl"))
    }
    domains = sorted(sources)
    prompts = []
    while len(prompts) < count:
        domain = domains[len(prompts) % len(domains)]
        size = round(math.exp(np.interp(rng.random(), shares, sizes)))
        source = rng.choice(sources[domain])
        start = rng.randrange(max(1, len(source) - size))
        text = source[start : start + size]
        if sum(letter.isalpha() for letter in text) >= 10:
            prompts.append({"id": str(len(prompts)), "group": domain, "prompt": text})
    return prompts


def prompt_by_prompt(library: Library, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return expert → prompt id → loss, calling a model on one window at a time."""
    return _measured(library, rows, lambda windows: [[window] for window in windows])


def fixed_batches(library: Library, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return the same from batches of 32 in the given order, padded to their longest."""

    def batches(windows: Sequence[Window]) -> list[Sequence[Window]]:
        return [windows[start : start + 32] for start in range(0, len(windows), 32)]

    return _measured(library, rows, batches)


def _measured(
    library: Library,
    rows: Sequence[Row],
    batches: Callable[[Sequence[Window]], Sequence[Sequence[Window]]],
) -> dict[str, dict[str, float]]:
    runtime = Runtime(library)
    losses: dict[str, dict[str, float]] = {}
    for expert in library:
        pipeline: Any = runtime.load(expert.name)
        own = [row for row in rows if row.task == expert.task]
        encoded = [encode_row(pipeline, row) for row in own]
        windows = [window for item in encoded for window in item.windows]
        nats = [cost for batch in batches(windows) for cost in _costs(pipeline, batch)]
        left = iter(nats)
        losses[expert.name] = {
            row.id: (item.bits + sum(next(left) for _ in item.windows) / math.log(2)) / item.size
            for row, item in zip(own, encoded, strict=True)
        }
        runtime.unload(expert.name)
    return losses


def _costs(pipeline: Any, windows: Sequence[Window]) -> list[float]:
    """Return the cost of each window's target tokens in nats."""
    import torch

    longest = max(len(window.ids) for window in windows)
    pad = pipeline.tokenizer.pad_token_id or 0
    ids = torch.tensor([window.ids + [pad] * (longest - len(window.ids)) for window in windows])
    mask = torch.tensor(
        [[1] * len(window.ids) + [0] * (longest - len(window.ids)) for window in windows]
    )
    with torch.inference_mode():
        logits = pipeline.model(ids, attention_mask=mask).logits
        return [
            float(
                torch.nn.functional.cross_entropy(
                    logits[i, window.at].float(), torch.tensor(window.targets), reduction="none"
                )
                .double()
                .sum()
            )
            for i, window in enumerate(windows)
        ]
