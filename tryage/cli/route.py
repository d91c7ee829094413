"""The command `route`: decides for one prompt, or for a file of prompts."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tryage.cli.options import (
    AllowedModels,
    AsJson,
    Excluded,
    GoalOptions,
    LimitOptions,
    RouterDownload,
    RouterName,
    TaskName,
    load_router,
    read_goals,
)
from tryage.cli.output import guarded, print_json, say, text_of, writes_unicode
from tryage.cli.route_engines import Engine, Source
from tryage.cli.route_file import route_file
from tryage.cli.route_lines import TOP, Order
from tryage.errors import OptionError
from tryage.paths import STANDARD, check_writable


@guarded
def route(
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt, with its flags; - reads standard input.")
    ] = None,
    router: RouterName = "open7",
    goal: GoalOptions = None,
    limit: LimitOptions = None,
    exclude: Excluded = None,
    task: TaskName = None,
    input: Annotated[
        Path | None, typer.Option("--input", help='JSONL of {"prompt", "id"?, "task"?} lines.')
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Write the decisions here as JSONL, as they are made; an interrupted run goes on "
            "when the command is repeated.",
        ),
    ] = None,
    similar: Annotated[
        int,
        typer.Option(
            min=0,
            help="Also show so many of the nearest training prompts, of a router that was fitted "
            "with --keep-prompts.",
        ),
    ] = 0,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most experts of a ranking to show; by default all, and 5 on each line of an "
            "--input FILE.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that decide for an --input FILE; by default 1, with Ray one a CPU.",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="What decides for an --input FILE.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; by default Ray starts here.")
    ] = None,
    why: Annotated[
        bool,
        typer.Option("--why", help="Show what would have to change for the runner-up to win."),
    ] = False,
    download: RouterDownload = False,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Decide which expert a prompt goes to.

    Example: tryage route "Prove that 7 is prime. [Flag: smallest model]" --router open7
    """
    if (prompt is None) == (input is None):
        raise OptionError("give a prompt, or --input FILE")
    if output is not None and input is None:
        raise OptionError("--output is for the decisions of an --input FILE")
    if similar and prompt is None:
        raise OptionError("--similar is for one prompt, not for an --input FILE")
    if why and prompt is None:
        raise OptionError("--why is for one prompt, not for an --input FILE")
    if prompt is not None and (engine != "local" or address is not None):
        raise OptionError("--engine and --address are for an --input FILE")
    goals = read_goals(goal, limit)
    if output is not None:
        check_writable(output)
    if input is not None:
        source = Source(router, tuple(allow_models or ()), tuple(exclude or ()), download)
        to_console = output is None or output == STANDARD
        escaped = to_console and not writes_unicode()
        order = Order(goals, task, top or TOP, escaped)
        # Ray's own threads write to standard output.
        apart = (
            contextlib.redirect_stdout(sys.stderr) if engine == "ray" else contextlib.nullcontext()
        )
        with apart:
            route_file(source, input, output, order, Engine(engine, workers, address))
        return
    loaded = load_router(router, allow_models, exclude, download=download)
    decision = loaded.route(text_of(prompt or ""), goals=goals, task=task)
    if as_json:
        nearest = [one.to_dict() for one in loaded.similar(decision, similar)] if similar else None
        shown: dict[str, Any] = {} if nearest is None else {"similar": nearest}
        if why:
            second = loaded.runner_up(decision)
            shown["runner_up"] = None if second is None else second.to_dict()
        print_json(decision.to_dict(top) | shown)
    else:
        say(loaded.explain(decision, similar=similar, why=why, top=top))
