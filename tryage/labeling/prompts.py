"""The prompts to measure: read, checked, and made into one row per task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tryage.errors import PromptError
from tryage.experts import FILL_MASK, MASK
from tryage.labeling.sampling import Sample
from tryage.labeling.words import MaskedText, align, mask_words
from tryage.prompts import PromptRecord, Prompts, read_prompts


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of one task, ready to be measured.

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


def read_rows(
    prompts: Prompts, tasks: Iterable[str], *, mask_share: float, sample: Sample | None = None
) -> list[Row]:
    """Make the rows that a library's experts are measured on.

    A prompt that names its task gives one row. One that holds `[MASK]` is a fill-mask prompt. Any
    other gives one row for each task of `tasks`.

    Args:
        prompts: what `tryage.prompts.read_prompts` reads.
        tasks: the tasks that the library's experts do.
        mask_share: part of the words to hide where a fill-mask row is made from plain text.
        sample: which of the prompts to take; None takes all.

    Raises:
        PromptError: a prompt is wrong; the message says where (file and line) and in which field.
    """
    known = tuple(tasks)
    rows: list[Row] = []
    seen: dict[tuple[str, str], str] = {}
    records = read_prompts(prompts)
    for record in records if sample is None else sample.take(records):
        try:
            made = _rows(record, known, mask_share)
        except PromptError as error:
            raise PromptError(f"{record.where}: {error}") from error
        for row in made:
            first = seen.setdefault((row.task, row.id), record.where)
            if first != record.where:
                raise PromptError(f"{record.where}: id: {row.id!r} was used by {first} already")
        rows += made
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
            given = record.reference if task == FILL_MASK else None
            rows.append(_masked_row(name, prompt, group, given, mask_share))
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
