"""The command `route`: decides for one prompt, or for a file of prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tryage.cli.options import (
    AsJson,
    GoalOptions,
    LimitOptions,
    RouterName,
    TaskName,
    read_goals,
)
from tryage.cli.output import guarded, print_json, say, stderr, write_out
from tryage.cli.summary import summary
from tryage.errors import PromptError, TryageError
from tryage.goals import Goals
from tryage.prompts import PromptRecord, read_prompts
from tryage.router import Router


@guarded
def route(
    prompt: Annotated[str | None, typer.Argument(help="The prompt, with its flags.")] = None,
    router: RouterName = "open7",
    goal: GoalOptions = None,
    limit: LimitOptions = None,
    task: TaskName = None,
    input: Annotated[
        Path | None, typer.Option("--input", help='JSONL of {"prompt", "id"?} lines.')
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
    as_json: AsJson = False,
) -> None:
    """Decide which expert a prompt goes to.

    Example: tryage route "Prove that 7 is prime. [Flag: smallest model]" --router open7
    """
    if (prompt is None) == (input is None):
        raise typer.BadParameter("give a prompt, or --input FILE")
    if output is not None and input is None:
        raise typer.BadParameter("--output is for the decisions of an --input FILE")
    if similar and prompt is None:
        raise typer.BadParameter("--similar is for one prompt, not for an --input FILE")
    goals = read_goals(goal, limit)
    loaded = Router.from_pretrained(router)
    if input is not None:
        _route_file(loaded, input, output, goals, task)
        return
    decision = loaded.route(prompt or "", goals=goals, task=task)
    if as_json:
        nearest = [one.to_dict() for one in loaded.similar(decision, similar)] if similar else None
        print_json(decision.to_dict() | ({"similar": nearest} if nearest is not None else {}))
    else:
        say(loaded.explain(decision, similar=similar))


def _route_file(
    router: Router, source: Path, target: Path | None, goals: Goals | None, task: str | None
) -> None:
    from tryage.files import replacing

    records = list(read_prompts(source))
    if not records:
        raise PromptError(f"{source}: there are no prompts to route")
    try:
        decisions = router.route_batch([r.prompt for r in records], goals=goals, task=task)
    except TryageError as error:
        raise _located(error, router, records, goals, task) from error
    lines = [
        json.dumps({"id": record.id, **decision.to_dict()}, ensure_ascii=False) + "\n"
        for record, decision in zip(records, decisions, strict=True)
    ]
    if target is None:
        write_out(lines)
    else:
        with replacing(target) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
    scored = router.provenance.get("kind") == "scores"
    best = router.provenance.get("among_best", {})
    among_best = {name: share for shares in best.values() for name, share in shares.items()}
    text = summary(decisions, scored=scored, among_best=among_best)
    stderr().print(text, markup=False, highlight=False, soft_wrap=True)


def _located(
    error: TryageError,
    router: Router,
    records: list[PromptRecord],
    goals: Goals | None,
    task: str | None,
) -> TryageError:
    """Return the error of the first prompt without a decision, with its file and line."""
    for record in records:
        try:
            router.route(record.prompt, goals=goals, task=task)
        except TryageError as reason:
            return PromptError(f"{record.where}: {reason}")
    return error
