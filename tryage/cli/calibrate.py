"""The command `calibrate`: finds the weights with which predicted means meet budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tryage.budgets import Calibration
from tryage.cli.options import (
    AllowedModels,
    AsJson,
    BootstrapSeed,
    CheckRates,
    GoalOptions,
    LimitOptions,
    MaxAttempts,
    RouterArgument,
    TaskName,
    load_router,
    read_check,
    read_goals,
)
from tryage.cli.output import guarded, print_json, say, waiting
from tryage.plans import MAX_ATTEMPTS


@guarded
def calibrate(
    router: RouterArgument,
    prompts: Annotated[Path, typer.Argument(help="JSONL of past prompts.")],
    budgets: Annotated[
        list[str], typer.Argument(help="Such as 'mean cost <= 0.4 USD per 1000 prompts'.")
    ],
    goal: GoalOptions = None,
    limit: LimitOptions = None,
    task: TaskName = None,
    seed: BootstrapSeed = 0,
    check: CheckRates = None,
    max_attempts: MaxAttempts = MAX_ATTEMPTS,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Find the weights with which predicted means meet budgets.

    With --check, plans answer the prompts, and a budget counts every attempt.

    Example: tryage calibrate my-router prompts.jsonl "score >= 95% of best" "share(big) <= 20%"
    """
    from tryage.prompts import read_prompts

    loaded = load_router(router, allow_models)
    texts = [record.prompt for record in read_prompts(prompts)]
    with waiting("calibrating"):
        calibration = loaded.calibrate(
            texts,
            *budgets,
            goals=read_goals(goal, limit),
            task=task,
            seed=seed,
            check=None if check is None else read_check(check, loaded),
            max_attempts=max_attempts,
        )
    if as_json:
        print_json(calibration.to_dict())
    else:
        say(_calibration_text(calibration))


def _calibration_text(calibration: Calibration) -> str:
    lines = [f"weight  {name}={weight:.4g}" for name, weight in calibration.weights.items()]
    for text, row in calibration.attained.items():
        low, high = row["ci95"]
        line = f"{text}: {row['value']:.4g} (95 %: {low:.4g} to {high:.4g})"
        if row["met"]:
            lines.append(f"met     {line}")
        else:
            nearest = f"the nearest attainable is {row['attainable']:.4g}"
            if "alone" in row:
                nearest += f" beside the other budgets, {row['alone']:.4g} without them"
            lines.append(f"NOT MET {line}; {nearest}")
    shares = sorted(calibration.shares.items(), key=lambda item: (-item[1], item[0]))
    lines += [f"share   {share:6.1%}  {name}" for name, share in shares]
    return "\n".join(lines)
