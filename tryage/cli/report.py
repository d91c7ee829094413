"""The command `report`: shows a file of decisions as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tryage.cli.options import AsJson
from tryage.cli.output import guarded, note, print_json, waiting
from tryage.report import RoutingReport, check_report


@guarded
def report(
    decisions: Annotated[
        Path,
        typer.Argument(
            help="JSONL of decisions: a router's log, or what route --output wrote; - reads "
            "standard input."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Write the report here: one HTML file.")],
    prompts: Annotated[
        bool,
        typer.Option(
            "--prompts/--no-prompts", help="Whether typical words of the prompts are shown."
        ),
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of clusters and samples.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show a file of decisions: shares, predicted costs, savings, drift, kinds of prompts.

    Example: tryage report decisions.jsonl --out week.html
    """
    check_report(out)
    with waiting("drawing the report"):
        read = RoutingReport.read(decisions, prompts=prompts, seed=seed)
        read.write(out)
    if as_json:
        print_json(read.to_dict())
    note(f"report: {out}")
