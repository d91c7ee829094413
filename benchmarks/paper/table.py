"""The score table of the experiment: numbers, document ids and spans, and no texts.

A line a prompt: ``{"id", "split", "group", "domain", "pieces", "losses", "accuracy"?, "second"?}``.
`losses` and `accuracy` (share of hidden words found) are those of the first draw of hidden words,
by expert; `second` holds the losses of an independent draw. `accuracy` and `second` stand on test
prompts alone, which are drawn twice.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from data import read_jsonl

from paper.draws import Losses
from paper.texts import Cut, texts_of
from tryage import ScoreTable
from tryage.experts import FILL_MASK
from tryage.files import replacing

DIGITS = 4


def write_table(
    path: Path, parts: Mapping[str, tuple[Sequence[Cut], Mapping[str, Losses]]]
) -> None:
    """Write the prompts of every split with what every expert did on them."""
    with replacing(path) as temporary, gzip.GzipFile(temporary, "wb", mtime=0) as file:
        for split, (cuts, losses) in parts.items():
            for number, cut in enumerate(cuts):
                line = {
                    "id": cut.id,
                    "split": split,
                    "group": cut.group,
                    "domain": cut.domain,
                    "pieces": [piece.to_dict() for piece in cut.pieces],
                    "losses": _row(losses, number, lambda one: one.loss[0]),
                }
                if all(len(one.loss) > 1 for one in losses.values()):
                    line["accuracy"] = _row(losses, number, lambda one: one.accuracy[0])
                    line["second"] = _row(losses, number, lambda one: one.loss[1])
                file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _row(losses: Mapping[str, Losses], number: int, values: Any) -> dict[str, float]:
    return {name: round(float(values(one)[number]), DIGITS) for name, one in losses.items()}


@dataclass(frozen=True)
class Split:
    """The prompts of one split, with their texts.

    Attributes:
        table: the first draw's losses; its groups are `paper.plan.GROUPS`.
        domains: (n,) domain of each prompt; of a mixture both, with a plus between.
        accuracy: (n, m) share of hidden words found; None where the table does not say.
        second: (n, m) losses of an independent draw; the same.
    """

    table: ScoreTable
    domains: tuple[str, ...]
    accuracy: Any = None
    second: Any = None

    def part(self, group: str, *, by_domain: bool = True) -> Split:
        """The prompts of one group; by default their domains become the table's groups.

        A mixture counts under its first domain.
        """
        rows = np.array([name == group for name in self.table.groups])
        table = self.table.select(rows)
        domains = tuple(d for d, is_in in zip(self.domains, rows, strict=True) if is_in)
        if by_domain:
            table = replace(table, groups=tuple(domain.split("+")[0] for domain in domains))
        both = (None if some is None else some[rows] for some in (self.accuracy, self.second))
        return Split(table, domains, *both)


def read_split(path: Path, corpora: Path, split: str) -> Split:
    """Read a split of the table, and cut its texts from the corpora again."""
    lines = [line for line in read_jsonl(path) if line["split"] == split]
    experts = tuple(lines[0]["losses"])

    def matrix(key: str) -> Any:
        if key not in lines[0]:
            return None
        return np.array([[line[key][name] for name in experts] for line in lines])

    table = ScoreTable(
        prompts=tuple(texts_of(corpora, split, lines)),
        ids=tuple(line["id"] for line in lines),
        groups=tuple(line["group"] for line in lines),
        tasks=(FILL_MASK,) * len(lines),
        references=(None,) * len(lines),
        experts=experts,
        losses=matrix("losses"),
    )
    domains = tuple(line["domain"] for line in lines)
    return Split(table, domains, matrix("accuracy"), matrix("second"))
