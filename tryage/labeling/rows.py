"""Prompts become rows: read, sampled, checked, and one row for each task."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from tryage.errors import OptionError, PromptError
from tryage.experts import FILL_MASK, MASK
from tryage.labeling.masking import MaskedText, align, mask_words
from tryage.prompts import PromptRecord, Prompts, read_prompts


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of one task, ready to measure.

    Attributes:
        id: unique within the task.
        prompt: what routing will see; a fill-mask prompt carries its `[MASK]`s.
        task: the task.
        group: group of the prompt, or None.
        reference: for text-generation the answer to score, None to score the prompt itself;
            for fill-mask the text without marks.
        masked: the hidden words of a fill-mask row; else None.
    """

    id: str
    prompt: str = field(repr=False)
    task: str
    group: str | None = None
    reference: str | None = field(default=None, repr=False)
    masked: MaskedText | None = None


Strata = Literal["group", "task"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of the prompts, the same in every run, whatever their order.

    Prompts are chosen by a hash of their ids, so a larger sample of the same prompts contains the
    smaller one.

    Attributes:
        size: prompts to take at most.
        stratify: ``"group"`` or ``"task"`` takes equally many from each, as far as each goes;
            None ignores what prompts belong to.
        seed: of the hash.
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
        """Return the sample that options describe; None if they take all prompts."""
        if size is not None:
            return cls(size, stratify, seed)
        if stratify is not None:
            raise OptionError(f"stratify is {stratify!r}, but no sample is taken; give its size")
        return None

    def take(self, records: Iterable[PromptRecord]) -> list[PromptRecord]:
        """Return the prompts of the sample, in their own order."""
        pools: dict[str | None, list[tuple[bytes, int]]] = {}
        population = list(records)
        for number, record in enumerate(population):
            stratum = getattr(record, self.stratify) if self.stratify else None
            pools.setdefault(stratum, []).append((self._rank(record), number))
        # The i-th of every stratum comes before the (i + 1)-th of any.
        turns = [
            (turn, rank, number)
            for pool in pools.values()
            for turn, (rank, number) in enumerate(sorted(pool))
        ]
        chosen = sorted(number for _, _, number in sorted(turns)[: self.size])
        return [population[number] for number in chosen]

    def _rank(self, record: PromptRecord) -> bytes:
        key = f"{self.seed} {record.task} {record.id}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(key, digest_size=8).digest()


def read_rows(
    prompts: Prompts, tasks: Iterable[str], *, mask_share: float, sample: Sample | None = None
) -> list[Row]:
    """Return the rows that a library's experts are measured on.

    A prompt that names its task gives one row. One that contains `[MASK]` is a fill-mask prompt.
    Any other gives one row for each task of `tasks`.

    Args:
        prompts: what `tryage.prompts.read_prompts` reads.
        tasks: the tasks of the library's experts.
        mask_share: share of the words to hide where a fill-mask row is made from plain text.
        sample: which of the prompts to take; None takes all.

    Raises:
        PromptError: a prompt is wrong; the message says where (file and line) and in which field.
    """
    tasks = tuple(tasks)
    rows: list[Row] = []
    places: dict[tuple[str, str], str] = {}
    records = read_prompts(prompts)
    for record in records if sample is None else sample.take(records):
        try:
            new_rows = _rows(record, tasks, mask_share)
        except PromptError as error:
            raise PromptError(f"{record.where}: {error}") from error
        for row in new_rows:
            first = places.setdefault((row.task, row.id), record.where)
            if first != record.where:
                raise PromptError(f"{record.where}: id: {row.id!r} was used by {first} already")
        rows += new_rows
    if not rows:
        source = str(prompts) if isinstance(prompts, str | Path) else "prompts"
        raise PromptError(f"{source}: there are no prompts to measure")
    return rows


def _rows(record: PromptRecord, tasks: tuple[str, ...], mask_share: float) -> list[Row]:
    name, prompt, group, task = record.id, record.prompt, record.group, record.task
    if task is None and MASK in prompt:
        task = FILL_MASK
    if task is not None and task not in tasks:
        raise PromptError(
            f"task: no expert of the library does {task!r}; it has {', '.join(tasks)}"
        )
    rows = []
    for one in tasks if task is None else (task,):
        if one == FILL_MASK:
            unmasked = record.reference if task == FILL_MASK else None
            rows.append(_masked_row(name, prompt, group, unmasked, mask_share))
        else:
            rows.append(Row(name, prompt, one, group, record.reference))
    return rows


def _masked_row(
    name: str, prompt: str, group: str | None, reference: str | None, mask_share: float
) -> Row:
    if MASK not in prompt:
        masked = mask_words(prompt, share=mask_share)
    elif reference is None:
        raise PromptError(f"reference: missing; a prompt with {MASK} needs its text without marks")
    else:
        # The same text hidden in the same method: exact even where the marks could stand elsewhere.
        masked = mask_words(reference, share=mask_share)
        if masked.prompt != prompt:
            try:
                masked = align(prompt, reference)
            except PromptError as error:
                raise PromptError(f"reference: {error}") from error
    return Row(name, masked.prompt, FILL_MASK, group, masked.text, masked)
