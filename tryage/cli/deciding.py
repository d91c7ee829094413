"""Commands that decide: route, run, flags."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tryage.cli.shared import (
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
from tryage.goals import Goals
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
    from tryage.prompts import read_prompts

    records = list(read_prompts(source))
    decisions = router.route_batch([r.prompt for r in records], goals=goals, task=task)
    lines = [
        json.dumps({"id": record.id, **decision.to_dict()}, ensure_ascii=False) + "\n"
        for record, decision in zip(records, decisions, strict=True)
    ]
    if target is None:
        sys.stdout.writelines(lines)
    else:
        with replacing(target) as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
    if decisions:
        scored = router.facts.get("kind") == "scores"
        told = summary(decisions, scored=scored)
        stderr().print(told, markup=False, highlight=False, soft_wrap=True)


@guarded
def run(
    prompt: Annotated[str, typer.Argument(help="The prompt; its flags act.")],
    router: RouterName,
    goal: GoalOptions = None,
    limit: LimitOptions = None,
    task: TaskName = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """Decide, and let the chosen expert's Hugging Face pipeline answer.

    Example: tryage run "The capital of France is [MASK]." --router my-router
    """
    from tryage.dispatch import dispatch, record
    from tryage.runtime import Runtime

    loaded = Router.from_pretrained(router)
    decision = loaded.route(prompt, goals=read_goals(goal, limit), task=task)
    runtime = Runtime(loaded.library, download=download)
    with stderr().status(f"{decision.expert} is answering"):
        outcome = dispatch(
            decision,
            lambda name: runtime.run(name, decision.prompt, max_new_tokens=max_new_tokens),
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
    if as_json:
        limits = {limit.attribute: limit.condition for limit in read.limits}
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
