"""The commands `table convert` and `table show`: score tables that other programs wrote."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from tryage.cli.options import AsJson
from tryage.cli.output import guarded, note, print_json, print_table, say, show_warning, waiting
from tryage.paths import STANDARD, check_writable

if TYPE_CHECKING:
    from tryage.scores import ScoreTable

_Source = Annotated[Path, typer.Argument(help="The table: a file, or a folder of results.")]
_Format = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FORMAT",
        help="tryage, long, wide, routerbench, lm-eval, alpaca-eval, promptfoo or langsmith; by "
        "default it is recognized.",
    ),
]
_Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="PART=COLUMN,...",
        help="Which column holds what, e.g. prompt=input,expert=model or 'costs.gpt-4=GPT-4 USD'.",
    ),
]
_Experts = Annotated[
    str | None,
    typer.Option(metavar="NAME,...", help="The columns that are experts, or the only expert."),
]
_Kind = Annotated[
    str | None, typer.Option(help="scores or losses, for columns that do not say so.")
]
_Scale = Annotated[float | None, typer.Option(help="The greatest possible score, e.g. 100.")]
_Delimiter = Annotated[
    str | None, typer.Option(help="The character between two values; tab for a tab.")
]
_Decimal = Annotated[str | None, typer.Option(help="The character before a fraction: . or ,")]
_Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", help="The measure that counts; several in order of preference."),
]


@guarded
def convert(
    source: _Source,
    out: Annotated[
        Path, typer.Option(help="The file: .jsonl, .jsonl.gz, .csv or .parquet; - prints.")
    ],
    format_: _Format = None,
    columns: _Columns = None,
    experts: _Experts = None,
    kind: _Kind = None,
    scale: _Scale = None,
    delimiter: _Delimiter = None,
    decimal: _Decimal = None,
    metric: _Metrics = None,
    as_json: AsJson = False,
) -> None:
    """Read a table that another program wrote and write it as a score table.

    Example: tryage table convert results.csv --columns prompt=input --out scores.jsonl
    """
    from tryage.scores.files import check_ending

    check_ending(out)
    check_writable(out)
    table, notes = _read(source, format_, columns, experts, kind, scale, delimiter, decimal, metric)
    table.write(out)
    measured = int((~np.isnan(table.losses)).sum())
    if as_json:
        print_json({**_summary(table), "notes": notes, "out": str(out)})
        return
    done = (
        f"{out}: {len(table):,} prompts, {len(table.experts)} experts, {measured:,} of "
        f"{table.losses.size:,} cells measured"
    )
    if out == STANDARD:
        note(done)
    else:
        say(done)


@guarded
def show(
    source: _Source,
    as_json: AsJson = False,
    format_: _Format = None,
    columns: _Columns = None,
    experts: _Experts = None,
    kind: _Kind = None,
    scale: _Scale = None,
    delimiter: _Delimiter = None,
    decimal: _Decimal = None,
    metric: _Metrics = None,
) -> None:
    """Show what a table holds: prompts, groups, and every expert's mean score and cost.

    Example: tryage table show scores.jsonl
    """
    table, notes = _read(source, format_, columns, experts, kind, scale, delimiter, decimal, metric)
    summary = _summary(table)
    if as_json:
        print_json({**summary, "notes": notes})
        return
    say(f"{summary['prompts']:,} prompts, {summary['texts']:,} different texts")
    say(f"{summary['prompts_with_every_expert']:,} of them measured with every expert")
    for name in ("groups", "tasks"):
        if summary[name]:
            say(f"{name}: {', '.join(f'{k} {v:,}' for k, v in summary[name].items())}")
    measure = "mean score" if table.kind == "scores" else "mean loss"
    heads = ["expert", "prompts", measure, *_units(table)]
    rows = []
    for name, row in summary["experts"].items():
        values = [row[measure.removeprefix("mean ")], *(_shown(row, t) for t in table.targets)]
        numbers = ["" if value is None else f"{value:.6g}" for value in values]
        rows.append([name, f"{row['prompts']:,}", *numbers])
    print_table(heads, rows)


_UNITS = {
    "cost": "USD per 1,000",
    "latency": "mean latency, s",
    "response_chars": "mean answer, characters",
    "readability": "mean readability, grade",
    "probability": "mean probability of being right",
}


def _shown(row: dict[str, Any], target: str) -> float | None:
    """Return a mean as it is shown: costs of 1,000 prompts."""
    mean: float | None = row[target]
    return mean if mean is None or target != "cost" else 1000.0 * mean


def _units(table: ScoreTable) -> list[str]:
    return [_UNITS[name] for name in table.targets]


def _read(
    source: Path,
    format_: str | None,
    columns: list[str] | None,
    experts: str | None,
    kind: str | None,
    scale: float | None,
    delimiter: str | None,
    decimal: str | None,
    metric: list[str] | None,
) -> tuple[ScoreTable, list[str]]:
    """Return the table, and the lines that say what was guessed, which are printed too."""
    from tryage.scores import ScoreTable
    from tryage.scores.formats import parse_columns

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with waiting("reading"):
            table = ScoreTable.read(
                source,
                format=format_,
                columns=parse_columns(columns or []),
                experts=[] if experts is None else [name.strip() for name in experts.split(",")],
                kind=kind,  # type: ignore[arg-type]  # it is checked where it is read
                scale=scale,
                delimiter={"tab": "\t", "\\t": "\t"}.get(delimiter or "", delimiter),
                decimal=decimal,
                metrics=metric or [],
            )
    notes = [str(warning.message) for warning in caught]
    for line in notes:
        show_warning(line)
    return table, notes


def _summary(table: ScoreTable) -> dict[str, Any]:
    measured = ~np.isnan(table.losses)
    values = 1.0 - table.losses if table.kind == "scores" else table.losses
    experts: dict[str, dict[str, Any]] = {}
    for column, name in enumerate(table.experts):
        numbers = {"score" if table.kind == "scores" else "loss": values[:, column]}
        numbers |= {target: cells[:, column] for target, cells in table.targets.items()}
        experts[name] = {"prompts": int(measured[:, column].sum())}
        experts[name] |= {
            key: None if np.isnan(cells).all() else float(np.nanmean(cells))
            for key, cells in numbers.items()
        }
    return {
        "prompts": len(table),
        "texts": len(set(table.prompts)),
        "prompts_with_every_expert": int(measured.all(axis=1).sum()),
        "groups": _counts(table.groups),
        "tasks": _counts(table.tasks),
        "experts": experts,
    }


def _counts(names: tuple[str | None, ...]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        if name is not None:
            counts[name] = counts.get(name, 0) + 1
    return counts
