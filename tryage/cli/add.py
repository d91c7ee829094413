"""The command `add`: takes a new expert into a router, without refitting the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tryage.cli.options import (
    AllowedModels,
    AsJson,
    LibraryFile,
    RouterArgument,
    RouterDownload,
    load_router,
)
from tryage.cli.output import guarded, print_json, say, waiting
from tryage.errors import LibraryError
from tryage.experts import Expert
from tryage.library import Library
from tryage.persistence import check_output


@guarded
def add(
    router: RouterArgument,
    library: LibraryFile,
    probes: Annotated[
        Path,
        typer.Argument(help="Results of the new experts, best of a few hundred prompts."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the router with the new experts.")],
    download: RouterDownload = False,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Take the experts of a library that a router lacks into it; the others are not refitted.

    Example: tryage add my-router library.yaml probes.jsonl --out my-router-2
    """
    from tryage.scores import ScoreTable

    check_output(out)
    grown = load_router(router, allow_models, download=download)
    offered = Library.read(library)
    new = [expert for expert in offered if expert.name not in grown.library]
    if not new:
        raise LibraryError(
            f"the router has all experts of {library} already: {', '.join(offered.names)}; to "
            "measure one anew, refit with tryage fit --update"
        )
    with waiting("adding"):
        table = ScoreTable.read(probes)
        for expert in new:
            grown = grown.add_expert(_moved(expert, offered, grown.library), table)
        decisions = grown.route_batch(table.prompts, flags=False)
        grown.save_pretrained(out)
    names = [expert.name for expert in new]
    shares = {name: sum(d.expert == name for d in decisions) / len(decisions) for name in names}
    if as_json:
        print_json({"added": names, "experts": len(grown.library), "share_of_probes": shares})
        return
    for name, share in shares.items():
        say(f"{name} added; it is chosen for {share:.0%} of the {len(decisions)} probes")
    say(f"{grown!r} saved in {out}")


def _moved(expert: Expert, source: Library, target: Library) -> Expert:
    """Return an expert of one library for another: a relative model folder is named from there."""
    folder = source.model_path(expert)
    if isinstance(folder, str) or Path(expert.model).expanduser().is_absolute():
        return expert
    relative = os.path.relpath(folder, target.root or Path())
    named = relative if relative.startswith(".") else f"./{relative}"
    return expert.model_copy(update={"model": named})
