"""Kinds of training prompts: clusters, who does best on each, and typical words where allowed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tryage.evaluation.metrics import Array, mean_over
from tryage.predictors.kmeans import spherical_kmeans
from tryage.scores import ScoreTable
from tryage.ties import lowest, name_ranks

MOST_KINDS = 8
PROMPTS_PER_KIND = 20
WORDS = 6
"""Typical words of a kind."""

LEAST_PROMPTS = 5
"""Different prompts of a kind that a word must occur in before a router may store it."""

_WORD = re.compile(r"[^\W\d_]{3,20}")
_COMMON = frozenset(
    "the and for are was were that this with from have has had not but you your what which who how "
    "why when where can could would should will does did its into than then them they their there "
    "his her she our out all any one two about also been being between each more most other some "
    "such these those only over very please following given use using".split()
)


@dataclass(frozen=True, slots=True)
class PromptKind:
    """A cluster of similar training prompts.

    Attributes:
        prompts: how many different prompts it holds.
        share: of all different prompts of the task, 0 to 1.
        best: the expert with the lowest mean loss on it; None where nothing is measured.
        losses: expert → mean measured loss, lower is better; experts without one are left out.
        groups: the table's groups in it, most frequent first → number of prompts.
        words: typical words, most typical first; empty unless the router may store them.
    """

    prompts: int
    share: float
    best: str | None
    losses: Mapping[str, float]
    groups: Mapping[str, int] = field(default_factory=dict)
    words: tuple[str, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "prompts": self.prompts,
            "share": self.share,
            "best": self.best,
            "losses": dict(self.losses),
            "groups": dict(self.groups),
            "words": list(self.words),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the kind that `to_dict` wrote."""
        return cls(**{**values, "words": tuple(values["words"])})

    def among(self, names: Sequence[str]) -> PromptKind:
        """Return the kind as some experts do on it."""
        losses = {name: loss for name, loss in self.losses.items() if name in names}
        best = (
            self.best if self.best in losses else min(losses, key=losses.__getitem__, default=None)
        )
        return replace(self, best=best, losses=losses)

    @property
    def name(self) -> str:
        """What people call it: its words, else its largest group, else the number of prompts."""
        if self.words:
            return ", ".join(self.words)
        if self.groups:
            return next(iter(self.groups))
        return f"{self.prompts} similar prompts"


def find_kinds(
    table: ScoreTable, vectors: NDArray[np.float32], *, seed: int, words: bool = False
) -> tuple[PromptKind, ...]:
    """Cluster the prompts of one task, and say who does best on each cluster.

    Args:
        table: n prompts under m experts; cells may be missing.
        vectors: (n, dim) of unit length.
        seed: makes the clusters repeatable.
        words: find typical words. Only words of letters that occur in five different prompts of a
            cluster count, so that no single prompt can be read from them.

    Returns:
        At most eight kinds of five prompts or more, the largest first; fewer of small tables.
    """
    first: dict[str, int] = {}
    for row, prompt in enumerate(table.prompts):
        first.setdefault(prompt, row)
    different = np.array(list(first.values()), dtype=np.intp)
    if not len(different):
        return ()
    k = max(1, min(MOST_KINDS, len(different) // PROMPTS_PER_KIND))
    centres = spherical_kmeans(vectors[different], k, np.random.default_rng([seed, 4]))
    sizes = np.bincount((vectors[different] @ centres.T).argmax(axis=1), minlength=len(centres))
    # A handful of prompts is no kind: they join the nearest larger one.
    centres = centres[sizes >= min(LEAST_PROMPTS, int(sizes.max()))]
    kind_of = (vectors @ centres.T).argmax(axis=1)
    texts = [frozenset(_words(table.prompts[row])) for row in different.tolist()] if words else []
    kinds = []
    for number in range(len(centres)):
        rows = np.flatnonzero(kind_of == number)
        places = np.flatnonzero(kind_of[different] == number)
        if not len(places):
            continue
        typical = _typical(texts, frozenset(places.tolist())) if words else ()
        kinds.append(_kind(table.select(rows), len(places), len(different), typical))
    return tuple(sorted(kinds, key=lambda kind: (-kind.prompts, kind.name)))


def _kind(part: ScoreTable, prompts: int, of: int, words: tuple[str, ...]) -> PromptKind:
    means: Array = mean_over(part.losses, axis=0)  # (m,)
    best = int(lowest(means[None, :], name_ranks(part.experts))[0])
    groups = Counter(group for group in part.groups if group)
    return PromptKind(
        prompts=prompts,
        share=prompts / of,
        best=part.experts[best] if best >= 0 and not np.isnan(means).all() else None,
        losses={
            name: float(mean)
            for name, mean in zip(part.experts, means.tolist(), strict=True)
            if not np.isnan(mean)
        },
        groups=dict(groups.most_common(5)),
        words=words,
    )


def _words(prompt: str) -> list[str]:
    return [word for word in _WORD.findall(prompt.lower()) if word not in _COMMON]


def _typical(texts: Sequence[frozenset[str]], members: frozenset[int]) -> tuple[str, ...]:
    """Return the words that most tell a cluster's texts from the others, by log odds ratio."""
    inside: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    for place, words in enumerate(texts):
        (inside if place in members else outside).update(words)
    n_in, n_out = len(members), len(texts) - len(members)

    def weight(word: str) -> float:
        share_in = (inside[word] + 0.5) / (n_in + 1.0)
        share_out = (outside[word] + 0.5) / (n_out + 1.0)
        odds = np.log(share_in / (1 - share_in)) - np.log(share_out / (1 - share_out))
        return float(odds * np.sqrt(inside[word]))

    frequent = [word for word, count in inside.items() if count >= LEAST_PROMPTS]
    return tuple(sorted(frequent, key=lambda word: (-weight(word), word))[:WORDS])
