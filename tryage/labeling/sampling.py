"""Which prompts are measured, where not all of them are to be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from tryage.errors import OptionError
from tryage.prompts import PromptRecord

Strata = Literal["group", "task"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A share of the prompts, the same in every run, whatever their order.

    Prompts are taken by a hash of their ids, so a larger sample of the same prompts holds the
    smaller one.

    Attributes:
        size: prompts to take at most.
        stratify: ``"group"`` or ``"task"`` takes as many from each as from any other, as far as
            each goes; None takes prompts whatever they belong to.
        seed: another one gives another sample.
    """

    size: int
    stratify: Strata | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise OptionError(f"sample is {self.size}; it is at least 1")
        if self.stratify not in (None, "group", "task"):
            raise OptionError(f"stratify is {self.stratify!r}; it is 'group' or 'task'")

    @classmethod
    def of(cls, size: int | None, stratify: Strata | None, seed: int) -> Self | None:
        """Return the sample that options ask for; None where they ask for all prompts."""
        if size is not None:
            return cls(size, stratify, seed)
        if stratify is not None:
            raise OptionError(f"stratify is {stratify!r}, but no sample is taken; give its size")
        return None

    def take(self, records: Iterable[PromptRecord]) -> list[PromptRecord]:
        """Return the prompts of the sample, in the order in which they came."""
        pools: dict[str | None, list[tuple[bytes, int]]] = {}
        given = list(records)
        for number, record in enumerate(given):
            stratum = getattr(record, self.stratify) if self.stratify else None
            pools.setdefault(stratum, []).append((self._rank(record), number))
        # The i-th of every stratum comes before the (i + 1)-th of any.
        turns = [
            (turn, rank, number)
            for pool in pools.values()
            for turn, (rank, number) in enumerate(sorted(pool))
        ]
        taken = sorted(number for _, _, number in sorted(turns)[: self.size])
        return [given[number] for number in taken]

    def _rank(self, record: PromptRecord) -> bytes:
        key = f"{self.seed} {record.task} {record.id}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(key, digest_size=8).digest()
