"""Commands that decide: route, run, flags."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tryage.cli.shared import (
    AllowedKeys,
    AllowedModels,
    AsJson,
    Download,
    GoalOptions,
    LimitOptions,
    RouterName,
    TaskName,
    guarded,
    print_json,
    read_goals,
    say,
    stderr,
)
from tryage.cli.summary import summary
from tryage.errors import PromptError, TryageError
from tryage.goals import Goals
from tryage.prompts import PromptRecord, read_prompts
from tryage.router import Router


@guarded
def route(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; its flags act.")] = None,
    router: RouterName = "open7",
    goal: GoalOptions = None,
    limit: LimitOptions = None,
    task: TaskName = None,
    input: Annotated[
        Path | None, typer.Option("--input", help='JSONL of {"prompt", "id"?} lines.')
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="JSONL of decisions, one a line.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide which expert a prompt goes to.

    Example: tryage route "Prove that 7 is prime. [Flag: smallest model]" --router open7
    """
    if (prompt is None) == (input is None):
        raise typer.BadParameter("give a prompt, or --input FILE")
    if output is not None and input is None:
        raise typer.BadParameter("--output is for the decisions of an --input FILE")
    goals = read_goals(goal, limit)
    loaded = Router.from_pretrained(router)
    if input is not None:
        _route_file(loaded, input, output, goals, task)
        return
    decision = loaded.route(prompt or "", goals=goals, task=task)
    if as_json:
        print_json(decision.to_dict())
    else:
        say(decision.explain())


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
        raise _with_place(error, router, records, goals, task) from error
    lines = [
        json.dumps({"id": record.id, **decision.to_dict()}, ensure_ascii=False) + "\n"
        for record, decision in zip(records, decisions, strict=True)
    ]
    if target is None:
        sys.stdout.writelines(lines)
    else:
        with replacing(target) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
    scored = router.provenance.get("kind") == "scores"
    best = router.provenance.get("among_best", {})
    known = {name: share for shares in best.values() for name, share in shares.items()}
    told = summary(decisions, scored=scored, among_best=known)
    stderr().print(told, markup=False, highlight=False, soft_wrap=True)


def _with_place(
    error: TryageError,
    router: Router,
    records: list[PromptRecord],
    goals: Goals | None,
    task: str | None,
) -> TryageError:
    """Return the error of the first prompt that cannot be decided on, with its place."""
    for record in records:
        try:
            router.route(record.prompt, goals=goals, task=task)
        except TryageError as found:
            return PromptError(f"{record.where}: {found}")
    return error


@guarded
def run(
    prompt: Annotated[str, typer.Argument(help="The prompt; its flags act.")],
    router: RouterName,
    goal: GoalOptions = None,
    limit: LimitOptions = None,
    task: TaskName = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    max_attempts: Annotated[
        int | None, typer.Option(min=1, help="How many experts to try; by default every one.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that one expert may take; then the next.")
    ] = None,
    total_timeout: Annotated[
        float | None, typer.Option(help="Seconds that all of them may take together.")
    ] = None,
    download: Download = False,
    allow_key: AllowedKeys = None,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Decide, and let the chosen expert's Hugging Face pipeline answer.

    Example: tryage run "The capital of France is [MASK]." --router my-router

    Example: tryage run "Hello" --router my-router --allow-key api.example.com=EXAMPLE_KEY
    """
    from tryage.dispatch import DispatchOptions, dispatch, record
    from tryage.runtime import Runtime

    try:
        options = DispatchOptions(
            max_attempts=max_attempts, timeout=timeout, total_timeout=total_timeout
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    loaded = Router.from_pretrained(router, folders=allow_models or ())
    runtime = Runtime(
        loaded.library, download=download, keys=allow_key or (), folders=allow_models or ()
    )
    decision = loaded.route(prompt, goals=read_goals(goal, limit), task=task)
    # A model that is not there is the user's to mend; falling over is for models that fail.
    runtime.check(decision.expert)
    with stderr().status(f"{decision.expert} is answering"):
        outcome = dispatch(
            decision,
            lambda name: runtime.run(name, decision.prompt, max_new_tokens=max_new_tokens),
            options,
        )
    told = record(decision, outcome)
    if as_json:
        answer = {"answer": outcome.value.text, "seconds": outcome.seconds}
        print_json(told.to_dict() | answer)
    else:
        say(told.explain())
        say("\n" + outcome.value.text)


@guarded
def flags(
    prompt: Annotated[str, typer.Argument(help="A prompt with flags.")],
    as_json: AsJson = False,
) -> None:
    """Show what the flags of a prompt ask for.

    Example: tryage flags "Sum this up. [Flag: smallest model]"
    """
    from tryage.flags import parse

    read = parse(prompt)
    if not prompt.strip():
        raise PromptError("the prompt is empty; there are no flags to read")
    if as_json:
        limits: dict[str, str] = {}
        for limit in read.limits:
            before = limits.get(limit.attribute)
            both = f"{before}, {limit.condition}" if before else limit.condition
            limits[limit.attribute] = both
        unknown = list(read.unknown)
        print_json(
            {
                "prompt": read.prompt,
                "weights": dict(read.weights),
                "limits": limits,
                "unknown": unknown,
            }
        )
        return
    say(f"prompt: {read.prompt}")
    for directive in read.echo:
        say(f"flag: {directive}")
    for word in read.unknown:
        say(f"unknown: {word}")
