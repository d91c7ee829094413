"""Reads annotations of AlpacaEval: which of two answers a judge prefers.

An entry of `annotations.json` holds `instruction`, `generator_1` (the baseline, the same on every
entry), `generator_2`, their outputs, `annotator` and `preference`: 1 where the baseline wins, 2
where the other model does, between them a probability, 0 or 1.5 a draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tryage.errors import ScoreTableError
from tryage.prompts import prompt_id, short
from tryage.scores.columns import Columns
from tryage.scores.formats.cells import Cells, choices
from tryage.scores.formats.json_text import read_json
from tryage.scores.formats.options import ReadOptions

KEYS = frozenset({"instruction", "generator_1", "generator_2", "preference"})


def annotation_files(path: Path) -> list[Path]:
    """Return the annotations of a folder, or the file itself, sorted."""
    return [path] if path.is_file() else sorted(path.rglob("annotations.json"))


def read_alpaca_eval(path: Path, options: ReadOptions) -> tuple[Columns, list[str]]:
    """Read annotations as the probability of beating the baseline, whose own is one half.

    Raises:
        ScoreTableError: baselines differ, several annotators judged, or an entry is not of this
            format.
    """
    files = annotation_files(path)
    if not files:
        raise ScoreTableError(f"{path}: no annotations.json in it")
    notes: list[str] = []
    cells = Cells(str(path), "line", {"prompt": "instruction", "score": "preference"})
    first: tuple[str, str] | None = None
    experts: dict[str, None] = {}
    answered: set[str] = set()
    for file in files:
        cells.start_file(str(file))
        for line, entry in _judged(file, options):
            baseline, model = entry["generator_1"], entry["generator_2"]
            if first is None:
                first = (baseline, f"{file}, line {line}")
            if baseline != first[0]:
                raise ScoreTableError(
                    f"{file}, line {line}: generator_1: {baseline!r}, but {first[1]} has "
                    f"{first[0]!r}; scores against different baselines cannot be compared"
                )
            experts |= {baseline: None, model: None}
            of_baseline = _cell(entry, baseline, 0.5, entry.get("output_1"))
            if of_baseline["prompt_id"] not in answered:
                answered.add(of_baseline["prompt_id"])
                cells.add(line, of_baseline)
            if model != baseline:
                score = _score(file, line, entry["preference"])
                cells.add(line, _cell(entry, model, score, entry.get("output_2")))
    if options.format is None and first is not None:
        notes.append(f"experts {', '.join(experts)}")
        notes.append(f"score = probability of beating {first[0]}, whose own score is 0.5")
    return cells.build(notes), notes


def _judged(file: Path, options: ReadOptions) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the annotations of a file by the annotator that counts, with their lines."""
    entries, lines = read_json(file)
    if lines is None:
        raise ScoreTableError(f"{file}: not a list of annotations")
    listed = [(line, _checked(file, line, e)) for line, e in zip(lines, entries, strict=True)]
    annotator = _annotator(file, [entry for _, entry in listed], options)
    return [
        (line, entry)
        for line, entry in listed
        if annotator is None or entry.get("annotator") == annotator
    ]


def _checked(file: Path, line: int, entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, Mapping) or not entry.keys() >= KEYS:
        raise ScoreTableError(
            f"{file}, line {line}: not an annotation of AlpacaEval, which has {choices(KEYS)}"
        )
    for key in ("instruction", "generator_1", "generator_2"):
        if not isinstance(entry[key], str):
            raise ScoreTableError(f"{file}, line {line}: {key}: {short(entry[key])} is not text")
    return entry


def _annotator(file: Path, entries: list[Mapping[str, Any]], options: ReadOptions) -> str | None:
    names = {str(entry.get("annotator")) for entry in entries}
    for choice in options.metrics:
        if choice in names:
            return choice
    if len(names) > 1:
        one = min(names)
        raise ScoreTableError(
            f"{file}: judged by {choices(names)}; say which counts with metrics={[one]} "
            f"(--metric {one})"
        )
    return None


def _score(file: Path, line: int, preference: Any) -> float | None:
    """Return the probability that the second answer is preferred; None where the judge failed."""
    if preference is None or preference != preference:
        return None
    if isinstance(preference, int | float) and not isinstance(preference, bool):
        if preference == 0:
            return 0.5
        if 1 <= preference <= 2:
            return float(preference) - 1.0
    raise ScoreTableError(
        f"{file}, line {line}: preference: {short(preference)} is not 0 or from 1 to 2"
    )


def _cell(
    entry: Mapping[str, Any], expert: str, score: float | None, answer: Any
) -> dict[str, Any]:
    dataset = entry.get("dataset")
    return {
        "prompt_id": f"{dataset or 'alpaca-eval'}/{prompt_id(entry['instruction'], 1)}",
        "prompt": entry["instruction"],
        "group": dataset if isinstance(dataset, str) and dataset else None,
        "expert": expert,
        "score": score,
        "response_chars": len(answer) if isinstance(answer, str) else None,
    }
