"""The commands `library check` and `library from-hub`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tryage.cli.options import (
    AllowedKeys,
    AllowedModels,
    AsJson,
    Download,
    LibraryFile,
    allowed_folders,
)
from tryage.cli.output import guarded, note, print_json, say, waiting
from tryage.library import Library
from tryage.paths import check_writable, is_stream, user_path


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
    models: Annotated[
        list[str],
        typer.Argument(help="Hub ids, id@revision, or model folders; NAME=MODEL names the expert."),
    ],
    out: Annotated[
        Path, typer.Option(help="The library's file to write: .yaml, .jsonl or .parquet.")
    ],
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

    if out.exists() and not is_stream(out):
        raise OutputFolderError(f"{str(out)!r} exists; name a new file")
    check_writable(out)
    # The folder that links lead to: above it, `..` means another one.
    root = Path(os.path.realpath(out.parent))
    with waiting("reading"):
        sources = [_source(model, root) for model in models]
        library = Library.from_models(sources, name=name, root=root, timeout=timeout)
    library.write(out)
    if as_json:
        print_json(library.to_dict())
    elif not is_stream(out):
        say(f"{len(library)} experts written to {out}")
    else:
        note(f"{len(library)} experts written")


def _source(text: str, root: Path) -> str | tuple[str, str]:
    """Return a model, or its name and the model; folders as paths relative to `root`."""
    name, sign, model = text.partition("=")
    if sign and name and model and not user_path(text).is_dir():
        return name, _path_from(model, root)
    return _path_from(text, root)


def _path_from(model: str, root: Path) -> str:
    """Return a model folder as a path relative to `root`; a Hub id is returned unchanged."""
    folder = user_path(model)
    if not folder.is_dir() or folder.is_absolute():
        return model
    relative = os.path.relpath(os.path.realpath(folder), root)
    return relative if relative.startswith(".") else f"./{relative}"
