"""Reads the JSON and JSONL output of promptfoo (`promptfoo eval --output results.json`).

`results.results` holds an entry per test, prompt and provider: `provider.id` and `label`,
`prompt.raw` (the rendered prompt), `vars`, `score`, `namedScores`, `cost`, `latencyMs`, `error`
and `response`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tryage.errors import ScoreTableError
from tryage.prompts import prompt_id, short
from tryage.scores.columns import Columns
from tryage.scores.formats.cells import Cells, choices
from tryage.scores.formats.json_text import read_json, read_json_lines
from tryage.scores.formats.options import ReadOptions
from tryage.scores.formats.values import at_path, message_text, number

_FAILED = 2
"""`failureReason` of an entry whose provider failed, which says nothing of the model."""


def results_of(value: Any) -> list[Any] | None:
    """Return the entries of promptfoo's output, None where a value is no such output."""
    results = value.get("results") if isinstance(value, Mapping) else None
    if isinstance(results, Mapping):
        results = results.get("results")
    if not isinstance(results, list):
        return None
    first = results[0] if results else {}
    return results if isinstance(first, Mapping) and {"provider", "prompt"} <= set(first) else None


def read_promptfoo(path: Path, options: ReadOptions) -> tuple[Columns, list[str]]:
    """Read promptfoo's results: a prompt per rendered prompt, an expert per provider.

    Raises:
        ScoreTableError: not of this format, or a value in it is wrong.
    """
    if path.suffix.lower() == ".jsonl":
        value: Any = {"results": [entry for _, entry in read_json_lines(path)]}
    else:
        value, _ = read_json(path)
    results = results_of(value)
    if results is None:
        raise ScoreTableError(
            f"{path}: no results.results with provider and prompt, so promptfoo did not write it"
        )
    notes: list[str] = []
    cells = Cells(str(path), "result", {"prompt": options.columns.get("prompt", "prompt.raw")})
    cells.start_file(str(path))
    named = {
        name
        for entry in results
        if isinstance(entry, Mapping) and isinstance(entry.get("namedScores"), Mapping)
        for name in entry["namedScores"]
    }
    metric = next((name for name in options.metrics if name in named or name == "score"), None)
    if options.metrics and metric is None:
        raise ScoreTableError(
            f"{path}: no named score {', '.join(options.metrics)}; there are "
            f"{choices(named | {'score'})}"
        )
    experts: dict[str, None] = {}
    for position, entry in enumerate(results, start=1):
        cell = _cell(path, position, entry, metric or "score", options)
        experts[cell["expert"]] = None
        cells.add(position, cell)
    if options.format is None:
        notes.append(f"experts {', '.join(experts)}")
        notes.append(
            "score = " + ("score" if metric in (None, "score") else f"namedScores.{metric}")
        )
    return cells.build(notes), notes


def _cell(
    path: Path, position: int, entry: Any, metric: str, options: ReadOptions
) -> dict[str, Any]:
    place = f"{path}, result {position}"
    if not isinstance(entry, Mapping):
        raise ScoreTableError(f"{place}: {short(entry)} is not an object {{...}}")
    source = options.columns.get("prompt")
    prompt = at_path(entry, source or "prompt.raw")
    if not isinstance(prompt, str):
        raise ScoreTableError(
            f"{place}: {source or 'prompt.raw'}: {short(prompt)} is no text; name the prompt with "
            "columns= (--columns prompt=vars.question)"
        )
    if source is None:
        prompt = message_text(prompt) or prompt
    failed = entry.get("failureReason") == _FAILED
    response = entry.get("response")
    answer = at_path(response, "output")
    cached = at_path(response, "cached") is True
    named = entry.get("namedScores")
    numbers = {
        "score": entry.get("score") if metric == "score" else at_path(named, metric),
        "cost": entry.get("cost"),
        "latency": None if cached else entry.get("latencyMs"),
    }
    group = options.columns.get("group")
    cell: dict[str, Any] = {
        "prompt_id": _id(entry, prompt),
        "prompt": prompt,
        "group": at_path(entry, group) if group else None,
        "expert": _provider(place, entry.get("provider")),
        "response_chars": len(answer) if isinstance(answer, str) else None,
    }
    for name, value in numbers.items():
        try:
            cell[name] = number(value)
        except ValueError:
            raise ScoreTableError(f"{place}: {name}: {short(value)} is no number") from None
    if cell["latency"] is not None:
        cell["latency"] /= 1000.0
    if failed:
        cell["score"] = None
    return cell


def _id(entry: Mapping[str, Any], prompt: str) -> str:
    """Return one id per test and rendered prompt, the same for every provider."""
    test = entry.get("testIdx")
    return f"{'' if test is None else f'{test}/'}{prompt_id(prompt, 1)}"


def _provider(place: str, provider: Any) -> str:
    name = provider
    if isinstance(provider, Mapping):
        name = provider.get("label") or provider.get("id")
    if not isinstance(name, str) or not name:
        raise ScoreTableError(f"{place}: provider: {short(provider)} has neither label nor id")
    return name
