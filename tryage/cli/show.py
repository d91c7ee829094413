"""The command `show`: tells what a router is and what it was fitted on."""

from __future__ import annotations

from tryage.cli.options import AllowedModels, AsJson, RouterArgument, RouterDownload, load_router
from tryage.cli.output import guarded, print_json, say


@guarded
def show(
    router: RouterArgument,
    download: RouterDownload = False,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Show a router: its experts, what it was fitted on, its verdict, and who wins which prompts.

    Example: tryage show my-router
    """
    summary = load_router(router, allow_models, download=download).summary()
    if as_json:
        print_json(summary.to_dict())
    else:
        say(str(summary))
