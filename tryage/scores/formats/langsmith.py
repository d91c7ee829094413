"""Reads LangSmith experiments, a file per experiment, which is an expert.

Two forms are read: the frame of `Client.get_test_results` or `ExperimentResults.to_pandas`, saved
as CSV, with columns `inputs.X` (or `input.X`), `reference.X`, `feedback.KEY`, `execution_time` and
`error`; and a JSON list of the `examples_with_runs` of `Client.get_experiment_results`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tryage.errors import ScoreTableError
from tryage.prompts import prompt_id, short
from tryage.scores.columns import Columns
from tryage.scores.formats.cells import Cells, choices
from tryage.scores.formats.json_text import read_json, read_json_lines
from tryage.scores.formats.options import ReadOptions
from tryage.scores.formats.roles import ALIASES
from tryage.scores.formats.rows import text_rows
from tryage.scores.formats.values import message_text, number

_ENDINGS = (".csv", ".json", ".jsonl")
_TEXTS = (*ALIASES["prompt"], "messages", "text")


def is_langsmith(columns: Iterable[str]) -> bool:
    """Whether columns are those of an experiment."""
    names = [name.partition(".")[0] for name in columns if "." in name]
    return "feedback" in names and ("inputs" in names or "input" in names)


def experiment_files(path: Path) -> list[Path]:
    """Return the files of a folder of experiments, or the file itself, sorted."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in _ENDINGS)


def read_langsmith(path: Path, options: ReadOptions) -> tuple[Columns, list[str]]:
    """Read one experiment, or a folder of them, each named after its file.

    Raises:
        ScoreTableError: several inputs or feedback keys could count, or a value is wrong.
    """
    files = experiment_files(path)
    if not files:
        raise ScoreTableError(f"{path}: no .csv, .json or .jsonl file of an experiment in it")
    if len(options.experts) not in (0, len(files)):
        raise ScoreTableError(
            f"{path}: {len(options.experts)} names of experts for {len(files)} experiments; give "
            "one each, in the order of the files"
        )
    notes: list[str] = []
    names = list(options.experts) or [file.stem for file in files]
    if not options.experts and options.format is None:
        notes.append(f"experts {', '.join(names)}")
    cells = Cells(str(path), "row" if files[0].suffix.lower() == ".json" else "line", {})
    assumed: dict[str, None] = {}
    for file, name in zip(files, names, strict=True):
        cells.start_file(str(file))
        entries = list(_entries(file, options))
        columns = list(dict.fromkeys(key for _, entry in entries for key in entry))
        prompt = _one(file, columns, ("inputs.", "input."), options.columns.get("prompt"), _TEXTS)
        score = _one(file, columns, ("feedback.",), _metric(options, columns), ())
        reference = options.columns.get("reference")
        references = [column for column in columns if column.startswith("reference.")]
        if reference is None and len(references) == 1:
            reference = references[0]
        assumed |= {f"prompt = {prompt}": None, f"score = {score}": None}
        for line, entry in entries:
            cells.add(line, _cell(file, line, entry, name, prompt, score, reference, options))
    if options.format is None:
        notes += assumed
    return cells.build(notes), notes


def _metric(options: ReadOptions, columns: Iterable[str]) -> str | None:
    present = set(columns)
    stated = [f"feedback.{name.removeprefix('feedback.')}" for name in options.metrics]
    return next((name for name in stated if name in present), stated[0] if stated else None)


def _one(
    file: Path,
    columns: Iterable[str],
    prefixes: tuple[str, ...],
    stated: str | None,
    usual: Iterable[str],
) -> str:
    """Return the column that counts among those with a prefix."""
    names = [name for name in columns if name.startswith(prefixes)]
    if stated is not None:
        if stated in columns:
            return stated
        raise ScoreTableError(f"{file}: no column {stated!r}; there are {', '.join(columns)}")
    if len(names) == 1:
        return names[0]
    likely = [name for name in names if name.partition(".")[2].lower() in set(usual)]
    if len(likely) == 1:
        return likely[0]
    if not names:
        raise ScoreTableError(
            f"{file}: no column {' or '.join(prefixes)}..., so it is no LangSmith experiment"
        )
    way = (
        f"metrics={[names[0].partition('.')[2]]} (--metric {names[0].partition('.')[2]})"
        if prefixes == ("feedback.",)
        else f"columns={{'prompt': {names[0]!r}}} (--columns prompt={names[0]})"
    )
    raise ScoreTableError(f"{file}: {choices(names)}: say which counts with {way}")


def _entries(file: Path, options: ReadOptions) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield line and flat columns of every run of an experiment."""
    if file.suffix.lower() == ".csv":
        rows = text_rows(file, options)
        for line, values in rows.rows():
            yield line, dict(zip(rows.columns, values, strict=True))
        return
    if file.suffix.lower() == ".jsonl":
        listed = list(read_json_lines(file))
    else:
        value, lines = read_json(file)
        if isinstance(value, Mapping) and isinstance(value.get("examples_with_runs"), list):
            value, lines = value["examples_with_runs"], None
        if not isinstance(value, list):
            raise ScoreTableError(f"{file}: not a list of examples with their runs")
        listed = list(zip(lines or range(1, len(value) + 1), value, strict=True))
    for line, entry in listed:
        if not isinstance(entry, Mapping):
            raise ScoreTableError(f"{file}, line {line}: {short(entry)} is not an object {{...}}")
        if not isinstance(entry.get("runs"), list):
            yield line, entry
            continue
        for run in entry["runs"]:
            yield line, _flat(entry, run if isinstance(run, Mapping) else {})


def _flat(example: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example and one of its runs with the columns of the frame."""
    flat: dict[str, Any] = {"example_id": example.get("id"), "error": run.get("error")}
    for name, values in (
        ("inputs", example.get("inputs")),
        ("reference", example.get("outputs")),
        ("outputs", run.get("outputs")),
    ):
        if isinstance(values, Mapping):
            flat |= {f"{name}.{key}": value for key, value in values.items()}
    feedback = run.get("feedback_stats")
    if isinstance(feedback, Mapping):
        for key, stats in feedback.items():
            flat[f"feedback.{key}"] = stats.get("avg") if isinstance(stats, Mapping) else stats
    flat["execution_time"] = _seconds(run.get("start_time"), run.get("end_time"))
    flat["total_cost"] = run.get("total_cost")
    return flat


def _seconds(start: Any, end: Any) -> float | None:
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (TypeError, ValueError):
        return None


def _cell(
    file: Path,
    line: int,
    entry: Mapping[str, Any],
    expert: str,
    prompt_column: str,
    score_column: str,
    reference: str | None,
    options: ReadOptions,
) -> dict[str, Any]:
    place = f"{file}, line {line}"
    prompt = entry.get(prompt_column)
    prompt = message_text(prompt) or prompt
    if not isinstance(prompt, str):
        raise ScoreTableError(f"{place}: {prompt_column}: {short(prompt)} is no text to route by")
    answers = [v for key, v in entry.items() if key.startswith("outputs.") and isinstance(v, str)]
    group = options.columns.get("group")
    gold = entry.get(reference) if reference else None
    cell: dict[str, Any] = {
        "prompt_id": str(entry.get("example_id") or prompt_id(prompt, 1)),
        "prompt": prompt,
        "group": entry.get(group) if group else None,
        "reference": gold if isinstance(gold, str | None) else json.dumps(gold, ensure_ascii=False),
        "expert": expert,
        "response_chars": len(answers[0]) if len(answers) == 1 else None,
    }
    numbers = {"score": score_column, "latency": "execution_time", "cost": "total_cost"}
    for name, column in numbers.items():
        try:
            cell[name] = number(entry.get(column))
        except ValueError:
            raise ScoreTableError(
                f"{place}: {column}: {short(entry.get(column))} is no number"
            ) from None
    if entry.get("error"):
        cell["score"] = None
    return cell
