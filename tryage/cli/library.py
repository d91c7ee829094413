"""The commands `library check` and `library from-hub`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tryage.cli.library_listing import write_listing
from tryage.cli.options import (
    AllowedKeys,
    AllowedModels,
    AsJson,
    Download,
    LibraryFile,
    allowed_folders,
)
from tryage.cli.output import guarded, note, print_json, say, waiting
from tryage.hub import TIMEOUT
from tryage.hub_search import RETRIES, SORTS, HubSearch
from tryage.hub_search import TIMEOUT as PAGE_TIMEOUT
from tryage.library import Library
from tryage.library_lines import SUFFIXES
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
    out: Annotated[
        Path, typer.Option(help="The library's file to write: YAML, .jsonl or .parquet.")
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Hub ids, id@revision, or model folders; NAME=MODEL names the expert."),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="List the Hub's models whose ids hold this text."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="List the Hub's models of this Transformers task.")
    ] = None,
    author: Annotated[
        str | None, typer.Option(help="List the Hub's models of this user or organization.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="List the Hub's models with this tag, e.g. license:mit; repeatable."),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help=f"Order of a listing, largest first: {', '.join(SORTS)}.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Most experts of a listing; by default all.")
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of a YAML library; others are called after their file.")
    ] = "library",
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help=f"Seconds that the Hub may take for one model (default {TIMEOUT:g}), or for one "
            f"page of a listing (default {PAGE_TIMEOUT:g}).",
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="How often a page is asked for again where the Hub is busy.")
    ] = RETRIES.retries,
    as_json: AsJson = False,
) -> None:
    """Write a library of models, with their attributes from the Hub or their folders.

    Name the models, or list those that the Hub finds: page by page, and a repeated command goes
    on where an interrupted one stopped.

    Example: tryage library from-hub mistralai/Mistral-7B-v0.1 ./my-model --out library.yaml

    Example: tryage library from-hub --search llama --task text-generation --out llamas.jsonl
    """
    from tryage.errors import OptionError, OutputFolderError

    query = HubSearch(search=search, task=task, author=author, tags=tuple(tag or ()), sort=sort)
    is_listing = query != HubSearch() or limit is not None
    if is_listing == bool(models):
        raise OptionError(
            "name models, or list them by --search, --task, --author, --tag, --sort or --limit; "
            + ("both were given" if models else "neither was given")
        )
    if name != "library" and out.suffix.lower() in SUFFIXES:
        raise OptionError(
            f"--name {name!r}: a library in a {out.suffix} file is called after the file, "
            f"{out.stem!r}"
        )
    if is_listing and is_stream(out):
        raise OptionError(
            f"--out {str(out)!r}: a listing goes to a plain file, so that it can be taken up again"
        )
    if is_listing:
        check_writable(out)
        write_listing(
            query,
            out,
            name=name,
            limit=limit,
            timeout=timeout,
            retries=retries,
            as_json=as_json,
        )
        return
    if out.exists() and not is_stream(out):
        raise OutputFolderError(f"{str(out)!r} exists; name a new file")
    check_writable(out)
    # The folder that links lead to: above it, `..` means another one.
    root = Path(os.path.realpath(out.parent))
    with waiting("reading"):
        sources = [_source(model, root) for model in models or ()]
        library = Library.from_models(sources, name=name, root=root, timeout=timeout or TIMEOUT)
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
