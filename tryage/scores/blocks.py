"""Rows of tables in blocks of columns: what all rows of a block share is done once for all."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tryage.errors import ScoreTableError

Block = tuple[Sequence[int], Sequence[Sequence[Any]]]
"""The numbers of some rows, and the values of each column in these rows."""

ROWS_AT_ONCE = 4096
_ROWS_HELD = 512
"""Rows that exist at a time: few enough for Python not to look for garbage among them."""


def in_blocks(rows: Iterable[tuple[int, Sequence[Any]]]) -> Iterator[Block]:
    """Yield rows, each with its number and one value per column, in blocks.

    An error in reading a row is raised when the rows before it have been yielded.
    """
    source = iter(rows)
    problem: ScoreTableError | csv.Error | None = None
    ended = False
    while not ended:
        numbers: list[int] = []
        columns: list[list[Any]] = []
        while not ended and len(numbers) < ROWS_AT_ONCE:
            held: list[Sequence[Any]] = []
            try:
                for number, row in islice(source, _ROWS_HELD):
                    numbers.append(number)
                    held.append(row)
            except (ScoreTableError, csv.Error) as error:
                problem = error
            ended = len(held) < _ROWS_HELD
            columns = columns or [[] for _ in held[0]] if held else columns
            for column, values in zip(columns, zip(*held, strict=True), strict=False):
                column += values
        if numbers:
            yield numbers, columns
    if problem is not None:
        raise problem


def in_rows(blocks: Iterable[Block]) -> Iterator[tuple[int, Sequence[Any]]]:
    """Yield the rows of blocks, each with its number and one value per column."""
    for numbers, columns in blocks:
        yield from zip(numbers, zip(*columns, strict=True), strict=True)


def check_text(path: Path, encoding: str, refuse: Callable[[int], ScoreTableError]) -> None:
    """Check that a file is text, without holding it.

    Args:
        path: the file.
        encoding: of the text.
        refuse: line number → the error where the bytes there are none.

    Raises:
        ScoreTableError: the error that `refuse` returns.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    with path.open("rb") as file:
        while True:
            data = file.read(2**20)
            try:
                decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise refuse(lines + error.object.count(b"\n", 0, error.start)) from error
            if not data:
                return
            lines += data.count(b"\n")
