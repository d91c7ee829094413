"""Commands that find weights: calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tryage.budgets import Calibration
from tryage.cli.shared import (
    AsJson,
    GoalOptions,
    LimitOptions,
    TaskName,
    guarded,
    print_json,
    read_goals,
    say,
    stderr,
)
from tryage.router import Router


@guarded
def calibrate(
    router: Annotated[str, typer.Argument(help="A router folder, or a bundled name.")],
    prompts: Annotated[Path, typer.Argument(help="JSONL of past prompts.")],
    budgets: Annotated[
        list[str], typer.Argument(help="Such as 'mean cost <= 0.4 USD per 1000 prompts'.")
    ],
    goal: GoalOptions = None,
    limit: LimitOptions = None,
    task: TaskName = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Find the weights with which predicted means meet budgets.

    Example: tryage calibrate my-router prompts.jsonl "score >= 95% of best" "share(big) <= 20%"
    """
    from tryage.prompts import read_prompts

    loaded = Router.from_pretrained(router)
    texts = [record.prompt for record in read_prompts(prompts)]
    with stderr().status("calibrating"):
        found = loaded.calibrate(
            texts, *budgets, goals=read_goals(goal, limit), task=task, seed=seed
        )
    if as_json:
        print_json(found.to_dict())
    else:
        say(_told(found))


def _told(found: Calibration) -> str:
    lines = [f"weight  {name}={weight:.4g}" for name, weight in found.weights.items()]
    for text, row in found.attained.items():
        low, high = row["ci95"]
        line = f"{text}: {row['value']:.4g} (95 %: {low:.4g} to {high:.4g})"
        if row["met"]:
            lines.append(f"met     {line}")
        else:
            lines.append(f"NOT MET {line}; the nearest attainable is {row['attainable']:.4g}")
    shares = sorted(found.shares.items(), key=lambda item: (-item[1], item[0]))
    lines += [f"share   {share:6.1%}  {name}" for name, share in shares]
    return "\n".join(lines)
