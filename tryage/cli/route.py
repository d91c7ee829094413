"""The command `route`: decides for one prompt, or for a file of prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
from tryage.cli.output import guarded, json_text, note, print_json, say, text_of, waiting, write_out
from tryage.cli.summary import summary
from tryage.decision import Decision
from tryage.errors import NoEligibleExpertError, OptionError, PromptError, TryageError
from tryage.files import replacing
from tryage.goals import Goals
from tryage.paths import STANDARD, check_writable
from tryage.prompts import PromptRecord, read_prompts
from tryage.router import Router


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
        Path | None, typer.Option("--output", help="Write the decisions here as JSONL.")
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
        int | None, typer.Option(min=1, help="Most experts of a ranking to show; by default all.")
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
    goals = read_goals(goal, limit)
    if output is not None:
        check_writable(output)
    loaded = load_router(router, allow_models, exclude, download=download)
    if input is not None:
        _route_file(loaded, input, output, goals, task, top)
        return
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


def _route_file(
    router: Router,
    source: Path,
    target: Path | None,
    goals: Goals | None,
    task: str | None,
    top: int | None,
) -> None:
    records = list(read_prompts(source))
    if not records:
        raise PromptError(f"{source}: there are no prompts to route")
    with waiting("routing"):
        decisions = _decisions(router, records, goals, task)
    rows = (
        {"id": record.id, **decision.to_dict(top)}
        for record, decision in zip(records, decisions, strict=True)
    )
    if target is None or target == STANDARD:
        write_out(json_text(row) + "\n" for row in rows)
    else:
        with replacing(target) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    scored = router.provenance.get("kind") == "scores"
    best = router.provenance.get("among_best", {})
    among_best = {name: share for shares in best.values() for name, share in shares.items()}
    note(summary(decisions, scored=scored, among_best=among_best))


def _decisions(
    router: Router, records: Sequence[PromptRecord], goals: Goals | None, task: str | None
) -> list[Decision]:
    """Decide for every line; its own task counts, else that of ``--task``."""
    decisions: dict[int, Decision] = {}
    tasks = [record.task or task for record in records]
    for own_task in dict.fromkeys(tasks):
        rows = [row for row, other in enumerate(tasks) if other == own_task]
        prompts = [records[row].prompt for row in rows]
        try:
            routed = router.route_batch(prompts, goals=goals, task=own_task)
        except TryageError as error:
            alone = (records[row] for row in rows)
            raise _located(error, router, alone, goals, own_task) from error
        decisions |= dict(zip(rows, routed, strict=True))
    return [decisions[row] for row in range(len(records))]


def _located(
    error: TryageError,
    router: Router,
    records: Iterator[PromptRecord],
    goals: Goals | None,
    task: str | None,
) -> TryageError:
    """Return the error of the first prompt without a decision, with its file and line."""
    for record in records:
        try:
            router.route(record.prompt, goals=goals, task=task)
        except NoEligibleExpertError as reason:
            return NoEligibleExpertError(f"{record.where}: {reason.summary}", reason.reasons)
        except TryageError as reason:
            return PromptError(f"{record.where}: {reason}")
    return error
