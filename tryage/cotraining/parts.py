"""The prompts of a co-training, split into three parts by a stable hash of their texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tryage.cotraining.folder import digest
from tryage.cotraining.options import CotrainingOptions
from tryage.errors import PromptError
from tryage.labeling.rows import Row, read_rows
from tryage.prompts import Prompts
from tryage.scores import ScoreTable
from tryage.scores.columns import Array

_LEAST_LABELLED, _LEAST_HELD_OUT = 20, 10
"""Prompts below which a router cannot be fitted, or its loss says nothing."""


@dataclass(frozen=True)
class Parts:
    """Rows of one task; no text is in two of the parts.

    Attributes:
        stream: experts are trained on these.
        labelled: the router is fitted on these, and updates are judged by them.
        held_out: these are only measured.
    """

    stream: tuple[Row, ...]
    labelled: tuple[Row, ...]
    held_out: tuple[Row, ...]

    @property
    def measured(self) -> tuple[Row, ...]:
        """All rows that experts are measured on."""
        return (*self.labelled, *self.held_out)

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of all rows, in hexadecimal."""
        rows = (self.stream, self.labelled, self.held_out)
        return digest(
            json.dumps([number, row.id, row.prompt, row.group, row.reference])
            for number, part in enumerate(rows)
            for row in part
        )

    def of_round(self, number: int, size: int | None) -> tuple[Row, ...]:
        """Return the stream's rows of a round, from 1: the next `size` ones, all without it."""
        n = len(self.stream)
        if size is None or size >= n:
            return self.stream
        start = (number - 1) * size
        return tuple(self.stream[i % n] for i in range(start, start + size))


def split(
    prompts: Prompts, task: str, options: CotrainingOptions, held_out: Prompts | None = None
) -> Parts:
    """Read prompts and split them.

    Args:
        prompts: what `tryage.prompts.read_prompts` reads.
        task: the experts' task.
        options: say the shares, and how many words of a prompt are hidden.
        held_out: prompts of the third part, which are also taken out of the others; None splits
            it off.

    Raises:
        PromptError: a prompt is wrong, or a part has too few.
    """
    rows = read_rows(prompts, (task,), mask_share=options.mask_share)
    others = None
    if held_out is not None:
        others = tuple(read_rows(held_out, (task,), mask_share=options.mask_share))
    kept_out = {_text(row) for row in others or ()}
    most = options.most_measured / len(rows)
    share = min(options.held_out, most) if others is None else 0.0
    border = share + min(options.labelled, most)
    parts: dict[str, list[Row]] = {"stream": [], "labelled": [], "held_out": []}
    for row in rows:
        place = _place(_text(row), options.seed)
        if place < share:
            parts["held_out"].append(row)
        elif _text(row) not in kept_out:
            parts["labelled" if place < border else "stream"].append(row)
    made = Parts(
        tuple(parts["stream"]),
        tuple(parts["labelled"]),
        tuple(parts["held_out"]) if others is None else others,
    )
    _check(made, options)
    return made


def _check(parts: Parts, options: CotrainingOptions) -> None:
    for what, rows, least, advice in (
        ("to train on", parts.stream, 1, ""),
        ("to label", parts.labelled, _LEAST_LABELLED, f" (labelled is {options.labelled:g})"),
        ("held out", parts.held_out, _LEAST_HELD_OUT, f" (held_out is {options.held_out:g})"),
    ):
        if len(rows) < least:
            raise PromptError(
                f"{len(rows)} prompts are left {what}{advice}, and {least} are needed; give more "
                "prompts or a larger share"
            )


def table_of(rows: Sequence[Row], experts: Sequence[str], losses: Array) -> ScoreTable:
    """Return the score table of measured rows.

    Args:
        rows: n rows of one task.
        experts: m names.
        losses: (n, m) bits per byte, NaN where not measured.
    """
    return ScoreTable(
        prompts=tuple(row.prompt for row in rows),
        ids=tuple(row.id for row in rows),
        groups=tuple(row.group for row in rows),
        tasks=tuple(row.task for row in rows),
        references=tuple(row.reference for row in rows),
        experts=tuple(experts),
        losses=losses,
        kind="losses",
        targets={},
        extras=tuple({} for _ in rows),
    )


def group_names(rows: Iterable[Row]) -> list[str]:
    """Return each row's group; ``"all"`` where it has none."""
    return [row.group or "all" for row in rows]


def _text(row: Row) -> str:
    """The text that a row is made from: rows of one text stay in one part."""
    return row.masked.text if row.masked is not None else row.prompt


def _place(text: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the text and the seed alone."""
    data = f"{seed} {text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") / 2**64
