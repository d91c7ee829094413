"""The command `quickstart`: trains, measures, fits and uses a small library on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tryage.cli.options import AsJson
from tryage.cli.output import guarded, print_json


@guarded
def quickstart(
    out: Annotated[
        Path | None, typer.Option(help="Folder for everything; by default it is in the cache.")
    ] = None,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Print tables and answered examples too, not only a file."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a small library on this machine, measure it, fit a router and use it.

    Example: tryage quickstart --out quickstart
    """
    from tryage.quickstart import run as start

    result = start(out, console=Console(stderr=as_json), verbose=verbose)
    if as_json:
        print_json(result)
