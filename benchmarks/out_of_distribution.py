"""Measure how well open7 tells strange prompts: legal, dialogue and patent texts.

::

    python benchmarks/out_of_distribution.py      # writes results/out_of_distribution.json

The strange texts are cut to the length distribution of the prompts of open7_test, and their domains
were not used to distil the encoder. AUROC: the chance that a strange text looks stranger than a
known prompt, ties counted half. A detector that sees the length alone stands beside. No scores of
open7_test are read.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from data import data_folder, read_jsonl

from tryage import Router, ScoreTable
from tryage.predictors.vectors import VectorPredictor

logger = logging.getLogger("out_of_distribution")

RESULTS = Path(__file__).parent / "results" / "out_of_distribution.json"

STRANGE = ("legal", "dialogue", "patents")
PER_DOMAIN = 1000


def auroc(strange: np.ndarray[Any, Any], familiar: np.ndarray[Any, Any]) -> float:
    """Return the chance that a strange value exceeds a known one, ties counted half."""
    ordered = np.sort(familiar)
    below = np.searchsorted(ordered, strange, side="left")
    up_to = np.searchsorted(ordered, strange, side="right")
    return float((below + up_to).mean() / (2 * len(familiar)))


def cut(texts: list[str], lengths: np.ndarray[Any, Any], seed: int) -> list[str]:
    """Return texts cut at random places to lengths drawn from a distribution."""
    rng = np.random.default_rng(seed)
    pieces = []
    for text in texts:
        length = int(rng.choice(lengths))
        start = int(rng.integers(max(len(text) - length, 0) + 1))
        pieces.append(text[start : start + length].strip() or text[:length])
    return pieces


def interval(strange: np.ndarray[Any, Any], familiar: np.ndarray[Any, Any]) -> list[float]:
    """Return the 95 % bootstrap interval of an AUROC, both sides drawn anew."""
    rng = np.random.default_rng(0)
    drawn = [
        auroc(rng.choice(strange, len(strange)), rng.choice(familiar, len(familiar)))
        for _ in range(300)
    ]
    return [float(value) for value in np.percentile(drawn, [2.5, 97.5])]


def run(data: Path) -> dict[str, Any]:
    """Return AUROCs by domain and pooled, of the router and of the length alone."""
    prompts = ScoreTable.read(data / "routing" / "open7_test.jsonl.gz").prompts
    lengths = np.array([len(prompt) for prompt in prompts])
    predictor = Router.from_pretrained("open7").predictors["text-generation"]
    if not isinstance(predictor, VectorPredictor) or predictor.encoder is None:
        raise SystemExit("the bundled router does not look at vectors")
    encoder, novelty = predictor.encoder, predictor.novelty_

    def strangeness(texts: list[str]) -> np.ndarray[Any, Any]:
        distances: np.ndarray[Any, Any] = -(encoder.encode(texts) @ novelty.centres.T).max(axis=1)
        return distances

    familiar = strangeness(list(prompts))
    values, sizes = {}, {}
    for number, domain in enumerate(STRANGE):
        rows = read_jsonl(data / "corpora" / domain / "test.jsonl")
        texts = [row["text"] for row in rows]
        rng = np.random.default_rng([number, 1])
        texts = [texts[row] for row in rng.integers(len(texts), size=PER_DOMAIN).tolist()]
        texts = cut(texts, lengths, number)
        values[domain] = strangeness(texts)
        sizes[domain] = np.array([len(text) for text in texts])
    pooled, pooled_sizes = np.concatenate([*values.values()]), np.concatenate([*sizes.values()])
    rows = {**values, "pooled": pooled}
    by_length = {**sizes, "pooled": pooled_sizes}
    return {
        "auroc": {name: auroc(strange, familiar) for name, strange in rows.items()},
        "auroc_ci95": {name: interval(strange, familiar) for name, strange in rows.items()},
        "auroc_of_length": {
            # Whichever direction tells more.
            name: max(auroc(strange, lengths), 1 - auroc(strange, lengths))
            for name, strange in by_length.items()
        },
        "flagged": {
            **{
                name: float((-strange < novelty.threshold).mean()) for name, strange in rows.items()
            },
            "open7_test": float((-familiar < novelty.threshold).mean()),
        },
        "texts_per_domain": PER_DOMAIN,
        "prompts": len(prompts),
    }


def main() -> None:
    """Measure, and write the results."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    provenance = {
        "command": "python benchmarks/out_of_distribution.py",
        "versions": {name: version(name) for name in ("tryage", "numpy", "tokenizers")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    results = provenance | run(data_folder())
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    logger.info("%s", json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
