"""`ScoreTable`: prompts by experts, losses where measured, NaN elsewhere."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from tryage.drawing.notebook import MOST_ROWS, html_table
from tryage.errors import ScoreTableError, TryageWarning, did_you_mean
from tryage.experts import task_of_prompt
from tryage.library import Library
from tryage.paths import user_path
from tryage.prompts import short
from tryage.scores.building import TableBuilder
from tryage.scores.columns import Array, Columns
from tryage.scores.fields import TARGETS, Kind
from tryage.scores.files import write_table
from tryage.scores.formats import ReadOptions, read_source
from tryage.scores.joining import join


@dataclass(frozen=True, eq=False)
class ScoreTable(Columns):
    """Measured results of experts on prompts; NaN where a cell was not measured.

    Scores become losses on reading (`loss = 1 - score`) and are losses everywhere inside.
    The arrays are read-only copies.

    Attributes:
        prompts: the n prompts.
        ids: one name per prompt, unique within a task.
        groups: group of each prompt, or None.
        tasks: task of each prompt, or None where the table does not say.
        references: reference answer of each prompt, or None.
        experts: the m experts, in column order (read from a file: order of first appearance).
        losses: shape (n, m), no unit for scores, else the table's own; lower is better; NaN is
            not measured.
        kind: "scores" if the table was measured in scores, "losses" otherwise.
        targets: other measured numbers, each of shape (n, m), NaN where not measured: "cost"
            (USD), "response_chars" (characters), "readability" (grade), "latency" (seconds),
            "probability" (0 to 1).
        extras: unknown keys of each prompt's line, kept and ignored; empty where there are none.
    """

    def __post_init__(self) -> None:
        n, m = len(self.prompts), len(self.experts)
        for name in ("ids", "groups", "tasks", "references"):
            if len(getattr(self, name)) != n:
                raise ScoreTableError(
                    f"{name}: {len(getattr(self, name))} entries for {n} prompts; give one each"
                )
        if len(set(self.experts)) != m:
            twice = sorted({name for name in self.experts if self.experts.count(name) > 1})
            raise ScoreTableError(f"experts: {', '.join(twice)} named twice; name each once")
        names = [target.name for target in TARGETS]
        for name in self.targets:
            if name not in names:
                raise ScoreTableError(
                    f"unknown target {name!r}; known are {', '.join(names)}."
                    + did_you_mean(name, names)
                )
        losses = _read_only(self.losses, (n, m), "losses")
        largest = 1.0 if self.kind == "scores" else np.finfo(np.float64).max
        wrong = (losses < 0) | (losses > largest)
        if wrong.any():
            raise ScoreTableError(
                f"losses: {losses[wrong][0]:g} is outside [0, {largest:g}], the range of a table "
                f"of {self.kind}"
            )
        object.__setattr__(self, "losses", losses)
        targets = {name: _read_only(v, (n, m), name) for name, v in self.targets.items()}
        object.__setattr__(self, "targets", targets)

    @classmethod
    def read(
        cls,
        source: Any,
        *,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        experts: Sequence[str] = (),
        kind: Kind | None = None,
        scale: float | None = None,
        delimiter: str | None = None,
        decimal: str | None = None,
        metrics: Sequence[str] = (),
    ) -> Self:
        """Read a score table: Tryage's own, or one that another program wrote.

        What is not said is guessed where it is clear; a `TryageWarning` says the guesses in one
        line. docs/tables.md tells how each format is read.

        Args:
            source: a `.jsonl`, `.jsonl.gz`, `.csv`, `.tsv`, `.json` or `.parquet` file, a folder of
                Parquet shards or a pattern for them (``t/*.parquet``), a label folder, a folder of
                lm-evaluation-harness, AlpacaEval or LangSmith, a pandas frame, a
                `datasets.Dataset`, or rows (mappings). ``-`` is standard input.
            format: "tryage", "long" (a row per prompt and expert), "wide" (a column per expert),
                "routerbench", "lm-eval", "alpaca-eval", "promptfoo" or "langsmith".
            columns: which column holds what: `{"prompt": "input", "expert": "model"}`, and of one
                expert `{"scores.gpt-4": "GPT-4 accuracy", "costs.gpt-4": "GPT-4 USD"}`.
            experts: the columns of a wide table that are experts, or the name of the only expert.
            kind: "scores" or "losses", for columns that do not say so.
            scale: the greatest possible score, such as 100.
            delimiter: the character between two values of a text file.
            decimal: "." or ",", the character before the fraction.
            metrics: the measures that count, in order of preference; of lm-evaluation-harness
                such as "acc" or "exact_match,strict-match".

        Returns:
            The table, its experts in order of first appearance.

        Raises:
            ScoreTableError: a bad line, named by file, line and column; an unknown kind of file;
                a source that may mean several things.
            MissingExtraError: Parquet without pyarrow.
        """
        options = ReadOptions(
            format, dict(columns or {}), _names(experts), kind, scale, delimiter, decimal,
            _names(metrics),
        )  # fmt: skip
        content, note = read_source(source, options)
        if note is not None:
            warnings.warn(note, TryageWarning, stacklevel=2)
        return cls._checked(content)

    @classmethod
    def of(cls, source: Any) -> ScoreTable:
        """Return a table as it is, or read it from whatever `read` takes.

        Raises:
            ScoreTableError: it is neither, or cannot be read.
        """
        if isinstance(source, ScoreTable):
            return source
        if isinstance(source, Sequence) and source and not isinstance(source, str):
            first = source[0]
            if isinstance(first, Mapping) and {"scores", "losses"} & first.keys():
                return cls.from_rows(source)
        return cls.read(source)

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]], *, source: str = "rows") -> Self:
        """Make a table from dicts of the JSONL format.

        Args:
            rows: one mapping per prompt, with the keys of a JSONL line.
            source: what error messages call the place the rows came from.

        Returns:
            The table.

        Raises:
            ScoreTableError: a bad row, named by source, number (from 1) and field.
        """
        if isinstance(rows, str | bytes | Path | Mapping) or not isinstance(rows, Iterable):
            raise ScoreTableError(
                f"from_rows takes a list of rows, found {short(rows)}; a file is read with "
                "ScoreTable.read"
            )
        builder = TableBuilder(source, unit="row")
        for number, row in enumerate(rows, start=1):
            builder.add_line(number, row)
        return cls._checked(builder.build())

    @classmethod
    def _checked(cls, columns: Columns) -> Self:
        return cls(**{part.name: getattr(columns, part.name) for part in fields(Columns)})

    def write(self, path: str | Path) -> None:
        """Write the table to a file, whole or not at all.

        Args:
            path: its ending says the format: `.jsonl`, `.jsonl.gz`, `.csv` or `.parquet`.

        Raises:
            ScoreTableError: an unknown ending, or text that the format cannot hold.
            MissingExtraError: Parquet without pyarrow.
        """
        write_table(self, user_path(path))

    def reorder(self, experts: Sequence[str]) -> ScoreTable:
        """Return the columns of some experts, in the order of `experts`.

        Args:
            experts: names of experts of the table; those left out are dropped.

        Returns:
            A new table with the same prompts.

        Raises:
            ScoreTableError: an expert that the table lacks.
        """
        if isinstance(experts, str):
            raise ScoreTableError(f"experts is {experts!r}; give a list of names")
        columns = {name: i for i, name in enumerate(self.experts)}
        for name in experts:
            if name not in columns:
                raise ScoreTableError(
                    f"expert {name!r} is not in the table, which holds {', '.join(self.experts)}."
                    + did_you_mean(name, self.experts)
                )
        index = np.array([columns[name] for name in experts], dtype=np.intp)
        return replace(
            self,
            experts=tuple(experts),
            losses=self.losses[:, index],
            targets={name: values[:, index] for name, values in self.targets.items()},
        )

    def join(self, newer: ScoreTable | str | Path) -> ScoreTable:
        """Return the prompts and experts of both tables.

        Rows with the same task and id become one row. Where both tables hold a number, the
        newer table's wins.

        Args:
            newer: a table of the same kind, or a file of one.

        Returns:
            This table's rows and columns, then those that only the newer one has.

        Raises:
            ScoreTableError: one table holds scores and the other losses, or the texts of a prompt
                id differ.
        """
        return self._checked(join(self, ScoreTable.of(newer)))

    def by_task(self, library: Library) -> dict[str, ScoreTable]:
        """Split into one table per task, its columns the library's experts of that task.

        A prompt that names no task gets the library's only task; where the library has several,
        fill-mask if it holds `[MASK]`, else text-generation.

        Args:
            library: the experts, their tasks and their order.

        Returns:
            The tables by task, in the order in which the tasks first occur.

        Raises:
            ScoreTableError: a measured expert that the library lacks or knows under another task,
                an expert whose task occurs but who has no measured cell, a task without experts.
        """
        self._check_experts(library)
        only = library.tasks[0] if len(library.tasks) == 1 else None
        tasks = [
            task or only or task_of_prompt(prompt)
            for task, prompt in zip(self.tasks, self.prompts, strict=True)
        ]
        rows_of: dict[str, list[int]] = {}
        for row, task in enumerate(tasks):
            rows_of.setdefault(task, []).append(row)
        return {task: self._of_task(library, task, rows) for task, rows in rows_of.items()}

    def part_of(self, library: Library, task: str) -> ScoreTable:
        """Return the part of one task; arguments and errors as `by_task`."""
        parts = self.by_task(library)
        if task not in parts:
            raise ScoreTableError(
                f"the table has no prompts of task {task!r}; it has {', '.join(parts)}."
                + did_you_mean(task, parts)
            )
        return parts[task]

    def _check_experts(self, library: Library) -> None:
        """Refuse measured experts that the library lacks."""
        unknown = [name for name in self.experts if name not in library]
        if unknown:
            raise ScoreTableError(
                f"the table measures {', '.join(map(repr, unknown))}, which the library "
                f"{library.name!r} lacks; add {'them' if len(unknown) > 1 else 'it'} to the "
                f"library or take the column out." + did_you_mean(unknown[0], library.names)
            )

    def _of_task(self, library: Library, task: str, rows: list[int]) -> ScoreTable:
        """The rows of one task with the columns of its experts."""
        names = tuple(expert.name for expert in library if expert.task == task)
        if not names:
            raise ScoreTableError(
                f"{len(rows)} prompts are of task {task!r} (the first: id {self.ids[rows[0]]!r}), "
                f"of which the library {library.name!r} has no expert; it has tasks "
                f"{', '.join(library.tasks)}"
            )
        part = replace(self.select(rows), tasks=(task,) * len(rows))
        measured = ~np.isnan(part.losses)
        expected = frozenset(names)
        counts = dict(zip(self.experts, measured.sum(axis=0).tolist(), strict=True))
        for column, name in enumerate(self.experts):
            if counts[name] and name not in expected:
                first = part.ids[int(measured[:, column].argmax())]
                raise ScoreTableError(
                    f"expert {name!r} is measured on prompt id {first!r} of task {task!r}, but the "
                    f"library gives it task {library[name].task!r}; correct one of them"
                )
        unmeasured = [name for name in names if not counts.get(name)]
        if unmeasured:
            raise ScoreTableError(
                f"no cell of task {task!r} is measured for {', '.join(map(repr, unmeasured))} of "
                f"the library {library.name!r}; measure them (tryage label) or take them out"
            )
        return part.reorder(names)

    def _repr_html_(self) -> str:
        measured = ~np.isnan(self.losses)
        scored = self.kind == "scores"
        rows = []
        for column, name in enumerate(self.experts[:MOST_ROWS]):
            losses = self.losses[measured[:, column], column]
            values = 1.0 - losses if scored else losses
            rows.append((name, f"{values.mean():.4f}" if len(values) else "–", f"{len(values):,}"))
        groups = len({group for group in self.groups if group is not None})
        return html_table(
            f"Score table: {len(self):,} prompts in {groups} groups, {len(self.experts)} experts, "
            f"{int(measured.sum()):,} of {measured.size:,} cells measured",
            ["expert", f"mean {'score' if scored else 'loss'}", "measured cells"],
            rows,
        )

    @property
    def hash(self) -> str:
        """SHA-256 of the contents, in hex: texts, order and numbers, not the unknown keys."""
        digest = hashlib.sha256()
        texts = (self.prompts, self.ids, self.groups, self.tasks, self.references, self.experts)
        for text in [self.kind, *(entry for part in texts for entry in part)]:
            coded = b"-" if text is None else text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:%d:" % (text is None, len(coded)) + coded)
        for name, values in [("loss", self.losses), *sorted(self.targets.items())]:
            # One bit pattern for every NaN and one for zero, so that equal tables hash alike.
            plain = np.where(np.isnan(values), np.nan, values + 0.0).astype("<f8")
            digest.update(name.encode() + plain.tobytes())
        return digest.hexdigest()


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _read_only(values: ArrayLike, shape: tuple[int, int], name: str) -> Array:
    """Return a read-only float64 copy; ScoreTableError where the shape differs."""
    array = np.array(values, dtype=np.float64, order="C")
    if array.shape != shape:
        raise ScoreTableError(
            f"{name}: shape {array.shape}, expected {shape}: a row per prompt, a column per expert"
        )
    array.setflags(write=False)
    return array
