"""The commands `library show`, `library check` and `library from-hub`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tryage.cli.options import (
    AllowedKeys,
    AllowedModels,
    AsJson,
    Download,
    LibraryFile,
    allowed_folders,
)
from tryage.cli.output import guarded, print_json, say, waiting
from tryage.library import Library
from tryage.paths import check_writable


@guarded
def show(
    library: LibraryFile,
    as_json: AsJson = False,
) -> None:
    """List a library's experts: what they are, and to which endpoint their prompts and keys go.

    Example: tryage library show library.yaml
    """
    from rich.markup import escape
    from rich.table import Column, Table

    from tryage.units import format_count

    loaded = Library.read(library)
    if as_json:
        print_json(loaded.to_dict())
        return
    served = any(expert.endpoint for expert in loaded)
    columns = ["expert", "task", "model", "parameters", "released", "license"]
    # An address that is cut short would not say who reads the prompts.
    table = Table(*columns, *([Column("endpoint", overflow="fold")] if served else []))
    for expert in loaded:
        size = "" if expert.parameters is None else format_count(expert.parameters)
        row = [expert.name, expert.task, expert.model, size, str(expert.released or "")]
        row.append(expert.license or "")
        if served and expert.endpoint:
            key = expert.endpoint.key_env
            row.append(f"{expert.endpoint.url}, key {key}" if key else expert.endpoint.url)
        table.add_row(*map(escape, row))
    Console().print(table)


@guarded
def check(
    library: LibraryFile,
    router: Annotated[
        str | None,
        typer.Option("--router", help="Also list what changed since this router was fitted."),
    ] = None,
    download: Download = False,
    allow_key: AllowedKeys = None,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Check that every expert's model exists and can be loaded.

    Example: tryage library check library.yaml
    """
    from tryage.errors import ConsentError, ExpertError
    from tryage.runtime import Runtime

    loaded = Library.read(library)
    runtime = Runtime(
        loaded,
        download=download,
        keys=allow_key or (),
        folders=allowed_folders(allow_models),
    )
    problems: dict[str, str] = {}
    for name in loaded.names:
        try:
            runtime.check(name)
        except (ConsentError, ExpertError) as error:
            problems[name] = str(error)
    changes = _changes(loaded, router, download)
    if as_json:
        print_json({"experts": len(loaded), "problems": problems, "changes": changes})
    else:
        for name in loaded.names:
            say(f"{name}: {problems.get(name, 'ok')}")
        for name, change in changes.items():
            say(f"{name}: {change}")
    if problems or changes:
        raise typer.Exit(2)


def _changes(library: Library, router: str | None, download: bool) -> dict[str, str]:
    from tryage.hub_routers import find, load

    if router is None:
        return {}
    return library.changes_from(load(find(router), download=download).library)


@guarded
def from_hub(
    models: Annotated[list[str], typer.Argument(help="Hub ids, id@revision, or model folders.")],
    out: Annotated[Path, typer.Option(help="The library's YAML file to write.")],
    name: Annotated[str, typer.Option(help="Name of the library.")] = "library",
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds that the Hub may take for one model.")
    ] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Write a library of models, with their attributes from the Hub or their folders.

    Example: tryage library from-hub mistralai/Mistral-7B-v0.1 ./my-model --out library.yaml
    """
    from tryage.errors import OutputFolderError

    if out.exists():
        raise OutputFolderError(f"{str(out)!r} exists; name a new file")
    check_writable(out)
    with waiting("reading"):
        sources = [_path_from(model, out.parent) for model in models]
        library = Library.from_models(sources, name=name, root=out.parent, timeout=timeout)
    library.write(out)
    if as_json:
        print_json(library.to_dict())
    else:
        say(f"{len(library)} experts written to {out}")


def _path_from(model: str, root: Path) -> str:
    """Return a model folder as a path relative to `root`; a Hub id is returned unchanged."""
    folder = Path(model).expanduser()
    if not folder.is_dir() or folder.is_absolute():
        return model
    relative = os.path.relpath(folder, root)
    return relative if relative.startswith(".") else f"./{relative}"
