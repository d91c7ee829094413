"""The command `evaluate`: compares a router's choices or plans with measured results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tryage.cli.options import (
    AllowedModels,
    AsJson,
    BootstrapSeed,
    CheckRates,
    MaxAttempts,
    RouterArgument,
    RouterDownload,
    TaskOfTable,
    load_router,
    read_check,
)
from tryage.cli.output import guarded, note, print_json, say, waiting
from tryage.evaluation.plans import plans_table
from tryage.plans import MAX_ATTEMPTS
from tryage.report import check_report


@guarded
def evaluate(
    router: RouterArgument,
    scores: Annotated[Path, typer.Argument(help="A score table the router was not fitted on.")],
    train: Annotated[
        Path | None, typer.Option(help="The table it was fitted on, for the fitted references.")
    ] = None,
    task: TaskOfTable = None,
    seed: BootstrapSeed = 0,
    check: CheckRates = None,
    max_attempts: MaxAttempts = MAX_ATTEMPTS,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write a report with plots: one HTML file.")
    ] = None,
    prompts: Annotated[
        bool,
        typer.Option(
            "--prompts/--no-prompts", help="Whether the report shows beginnings of prompts."
        ),
    ] = True,
    download: RouterDownload = False,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Compare a router's choices with measured results; warn where one expert takes nearly all.

    With --check, evaluate plans instead: the exact expected values of trying experts until the
    check accepts an answer.

    Example: tryage evaluate my-router test.jsonl --train scores.jsonl --html report.html
    """
    from tryage.scores import ScoreTable

    if html is not None:
        check_report(html)
    loaded = load_router(router, allow_models, download=download)
    table = ScoreTable.read(scores)
    train_table = None if train is None else ScoreTable.read(train)
    described = None if check is None else read_check(check, loaded)
    if html is not None:
        with waiting("drawing the report"):
            loaded.report(
                table,
                train=train_table,
                task=task,
                seed=seed,
                prompts=prompts,
                check=described,
                max_attempts=max_attempts,
            ).write(html)
        note(f"report: {html}")
    if described is not None:
        with waiting("evaluating"):
            figures = loaded.evaluate_plans(
                table, described, max_attempts=max_attempts, train=train_table, seed=seed, task=task
            )
        print_json(figures) if as_json else say(plans_table(figures))
        return
    with waiting("evaluating"):
        report = loaded.evaluate(table, train=train_table, seed=seed, task=task)
    if as_json:
        print_json(report.to_dict())
    else:
        say(report.table())
