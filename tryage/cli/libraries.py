"""Commands on a library: show, check, from-hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tryage.cli.shared import AllowedKeys, AllowedModels, AsJson, guarded, print_json, say
from tryage.library import Library


@guarded
def show(
    library: Annotated[Path, typer.Argument(help="The library's YAML file.")],
    as_json: AsJson = False,
) -> None:
    """List a library's experts with their attributes.

    Example: tryage library show library.yaml
    """
    from rich.table import Table

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
    router: Annotated[
        str | None, typer.Option("--router", help="Also name what changed since this was fitted.")
    ] = None,
    allow_key: AllowedKeys = None,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """See that every expert's model is there and could be loaded.

    Example: tryage library check library.yaml
    """
    from tryage.errors import ConsentError, ExpertError
    from tryage.runtime import Runtime

    read = Library.read(library)
    runtime = Runtime(read, keys=allow_key or (), folders=allow_models or ())
    bad: dict[str, str] = {}
    for name in read.names:
        try:
            runtime.check(name)
        except (ConsentError, ExpertError) as error:
            bad[name] = str(error)
    changes = _changes(read, router)
    if as_json:
        print_json({"experts": len(read), "problems": bad, "changes": changes})
    else:
        for name in read.names:
            say(f"{name}: {bad.get(name, 'ok')}")
        for name, change in changes.items():
            say(f"{name}: {change}")
    if bad or changes:
        raise typer.Exit(2)


def _changes(library: Library, router: str | None) -> dict[str, str]:
    from tryage.persistence import find_router, load

    return {} if router is None else library.changes_from(load(find_router(router)).library)


@guarded
def from_hub(
    models: Annotated[list[str], typer.Argument(help="Hub ids, id@revision, or model folders.")],
    out: Annotated[Path, typer.Option(help="The library's YAML file to write.")],
    name: Annotated[str, typer.Option(help="What the library is called.")] = "library",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one model.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Write a library of models with what the Hub, or their folders, say of them.

    Example: tryage library from-hub mistralai/Mistral-7B-v0.1 ./my-model --out library.yaml
    """
    from tryage.cli.shared import stderr
    from tryage.errors import OutputFolderError

    if out.exists():
        raise OutputFolderError(f"{str(out)!r} exists; name a new file")
    with stderr().status("reading"):
        found = [_beside(model, out.parent) for model in models]
        library = Library.from_models(found, name=name, root=out.parent, timeout=timeout)
    library.write(out)
    if as_json:
        print_json(library.to_dict())
    else:
        say(f"{len(library)} experts written to {out}")


def _beside(model: str, root: Path) -> str:
    """Return a folder, given as seen from here, as a library file in `root` names it."""
    folder = Path(model).expanduser()
    if not folder.is_dir() or folder.is_absolute():
        return model
    relative = os.path.relpath(folder, root)
    return relative if relative.startswith(".") else f"./{relative}"
