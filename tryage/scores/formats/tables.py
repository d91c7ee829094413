"""Turns rows with one expert each, or with a column per expert, into the columns of a table."""

from __future__ import annotations

import ast
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import NoneType
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
from tryage.scores.formats.values import as_text, message_text, numbers
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
    builder = TableBuilder(rows.source, unit=rows.unit)
    for start, source in rows.parts:
        builder.start_part(source, start)
    prompts = _Prompts(lists=options.format == "routerbench" or _is_routerbench(rows))
    measured: dict[str, array[float]] = {name: array("d") for name in cells.values()}
    lines = array("q")
    for numbered, block in rows.blocks():
        values = {name: block[positions[name]] for name in cells.values()}
        converted, problem = _numbers(values, rows.decimal)
        count = len(numbered) if problem is None else problem[0] + 1
        described = prompts.cleaned(
            {role: block[positions[name]][:count] for role, name in texts.items()}
        )
        for line, *contents in zip(numbered[:count], *described.values(), strict=True):
            builder.add_prompt(line, dict(zip(described, contents, strict=True)))
        if problem is not None:
            place, name = problem
            raise ScoreTableError(
                f"{rows.place(numbered[place])}: {name}: "
                f"{short(values[name][place])} is not a number; where nothing was measured leave "
                "the cell empty, and name the columns of the experts with experts= (--experts)"
            )
        for name, part in converted.items():
            measured[name].frombytes(np.array(part, dtype=np.float64).tobytes())
        lines.extend(numbered)
    notes += prompts.notes
    kind: Kind = "losses" if any(target is LOSS for target, _ in cells) else "scores"
    builder.set_kind(lines[0] if lines else 1, kind)
    experts = list(dict.fromkeys(expert for _, expert in cells))
    columns = builder.build()
    parts = {target: np.full((len(lines), len(experts)), np.nan) for target, _ in cells}
    for (target, expert), name in cells.items():
        parts[target][:, experts.index(expert)] = np.asarray(measured[name]) + 0.0
    if SCORE in parts:
        parts[SCORE] = parts[SCORE] / _scale(parts[SCORE], options, rows.source, notes)
    for (target, expert), name in cells.items():
        _check(target, parts[target][:, experts.index(expert)], lines, rows, name)
    losses = 1.0 - parts[SCORE] if SCORE in parts else parts[LOSS]
    targets = {t.name: values for t, values in parts.items() if t not in (SCORE, LOSS)}
    return replace(columns, experts=tuple(experts), losses=losses, targets=targets)


def _numbers(
    values: Mapping[str, Sequence[Any]], decimal: str
) -> tuple[dict[str, list[float | None]], tuple[int, str] | None]:
    """Return columns as numbers, None where a cell is empty, up to the first that is no number.

    Args:
        values: name → the cells of a column.
        decimal: as in `number`.

    Returns:
        The numbers of the rows before that cell, and its row (from 0) and name; None without one.
    """
    columns, problem = {}, None
    for name, cells in values.items():
        columns[name], length = numbers(cells, decimal)
        if length < len(cells) and (problem is None or length < problem[0]):
            problem = length, name
    if problem is not None:
        columns = {name: column[: problem[0]] for name, column in columns.items()}
    return columns, problem


def _check(target: Field, values: Array, lines: Sequence[int], rows: Rows, name: str) -> None:
    """Refuse a number outside its range."""
    with np.errstate(invalid="ignore"):
        wrong = (values < target.low) | (values > target.high) | np.isinf(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise ScoreTableError(
            f"{rows.place(lines[row])}: {name}: {values[row]:g} is outside "
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
    measures = {name: column for name, column in names.items() if column is not None}
    if {"score", "loss"} <= measures.keys():
        raise ScoreTableError(
            f"{rows.source}: {measures['score']} holds scores and {measures['loss']} losses; "
            "keep one"
        )
    if not {"score", "loss"} & measures.keys():
        roles.column("score", required=True)
    if options.kind == "losses" and "score" in measures:
        measures = {"loss" if name == "score" else name: c for name, c in measures.items()}
    named = {**texts, "expert": str(expert_column), **measures}
    left = [name for name in rows.columns if name not in set(named.values())]
    if left:
        notes.append(f"left out: {', '.join(left)}")
    positions = {role: rows.columns.index(column) for role, column in named.items()}
    prompts = _Prompts()
    builder = LongFormBuilder(
        rows.source, unit=rows.unit, columns=["prompt", "expert", *measures], names=named
    )
    for start, source in rows.parts:
        builder.builder.start_part(source, start)
    unmeasured = 0
    for lines, columns in rows.blocks():
        values = {name: columns[positions[name]] for name in measures}
        converted, problem = _numbers(values, rows.decimal)
        count = len(lines) if problem is None else problem[0]
        block = prompts.cleaned({role: columns[positions[role]][:count] for role in texts})
        block["prompt_id"] = block.pop("id", [None] * count)
        rows_of_numbers = zip(*converted.values(), strict=True)
        measured = [any(v is not None for v in row) for row in rows_of_numbers]
        experts = _as_texts(columns[positions["expert"]])
        block["expert"] = [e if m else None for e, m in zip(experts, measured, strict=False)]
        builder.add_rows(lines[:count], {**block, **converted})
        unmeasured += measured.count(False)
        if problem is not None:
            place, name = problem
            raise ScoreTableError(
                f"{rows.place(lines[place])}: {measures[name]}: "
                f"{short(values[name][place])} is not a number"
            )
    notes += prompts.notes
    if unmeasured:
        notes.append(f"{unmeasured} rows without a number are not measured")
    scores = builder.builder.numbers("score")
    if len(scores):
        builder.builder.divide("score", _scale(scores, options, rows.source, notes))
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

    def cleaned(self, texts: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the texts of rows, role → values, as `TableBuilder.add_prompt` takes them."""
        columns = {role: _as_texts(values) for role, values in texts.items()}
        prompts = list(texts["prompt"])
        if self._lists or not _STRINGS.issuperset(map(type, prompts)):
            prompts = list(map(self._prompt, prompts))
        return {**columns, "prompt": prompts}

    def _prompt(self, prompt: Any) -> Any:
        if not isinstance(prompt, str):
            text = message_text(prompt)
            if text is not None:
                self._messages = True
                return text
        elif self._lists and prompt.startswith("["):
            texts = _listed(prompt)
            if texts is not None:
                self._joined = True
                return "\n".join(texts)
        return prompt


_STRINGS = frozenset({str})
_TEXTS = frozenset({str, NoneType})


def _as_texts(values: Sequence[Any]) -> list[Any]:
    return list(values if _TEXTS.issuperset(map(type, values)) else map(as_text, values))


def _listed(text: str) -> list[str] | None:
    try:
        texts = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return texts if isinstance(texts, list) and all(isinstance(t, str) for t in texts) else None
