"""Commands on a library: show, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tryage.cli.shared import AsJson, guarded, print_json, say


@guarded
def show(
    library: Annotated[Path, typer.Argument(help="The library's YAML file.")],
    as_json: AsJson = False,
) -> None:
    """List a library's experts with their attributes.

    Example: tryage library show library.yaml
    """
    from rich.table import Table

    from tryage.library import Library
    from tryage.units import format_count

    read = Library.read(library)
    if as_json:
        print_json(read.to_dict())
        return
    table = Table("expert", "task", "model", "parameters", "released", "license")
    for expert in read:
        size = "" if expert.parameters is None else format_count(expert.parameters)
        released, terms = str(expert.released or ""), expert.license or ""
        table.add_row(expert.name, expert.task, expert.model, size, released, terms)
    Console().print(table)


@guarded
def check(
    library: Annotated[Path, typer.Argument(help="The library's YAML file.")],
    as_json: AsJson = False,
) -> None:
    """See that every expert's model is there and could be loaded.

    Example: tryage library check library.yaml
    """
    from tryage.errors import ExpertError
    from tryage.library import Library
    from tryage.runtime import Runtime

    read = Library.read(library)
    runtime = Runtime(read)
    bad: dict[str, str] = {}
    for name in read.names:
        try:
            runtime.check(name)
        except ExpertError as error:
            bad[name] = str(error)
    if as_json:
        print_json({"experts": len(read), "problems": bad})
    else:
        for name in read.names:
            say(f"{name}: {bad.get(name, 'ok')}")
    if bad:
        raise typer.Exit(2)
