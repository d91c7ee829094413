"""Lines of a feedback file; a damaged line is skipped, and the others are read."""

from __future__ import annotations

import os
import warnings
from typing import Any

from tryage.errors import ScoreTableError, TryageWarning
from tryage.json_lines import JsonLineError, json_lines
from tryage.scores.building import TableBuilder
from tryage.scores.columns import Columns

KEYS = frozenset({"prompt", "task", "scores"})
"""Keys of a line of feedback."""

BEGINNING = b'{"prompt": "'
"""How each of them begins."""

_BLOCK = 2**16
_SHOWN = 3
"""Lines that a warning names at most."""


def whole_lines(data: bytes, source: str) -> Columns | None:
    """Read a feedback file some of whose lines cannot be read, and warn of those.

    Args:
        data: the file.
        source: what messages call it.

    Returns:
        The other lines; None where this is no feedback file: less than half of its lines hold the
        keys of feedback and the score of one expert.
    """
    lines = [line for line in enumerate(data.split(b"\n"), 1) if line[1].strip()]
    entries: list[tuple[int, Any]] = []
    problems: list[str] = []
    for number, line in lines:
        try:
            [(_, entry)] = json_lines(line)
            alone = TableBuilder(source)
            alone.add_line(number, entry)
            if alone.build().kind != "scores":
                raise alone.error(number, "losses", "feedback holds scores")
        except JsonLineError as error:
            problems.append(f"line {number}: {error.problem}")
        except ScoreTableError as error:
            problems.append(str(error).removeprefix(f"{source}, "))
        else:
            entries.append((number, entry))
    if 2 * sum(_is_feedback(entry) for _, entry in entries) < max(1, len(lines)):
        return None
    builder = TableBuilder(source)
    for number, entry in entries:
        try:
            builder.add_line(number, entry)
        except ScoreTableError as error:
            problems.append(str(error).removeprefix(f"{source}, "))
    several = f"{len(problems)} lines are" if len(problems) > 1 else "a line is"
    shown = "; ".join(problems[:_SHOWN]) + ("; ..." if len(problems) > _SHOWN else "")
    warnings.warn(f"{source}: {several} left out: {shown}", TryageWarning, stacklevel=2)
    return builder.build()


def _is_feedback(entry: Any) -> bool:
    return entry.keys() == KEYS and len(entry["scores"]) == 1


def torn_tail(handle: int) -> int:
    """Return the bytes of a feedback line that a crash tore, at the end of a file.

    A last line without an end counts where it begins as lines of feedback do and is no whole
    object; what somebody else wrote there is not ours to judge.

    Args:
        handle: the file, open for reading.
    """
    tail, start = b"", os.fstat(handle).st_size
    while start and b"\n" not in tail:
        length = min(_BLOCK, start)
        start -= length
        os.lseek(handle, start, os.SEEK_SET)
        tail = os.read(handle, length) + tail
    tail = tail.rpartition(b"\n")[2]
    try:
        for _ in json_lines(tail):
            return 0
    except JsonLineError:
        begun = tail.startswith(BEGINNING) or BEGINNING.startswith(tail)
        return len(tail) if begun else 0
    return 0
