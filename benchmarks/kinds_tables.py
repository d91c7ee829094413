"""Score tables with many kinds of prompt: two public ones joined, and made ones with real texts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from data import read_jsonl
from numpy.typing import NDArray

from tryage import ScoreTable

Floats = NDArray[np.float64]

REQUESTS = (
    "",
    "Summarize this in one sentence: ",
    "Translate this into French: ",
    "Which names occur here? List them: ",
)
FEWEST_TEXTS = 250
PROMPTS = 120
"""Prompts of each kind."""
EXPERTS = 8
KINDS = (5, 20, 50)
SEEDS = (1, 2)
APART, PROMPTS_APART = 100, 80
"""Kinds of the table of drawn vectors, and prompts of each."""


@dataclass(frozen=True)
class KindsTable:
    """A table of several kinds of prompt.

    Attributes:
        name: as the page shows it.
        table: n prompts and m experts.
        expected: (n, m) expected loss of every cell, NaN where it was not measured. Of made
            tables it is known; of measured ones it is the measured loss.
        kinds: (n,) kind of each prompt; the table's groups, if it has any.
        vectors: (n, dim) of the prompts, where they are no texts.
    """

    name: str
    table: ScoreTable
    expected: Floats
    kinds: tuple[str, ...]
    vectors: NDArray[np.float32] | None = None


def joined(data: Path) -> KindsTable:
    """Join open7 and routerbench11: eight groups, eighteen experts, each measured on one part."""
    parts = []
    for name in ("open7", "routerbench11"):
        part = ScoreTable.read(data / "routing" / f"{name}_train.jsonl.gz")
        groups = tuple(f"{name} {group}" for group in part.groups)
        parts.append(replace(part, groups=groups, targets={}))
    table = parts[0].join(parts[1])
    kinds = tuple(str(group) for group in table.groups)
    return KindsTable("open7 and routerbench11 joined", table, np.asarray(table.losses), kinds)


def made(data: Path, kinds: int, seed: int) -> KindsTable:
    """Make a table: excerpts of real texts by source, under requests, with drawn experts.

    A kind is a source of texts and a request. The log-odds that an expert is right are its ability,
    the kind's ease and an effect of the two together, all normal, with deviations of 0.4, 0.8 and
    0.8; a result is right or wrong by that chance.
    """
    rng = np.random.default_rng([seed, kinds])
    texts = sources(data)
    names = list(texts)
    rng.shuffle(names)
    chance, right = drawn(kinds, PROMPTS, rng)
    rows = []
    for number, row in enumerate(right):
        kind = number // PROMPTS
        source, request = names[kind % len(names)], kind // len(names)
        text = texts[source][rng.integers(len(texts[source]))]
        length = int(rng.integers(80, 300))
        start = int(rng.integers(0, max(1, len(text) - length)))
        rows.append(
            {
                "id": str(number),
                "prompt": REQUESTS[request] + text[start : start + length],
                "group": f"{source}, request {request}",
                "scores": scores(row),
            }
        )
    names_of_kinds = tuple(str(row["group"]) for row in rows)
    table = ScoreTable.from_rows(rows)
    return KindsTable(f"made, {kinds} kinds", table, 1.0 - chance, names_of_kinds)


def apart(seed: int) -> KindsTable:
    """Make a table of 100 kinds that nobody named: vectors near 100 drawn directions."""
    rng = np.random.default_rng([seed, APART])
    chance, right = drawn(APART, PROMPTS_APART, rng)
    centres = np.repeat(rng.normal(size=(APART, 48)), PROMPTS_APART, axis=0)
    vectors = centres + 0.35 * rng.normal(size=centres.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = ScoreTable.from_rows(
        {"id": str(number), "prompt": f"vector {number}", "scores": scores(row)}
        for number, row in enumerate(right)
    )
    kinds = tuple(f"{number // PROMPTS_APART}" for number in range(len(table)))
    name = f"drawn vectors, {APART} kinds without names"
    return KindsTable(name, table, 1.0 - chance, kinds, vectors.astype(np.float32))


def drawn(kinds: int, prompts: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    """Draw the chances that experts are right, kind by kind, and whether they are, (n, m)."""
    shape = (kinds, EXPERTS)
    odds = rng.normal(0, 0.4, EXPERTS) + rng.normal(0, 0.8, (kinds, 1)) + rng.normal(0, 0.8, shape)
    chance = np.repeat(1 / (1 + np.exp(-odds)), prompts, axis=0)
    return chance, rng.random(chance.shape) < chance


def scores(right: NDArray[np.bool_]) -> dict[str, float]:
    """Return the scores of a row of results by expert."""
    return {f"expert {column}": float(value) for column, value in enumerate(right)}


def sources(data: Path) -> dict[str, list[str]]:
    """Return the training texts of each source that has enough, code by language."""
    texts = defaultdict(list)
    for file in sorted((data / "corpora").glob("*/train.jsonl")):
        for row in read_jsonl(file):
            source = row["lang"] if row["domain"] == "code" else row["source"].split(":")[0]
            texts[f"{row['domain']}, {source}"].append(row["text"])
    return {name: parts for name, parts in sorted(texts.items()) if len(parts) >= FEWEST_TEXTS}
