"""Turns rows with one expert each, or with a column per expert, into the columns of a table."""

from __future__ import annotations

import ast
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tryage.errors import ScoreTableError
from tryage.prompts import short
from tryage.scores.building import TableBuilder
from tryage.scores.columns import Array, Columns
from tryage.scores.fields import FIELDS, LOSS, SCORE, Field, Kind
from tryage.scores.formats.options import ReadOptions
from tryage.scores.formats.roles import Roles, is_long, wide_columns
from tryage.scores.formats.rows import Rows
from tryage.scores.formats.values import as_text, message_text, number
from tryage.scores.longform import LongFormBuilder

_PERCENT = 100.0
_RATING = 10.0
"""Scores may be out of 100 only where the greatest passes this: below it may be a rating."""


def read_rows(rows: Rows, options: ReadOptions) -> tuple[Columns, list[str]]:
    """Return the columns of a table of rows, and what was guessed.

    Raises:
        ScoreTableError: it is not clear what a column holds, or a value is wrong: names source,
            line and column.
    """
    notes = list(rows.notes)
    read = _read_long if is_long(rows, options) else _read_wide
    return read(rows, options, notes), notes


def _read_wide(rows: Rows, options: ReadOptions, notes: list[str]) -> Columns:
    roles = Roles(rows, options, notes)
    texts = roles.texts()
    cells = wide_columns(rows, options, texts.values(), notes)
    positions = {name: position for position, name in enumerate(rows.columns)}
    text_positions = {role: positions[name] for role, name in texts.items()}
    number_positions = [positions[name] for name in cells.values()]
    builder = TableBuilder(rows.source, unit=rows.unit)
    prompts = _Prompts(lists=options.format == "routerbench" or _is_routerbench(rows))
    numbers, lines = array("d"), array("q")
    for line, values in rows.start():
        entry = {role: values[position] for role, position in text_positions.items()}
        builder.add_prompt(line, prompts.cleaned(entry))
        for position in number_positions:
            value = values[position]
            try:
                converted = number(value, rows.decimal)
            except ValueError:
                raise ScoreTableError(
                    f"{rows.source}, {rows.unit} {line}: {rows.columns[position]}: {short(value)} "
                    "is not a number; where nothing was measured leave the cell empty, and name "
                    "the columns of the experts with experts= (--experts)"
                ) from None
            numbers.append(np.nan if converted is None else converted)
        lines.append(line)
    notes += prompts.notes
    matrix = np.frombuffer(numbers, dtype=np.float64).reshape(len(lines), len(cells))
    kind: Kind = "losses" if any(target is LOSS for target, _ in cells) else "scores"
    builder.set_kind(lines[0] if lines else 1, kind)
    experts = list(dict.fromkeys(expert for _, expert in cells))
    columns = builder.build()
    parts = {target: np.full((len(lines), len(experts)), np.nan) for target, _ in cells}
    for position, (target, expert) in enumerate(cells):
        parts[target][:, experts.index(expert)] = matrix[:, position] + 0.0
    if SCORE in parts:
        parts[SCORE] = parts[SCORE] / _scale(parts[SCORE], options, rows.source, notes)
    for (target, expert), name in cells.items():
        _check(target, parts[target][:, experts.index(expert)], lines, rows, name)
    losses = 1.0 - parts[SCORE] if SCORE in parts else parts[LOSS]
    targets = {t.name: values for t, values in parts.items() if t not in (SCORE, LOSS)}
    return replace(columns, experts=tuple(experts), losses=losses, targets=targets)


def _check(target: Field, values: Array, lines: Sequence[int], rows: Rows, name: str) -> None:
    """Refuse a number outside its range."""
    with np.errstate(invalid="ignore"):
        wrong = (values < target.low) | (values > target.high) | np.isinf(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise ScoreTableError(
            f"{rows.source}, {rows.unit} {lines[row]}: {name}: {values[row]:g} is outside "
            f"{target.interval}; {target.advice}" + (_RANGE_ADVICE if target is SCORE else "")
        )


_RANGE_ADVICE = (
    " (kind='losses', --kind losses), or say the greatest score with scale= (--scale), or which "
    "columns are experts with experts= (--experts)"
)


def _scale(scores: Array, options: ReadOptions, source: str, notes: list[str]) -> float:
    """Return what scores are divided by: what the caller said, else 1, or 100 where that is clear.

    Most scores that are not zero must then pass 1, so that a slip among fractions is no scale.
    """
    if options.scale is not None:
        return options.scale
    measured = scores[~np.isnan(scores)]
    greatest = float(measured.max(initial=0.0))
    large = int((measured > 1.0).sum())
    if _RATING < greatest <= _PERCENT and 2 * large >= int((measured > 0.0).sum()):
        notes.append("scores from 0 to 100 divided by 100")
        return _PERCENT
    return 1.0


def _read_long(rows: Rows, options: ReadOptions, notes: list[str]) -> Columns:
    roles = Roles(rows, options, notes)
    texts = roles.texts()
    expert_column = roles.column("expert", required=True)
    names = {field.name: roles.column(field.name) for field in FIELDS.values()}
    numbers = {name: column for name, column in names.items() if column is not None}
    if {"score", "loss"} <= numbers.keys():
        raise ScoreTableError(
            f"{rows.source}: {numbers['score']} holds scores and {numbers['loss']} losses; keep one"
        )
    if not {"score", "loss"} & numbers.keys():
        roles.column("score", required=True)
    if options.kind == "losses" and "score" in numbers:
        numbers = {"loss" if name == "score" else name: c for name, c in numbers.items()}
    named = {**texts, "expert": str(expert_column), **numbers}
    left = [name for name in rows.columns if name not in set(named.values())]
    if left:
        notes.append(f"left out: {', '.join(left)}")
    positions = {role: rows.columns.index(column) for role, column in named.items()}
    prompts = _Prompts()
    builder = LongFormBuilder(
        rows.source, unit=rows.unit, columns=["prompt", "expert", *numbers], names=named
    )
    unmeasured = 0
    for line, values in rows.start():
        entry = prompts.cleaned({role: values[positions[role]] for role in texts})
        entry["prompt_id"] = entry.pop("id", None)
        for name, column in numbers.items():
            value = values[positions[name]]
            try:
                entry[name] = number(value, rows.decimal)
            except ValueError:
                raise ScoreTableError(
                    f"{rows.source}, {rows.unit} {line}: {column}: {short(value)} is not a number"
                ) from None
        measured = any(entry[name] is not None for name in numbers)
        unmeasured += not measured
        entry["expert"] = as_text(values[positions["expert"]]) if measured else None
        builder.add_row(line, entry)
    notes += prompts.notes
    if unmeasured:
        notes.append(f"{unmeasured} rows without a number are not measured")
    scores = builder.builder.numbers("score")
    if scores:
        builder.builder.divide("score", _scale(np.asarray(scores), options, rows.source, notes))
    return builder.build()


def _is_routerbench(rows: Rows) -> bool:
    return any(name.endswith("|total_cost") for name in rows.columns)


class _Prompts:
    """Brings prompts and what describes them into the form of a table.

    Args:
        lists: whether a prompt may be a list of texts, written as Python code, as RouterBench has.
    """

    def __init__(self, *, lists: bool = False) -> None:
        self._lists = lists
        self._joined = self._messages = False

    @property
    def notes(self) -> list[str]:
        """What was guessed."""
        joined = ["prompts are lists of texts, which were joined"] if self._joined else []
        messages = ["prompts are lists of messages; the user's last was read"]
        return joined + (messages if self._messages else [])

    def cleaned(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return the texts of a row, as `TableBuilder.add_prompt` takes them."""
        cleaned = {role: as_text(value) for role, value in entry.items() if role != "prompt"}
        prompt = entry["prompt"]
        if not isinstance(prompt, str):
            text = message_text(prompt)
            if text is not None:
                self._messages = True
                prompt = text
        elif self._lists and prompt.startswith("["):
            texts = _listed(prompt)
            if texts is not None:
                self._joined = True
                prompt = "\n".join(texts)
        return {"prompt": prompt, **cleaned}


def _listed(text: str) -> list[str] | None:
    try:
        texts = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return texts if isinstance(texts, list) and all(isinstance(t, str) for t in texts) else None


def join_notes(source: str, form: str, notes: Iterable[str]) -> str:
    """Return one line that says how a source was read."""
    return f"{source}: read as {form}: {'; '.join(notes)}"
