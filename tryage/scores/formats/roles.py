"""Recognizes what the columns of a table hold, by what the caller said and by their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tryage.errors import ScoreTableError, did_you_mean
from tryage.scores.fields import LOSS, SCORE, TARGETS, Field
from tryage.scores.formats.options import TEXT_ROLES, ReadOptions
from tryage.scores.formats.rows import Rows
from tryage.scores.formats.values import number

ALIASES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "input", "question", "instruction", "query"),
    "id": ("prompt_id", "id", "sample_id", "question_id"),
    "group": ("group", "category", "subject", "dataset", "eval_name"),
    "task": ("task",),
    "reference": ("reference", "target", "expected", "gold", "ground_truth"),
    "expert": ("expert", "model", "model_name", "llm", "generator"),
    "score": ("score", "accuracy", "correct", "performance"),
    "loss": ("loss",),
    "cost": ("cost", "cost_usd", "total_cost"),
    "response_chars": ("response_chars",),
    "readability": ("readability",),
    "latency": ("latency",),
    "probability": ("probability",),
}
"""Names of columns that are recognized, upper case or lower; the first wins over the others."""

_COUNTERS = frozenset({"", "index", "idx", "row", "unnamed: 0"})
"""Columns of numbers that are no experts: what programs write to count rows."""

_SEPARATORS = ("|", "_", ".", " ", "-", ":")
_WORDS = {SCORE: ("score", "scores", "accuracy", "acc"), LOSS: ("loss", "losses")} | {
    target: tuple({*ALIASES[target.name], target.name, target.key}) for target in TARGETS
}


@dataclass
class Roles:
    """Finds the column that plays each role, and writes down what it guessed.

    Args:
        rows: the table.
        options: what the caller said.
    """

    rows: Rows
    options: ReadOptions
    notes: list[str] = field(default_factory=list)

    def column(self, role: str, *, required: bool = False) -> str | None:
        """Return the column of a role, None where there is none.

        Raises:
            ScoreTableError: the caller named a column that is not there; a required role has no
                column, or several could be it.
        """
        if role in self.options.columns:
            return self.check(self.options.columns[role], role)
        names = {name.lower(): name for name in reversed(self.rows.columns)}
        present = [names[alias] for alias in ALIASES[role] if alias in names]
        part = "id" if role == "id" else role
        if present and (len(present) == 1 or present[0].lower() == ALIASES[role][0]):
            if present[0] not in (role, ALIASES[role][0]):
                self.notes.append(f"{part} = {present[0]}")
            return present[0]
        if not present:
            if not required:
                return None
            raise ScoreTableError(
                f"{self.rows.source}: no column holds the {part}; there are "
                f"{', '.join(self.rows.columns)}. Say which with columns={{{part!r}: ...}} "
                f"(--columns {part}={self.rows.columns[0]})"
            )
        listed = " and ".join(present)
        choice = f"columns={{{part!r}: {present[0]!r}}} (--columns {part}={present[0]})"
        if required:
            raise ScoreTableError(
                f"{self.rows.source}: {listed} could each be the {part}; say which with {choice}"
            )
        self.notes.append(f"{listed} could each be the {part}, so none is: {choice}")
        return None

    def check(self, name: str, role: str) -> str:
        """Return the name of a column; ScoreTableError where the table lacks it."""
        if name not in self.rows.columns:
            raise ScoreTableError(
                f"{self.rows.source}: columns say that {role} is in {name!r}, but there are only "
                f"{', '.join(self.rows.columns)}." + did_you_mean(name, self.rows.columns)
            )
        return name

    def texts(self) -> dict[str, str]:
        """Return role → column of the prompt and what describes it."""
        columns = {role: self.column(role, required=role == "prompt") for role in TEXT_ROLES}
        return {role: column for role, column in columns.items() if column is not None}


def is_long(rows: Rows, options: ReadOptions) -> bool:
    """Whether a table has a row per prompt and expert."""
    if options.format in ("long", "wide", "routerbench"):
        return options.format == "long"
    if options.of_experts():
        return False
    if "expert" in options.columns:
        return True
    names = {name.lower() for name in rows.columns}
    has_measure = bool({"score", "loss"} & options.columns.keys()) or bool(
        names & {*ALIASES["score"], *ALIASES["loss"]}
    )
    return has_measure and bool(names & set(ALIASES["expert"]))


def wide_columns(
    rows: Rows, options: ReadOptions, texts: Iterable[str], notes: list[str]
) -> dict[tuple[Field, str], str]:
    """Return (number, expert) → column of a table with a column per expert.

    Args:
        rows: the table.
        options: what the caller said.
        texts: the columns that hold texts.
        notes: what was guessed is added to it.

    Raises:
        ScoreTableError: no column is an expert, or one that the caller named is not there.
    """
    roles = Roles(rows, options)
    cells = dict(options.of_experts())
    for (target, expert), column in cells.items():
        roles.check(column, f"{target.key}.{expert}")
    if not _of_measures(cells):
        measure = LOSS if options.kind == "losses" else SCORE
        experts = [roles.check(name, "an expert") for name in options.experts]
        cells |= {(measure, name): name for name in experts} or _experts(rows, measure, texts)
        if not options.experts:
            notes.append(f"experts {', '.join(_of_measures(cells))}")
        cells |= _targets(rows, cells, notes)
    kinds = {target for target, _ in cells} & {SCORE, LOSS}
    if not kinds:
        raise ScoreTableError(
            f"{rows.source}: no column holds the scores of an expert; there are "
            f"{', '.join(rows.columns)}. A table has a column per expert, or columns expert and "
            "score (or loss); say which with columns= (--columns expert=model,score=correct)"
        )
    if len(kinds) > 1:
        raise ScoreTableError(
            f"{rows.source}: some columns hold scores and others losses; say which columns are "
            "experts with experts= (--experts)"
        )
    left = [name for name in rows.columns if name not in {*texts, *cells.values()}]
    if left:
        notes.append(f"left out: {', '.join(name or 'a column without a name' for name in left)}")
    return cells


def _of_measures(cells: Iterable[tuple[Field, str]]) -> list[str]:
    """Return the experts that have scores or losses."""
    return [expert for target, expert in cells if target in (SCORE, LOSS)]


def _targets(
    rows: Rows, cells: Mapping[tuple[Field, str], str], notes: list[str]
) -> dict[tuple[Field, str], str]:
    """Return the columns that are named as the cost, latency, ... of an expert."""
    experts = set(_of_measures(cells))
    targets: dict[tuple[Field, str], str] = {}
    for column in rows.columns:
        for target, expert in _parts(column):
            if expert in experts and target in TARGETS and column not in cells.values():
                targets.setdefault((target, expert), column)
    for target in TARGETS:
        measured = [expert for other, expert in targets if other is target]
        if measured:
            notes.append(f"{target.key} of {', '.join(measured)}")
    return targets


def _experts(rows: Rows, measure: Field, texts: Iterable[str]) -> dict[tuple[Field, str], str]:
    """Return the columns of numbers: those named as scores, else all that nothing else explains."""
    sample = rows.sample()
    of_texts = set(texts)
    numbers = [
        name
        for position, name in enumerate(rows.columns)
        if name not in of_texts
        and name.lower() not in _COUNTERS
        and _is_number([values[position] for values in sample], rows.decimal)
    ]
    named: Mapping[tuple[Field, str], str] = {
        part: name for name in numbers for part in _parts(name) if part[0] in (SCORE, LOSS)
    }
    if named:
        return dict(named)
    bases = set(numbers)
    return {
        (measure, name): name
        for name in numbers
        if not any(target in TARGETS and expert in bases for target, expert in _parts(name))
    }


def _parts(column: str) -> list[tuple[Field, str]]:
    """Return what a name such as "gpt-4|total_cost" or "cost_gpt-4" may hold, of which expert."""
    lower = column.lower()
    parts = []
    for target, words in _WORDS.items():
        for word in sorted(words, key=len, reverse=True):
            for separator in _SEPARATORS:
                if lower.endswith(separator + word) and len(lower) > len(separator + word):
                    parts.append((target, column[: -len(separator + word)]))
                if lower.startswith(word + separator) and len(lower) > len(word + separator):
                    parts.append((target, column[len(word + separator) :]))
    return parts


def _is_number(values: Sequence[Any], decimal: str) -> bool:
    """Tell whether most cells that are not empty are numbers; any other is an error when read."""
    numbers = others = 0
    for value in values:
        try:
            numbers += number(value, decimal) is not None
        except ValueError:
            others += 1
    return numbers > others
