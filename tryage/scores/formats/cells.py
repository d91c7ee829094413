"""Collects the cells of benchmark outputs, averages repeated ones, and builds the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tryage.scores.columns import Columns
from tryage.scores.fields import FIELDS
from tryage.scores.formats.values import as_text
from tryage.scores.longform import LongFormBuilder

_COLUMNS = ("prompt_id", "prompt", "group", "reference", "expert", "score", *FIELDS)


class Cells:
    """The results of models on prompts, from one file or several.

    Args:
        source: what messages call the file, or the first of several.
        unit: "line" or "row": what numbers of entries count.
        names: what messages call fields that have other names in the source.
    """

    def __init__(self, source: str, unit: str, names: Mapping[str, str]) -> None:
        columns = [name for name in _COLUMNS if name != "loss"]
        self._columns = columns
        self._rows = LongFormBuilder(source, unit=unit, columns=columns, names=names)
        self._lines = 0
        self._started = False
        self._repeats: dict[tuple[Any, Any], list[tuple[int, dict[str, Any]]]] = {}
        self.repeated = 0
        self.unmeasured = 0

    def start_file(self, source: str) -> None:
        """Start the next file."""
        self.flush()
        if self._started:
            self._rows.start_part(source, self._columns, self._lines)
        self._started, self._lines = True, 0

    def add(self, line: int, entry: Mapping[str, Any]) -> None:
        """Add one result.

        Args:
            line: its number in the file.
            entry: with "prompt_id", "prompt", "expert", "score" (None where the model failed or
                was not scored: then nothing counts), other numbers, "group" and "reference".
        """
        self._lines = max(self._lines, line)
        texts = {name: as_text(entry.get(name)) for name in ("group", "reference", "prompt_id")}
        cell = {**entry, **texts}
        key = (texts["prompt_id"], entry.get("expert"))
        self._repeats.setdefault(key, []).append((line, cell))

    def flush(self) -> None:
        """Hand on the results of a file, one per prompt and expert."""
        for repeats in self._repeats.values():
            line, cell = repeats[0]
            scored = [other for _, other in repeats if other["score"] is not None]
            for name in FIELDS:
                values = [other[name] for other in scored if other.get(name) is not None]
                cell[name] = sum(values) / len(values) if values else None
            for other_line, other in repeats[1:]:
                # Repeats must be of the same prompt; a row without an expert only checks that.
                self._rows.add_row(other_line, _texts(other))
            self.repeated += len(repeats) - 1
            if not scored:
                self.unmeasured += 1
                cell = _texts(cell)
            self._rows.add_row(line, cell)
        self._repeats = {}

    def build(self, notes: list[str]) -> Columns:
        """Return the columns of all files; adds to the notes what was averaged or left out."""
        self.flush()
        if self.repeated:
            notes.append(f"{self.repeated} repeated results averaged")
        if self.unmeasured:
            notes.append(f"{self.unmeasured} results without a score are not measured")
        return self._rows.build()


def _texts(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {**cell, "expert": None, **dict.fromkeys(FIELDS)}


def choices(values: Iterable[str]) -> str:
    """Return names as a message lists them."""
    return ", ".join(sorted(values))
