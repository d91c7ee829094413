"""The corpora: training texts of an expert, and prompts cut from texts of another split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from data import read_jsonl

from paper.plan import DOMAINS, Trained
from tryage.labeling.masking import words

SHORTEST, LONGEST = 80, 160
"""Characters of an excerpt."""

HALF = (150, 250)
"""Characters of each half of a mixture."""

_Part = tuple[dict[str, Any], int, int]
"""A row of a corpus, and a range of its characters."""

SPLITS = ("train", "valid", "test")

_MEASURED, _UNLABELLED = 12, 13
"""Streams of random numbers that draw the prompts of the score table, and further ones."""


@dataclass(frozen=True)
class Piece:
    """Where a prompt's text stands: split, domain, source document, part, character range."""

    domain: str
    source: str
    doc: str
    part: int
    start: int
    end: int

    def to_dict(self) -> dict[str, Any]:
        """The piece as JSON types; it holds no text."""
        return {
            "domain": self.domain,
            "source": self.source,
            "doc": self.doc,
            "part": self.part,
            "span": [self.start, self.end],
        }


@dataclass(frozen=True)
class Cut:
    """A prompt cut from the corpora.

    Attributes:
        id: split, group, domains and number.
        group: one of `paper.plan.GROUPS`.
        domain: its domain; of a mixture both, with a plus between.
        text: the prompt.
        pieces: where the text comes from.
    """

    id: str
    group: str
    domain: str
    text: str
    pieces: tuple[Piece, ...]


def training_texts(corpora: Path, expert: Trained, characters: int) -> list[str]:
    """Return the texts that an expert is trained on, shuffled by its recipe's seed.

    Args:
        corpora: folder of the corpora.
        expert: the expert.
        characters: how many at most, in equal parts of its domains.
    """
    rng = np.random.default_rng([expert.recipe.seed, 11])
    texts: list[str] = []
    for domain in expert.domains:
        rows = list(read_jsonl(corpora / domain / "train.jsonl"))
        rows = [
            row
            for row in rows
            if not held_out(row) and all(row.get(k) == v for k, v in expert.only.items())
        ]
        size = 0
        for number in rng.permutation(len(rows)).tolist():
            if size >= characters / len(expert.domains):
                break
            texts.append(rows[number]["text"])
            size += len(rows[number]["text"])
    return [texts[number] for number in rng.permutation(len(texts)).tolist()]


def cut_prompts(
    corpora: Path, split: str, counts: Mapping[str, int], *, stream: int = _MEASURED
) -> list[Cut]:
    """Cut the prompts of a split: whole documents, excerpts, and mixtures of two domains.

    An expert's losses on texts that it was trained on would be too low, so prompts to learn from
    come from the documents of `train` that experts are not given.

    Args:
        corpora: folder of the corpora.
        split: "train", "valid" or "test".
        counts: prompts of each domain, by group; of mixtures those whose first half it is.
        stream: another number draws other prompts.
    """
    rows = {domain: _rows(corpora, split, domain) for domain in DOMAINS}
    cuts: list[Cut] = []
    for number, domain in enumerate(DOMAINS):
        rng = np.random.default_rng([SPLITS.index(split), number, stream])
        order = rng.permutation(len(rows[domain])).tolist()
        for i in range(min(counts["documents"], len(order))):
            row = rows[domain][order[i]]
            cuts.append(_cut(split, "documents", i, [(row, 0, len(row["text"]))]))
        for i in range(counts["excerpts"]):
            row = rows[domain][order[-1 - i % len(order)]]
            cuts.append(_cut(split, "excerpts", i, [_range(row, SHORTEST, LONGEST, rng)]))
        others = [other for other in DOMAINS if other != domain]
        for i in range(counts["mixtures"]):
            other = rows[others[i % len(others)]]
            pair = [
                rows[domain][int(rng.integers(len(order)))],
                other[int(rng.integers(len(other)))],
            ]
            cuts.append(_cut(split, "mixtures", i, [_range(row, *HALF, rng) for row in pair]))
    # A stretch of a table or of ruled lines has no word to hide.
    return [cut for cut in cuts if words(cut.text)]


def cut_unlabelled(corpora: Path, counts: Mapping[str, int]) -> list[Cut]:
    """Cut further prompts from the router's training documents, which nobody measures.

    Args:
        corpora: folder of the corpora.
        counts: as for `cut_prompts`.
    """
    return cut_prompts(corpora, "train", counts, stream=_UNLABELLED)


def _rows(corpora: Path, split: str, domain: str) -> list[dict[str, Any]]:
    """The rows of a domain that a split's prompts are cut from."""
    rows = read_jsonl(corpora / domain / f"{split}.jsonl")
    return [row for row in rows if split != "train" or held_out(row)]


def held_out(row: Mapping[str, Any]) -> bool:
    """Whether experts are not given this row of `train`: so with a quarter of the documents."""
    return hashlib.sha256(row["doc"].encode()).digest()[0] % 4 == 0


def _range(
    row: dict[str, Any], shortest: int, longest: int, rng: np.random.Generator
) -> tuple[dict[str, Any], int, int]:
    """A random stretch of a text that begins and ends between words, where that is possible."""
    text = row["text"]
    length = min(int(rng.integers(shortest, longest + 1)), len(text))
    start = int(rng.integers(len(text) - length + 1))
    before = text.rfind(" ", max(start - 20, 0), start)
    start = before + 1 if before >= 0 else start
    end = min(start + length, len(text))
    behind = text.rfind(" ", max(end - 20, start + shortest), end)
    return row, start, behind if behind >= 0 else end


def _cut(split: str, group: str, number: int, parts: Sequence[_Part]) -> Cut:
    pieces = tuple(
        Piece(row["domain"], row["source"], row["doc"], row["part"], start, end)
        for row, start, end in parts
    )
    domain = "+".join(piece.domain for piece in pieces)
    text = "\n".join(row["text"][start:end] for row, start, end in parts)
    return Cut(f"{split}/{group}/{domain}/{number}", group, domain, text, pieces)


def texts_of(corpora: Path, split: str, lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Cut again the prompts of a table that holds spans and no texts."""
    rows = {
        (domain, row["doc"], row["part"]): row["text"]
        for domain in DOMAINS
        for row in _rows(corpora, split, domain)
    }
    for line in lines:
        parts = []
        for piece in line["pieces"]:
            start, end = piece["span"]
            parts.append(rows[piece["domain"], piece["doc"], piece["part"]][start:end])
        yield "\n".join(parts)
