"""Reads per-sample outputs of lm-evaluation-harness (`--log_samples`), a folder per model.

A line of `samples_TASK_DATE.jsonl` holds one prompt: `doc_id`, `doc`, `target`, `arguments`,
`filter`, `metrics` and each metric under its name. `results_DATE.json` beside it names the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tryage.errors import ScoreTableError
from tryage.scores.columns import Columns
from tryage.scores.formats.cells import Cells, choices
from tryage.scores.formats.json_text import read_json, read_json_lines
from tryage.scores.formats.options import ReadOptions
from tryage.scores.formats.values import at_path, message_text, number

_NAME = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+))?\.jsonl")


def sample_files(path: Path) -> list[Path]:
    """Return the sample files of a folder, or the file itself, sorted."""
    files = [path] if path.is_file() else sorted(path.rglob("samples_*.jsonl"))
    return [file for file in files if _NAME.fullmatch(file.name)]


def read_harness(path: Path, options: ReadOptions) -> tuple[Columns, list[str]]:
    """Read the samples of one model or of several; see `docs/tables.md` for the terms.

    Raises:
        ScoreTableError: several metrics or filters could count, or a line is not of this format.
    """
    files = sample_files(path)
    if not files:
        raise ScoreTableError(
            f"{path}: no samples_*.jsonl in it; lm-evaluation-harness writes them with "
            "--log_samples"
        )
    notes: list[str] = []
    newest = _newest(files, options, notes)
    cells = Cells(str(path), "line", {"prompt": options.columns.get("prompt", "arguments")})
    metrics: dict[str, None] = {}
    for (model, task), file in newest.items():
        cells.start_file(str(file))
        entries = _samples(file)
        chosen = _metric(file, [entry for _, entry in entries], options)
        metrics[f"{task}: {chosen[0]}" + (f", {chosen[1]}" if chosen[1] else "")] = None
        for line, entry in entries:
            if chosen[1] is not None and entry.get("filter") != chosen[1]:
                continue
            cells.add(line, _cell(file, line, entry, task, model, chosen[0], options))
    if options.format is None:
        notes.append(f"experts {choices({model for model, _ in newest})}")
        notes.append(f"score = {', '.join(metrics)}")
        notes.append("group = task")
    return cells.build(notes), notes


def _newest(
    files: Sequence[Path], options: ReadOptions, notes: list[str]
) -> dict[tuple[str, str], Path]:
    """Return (model, task) → its newest file."""
    models = {folder: _model(folder) for folder in {file.parent for file in files}}
    if len(options.experts) == 1 and len(models) == 1:
        models = dict.fromkeys(models, options.experts[0])
    newest: dict[tuple[str, str], Path] = {}
    for file in files:  # sorted, so a later date follows an earlier one
        newest[models[file.parent], _task(file)] = file
    if len(newest) < len(files):
        older = len(files) - len(newest)
        notes.append(f"of several runs of a task the newest was read, {older} files left out")
    return newest


def _samples(file: Path) -> list[tuple[int, Mapping[str, Any]]]:
    entries = list(read_json_lines(file))
    for line, entry in entries:
        if not isinstance(entry, Mapping) or "doc_id" not in entry or "doc" not in entry:
            raise ScoreTableError(
                f"{file}, line {line}: no doc_id and doc, so lm-evaluation-harness did not write it"
            )
    return entries


def _task(file: Path) -> str:
    match = _NAME.fullmatch(file.name)
    return match["task"] if match else file.stem


def _model(folder: Path) -> str:
    """Return the model of a folder: as its newest results name it, else the folder's name."""
    for results in sorted(folder.glob("results_*.json"), reverse=True):
        value, _ = read_json(results)
        if isinstance(value, Mapping):
            name = value.get("model_name")
            if isinstance(name, str) and name:
                return name
    return folder.resolve().name.replace("__", "/")


def _metric(
    file: Path, entries: Sequence[Mapping[str, Any]], options: ReadOptions
) -> tuple[str, str | None]:
    """Return the metric of a task that counts, and its filter where there are several."""
    filters = {str(entry.get("filter")) for entry in entries}
    metrics = {
        name
        for entry in entries
        for name in entry.get("metrics") or ()
        if isinstance(name, str) and isinstance(entry.get(name), int | float)
    }
    if not metrics:
        raise ScoreTableError(
            f"{file}: none of its metrics is a number per sample; score it with a metric such as "
            "acc or exact_match"
        )
    for choice in options.metrics or [""]:
        name, _, only = choice.partition(",")
        if choice and name not in metrics:
            continue
        if not choice and len(metrics) > 1:
            break
        name = name or next(iter(metrics))
        if only and only not in filters:
            continue
        if not only and len(filters) > 1:
            names = sorted(f"{name},{other}" for other in filters)
            raise ScoreTableError(
                f"{file}: every sample was scored after the filters {choices(filters)}; say which "
                f"counts with metrics={names[:1]} (--metric {names[0]})"
            )
        return name, only or (next(iter(filters)) if len(filters) > 1 else None)
    raise ScoreTableError(
        f"{file}: the samples have the metrics {choices(metrics)}"
        + (f", none of {', '.join(options.metrics)}" if options.metrics else "")
        + f"; say which counts with metrics={sorted(metrics)[:1]} "
        f"(--metric {sorted(metrics)[0]})"
    )


def _cell(
    file: Path,
    line: int,
    entry: Mapping[str, Any],
    task: str,
    model: str,
    metric: str,
    options: ReadOptions,
) -> dict[str, Any]:
    place = f"{file}, line {line}"
    path = options.columns.get("prompt")
    prompt = _context(entry) if path is None else at_path(entry, path)
    if not isinstance(prompt, str):
        raise ScoreTableError(
            f"{place}: {path or 'arguments'} holds no text to route by; name the prompt with "
            "columns= (--columns prompt=doc.question)"
        )
    try:
        score = number(entry.get(metric))
    except ValueError:
        raise ScoreTableError(f"{place}: {metric}: {entry.get(metric)!r} is no number") from None
    target = entry.get("target")
    answers = entry.get("filtered_resps")
    answer = answers[0] if isinstance(answers, list) and answers else None
    return {
        "prompt_id": f"{task}/{entry['doc_id']}",
        "prompt": message_text(prompt) or prompt if path is None else prompt,
        "group": task,
        "reference": target if isinstance(target, str) and target else None,
        "expert": model,
        "score": score,
        "response_chars": len(answer) if isinstance(answer, str) else None,
    }


def _context(entry: Mapping[str, Any]) -> Any:
    """Return the context of a sample's first request: what the model was sent."""
    arguments = entry.get("arguments")
    if isinstance(arguments, Mapping):
        return at_path(arguments, "gen_args_0.arg_0")
    return at_path(arguments, "0.0")
