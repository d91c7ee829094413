"""The command `calibrate`: finds the weights with which predicted means meet budgets."""

from __future__ import annotations

from collections.abc import Sequence
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
    RouterDownload,
    TaskName,
    load_router,
    read_check,
    read_goals,
)
from tryage.cli.output import guarded, note, print_json, say, waiting
from tryage.errors import PromptError
from tryage.experts import task_of_prompt
from tryage.plans import MAX_ATTEMPTS
from tryage.prompts import PromptRecord, read_prompts


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
    download: RouterDownload = False,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Find the weights with which predicted means meet budgets.

    With --check, plans answer the prompts, and a budget counts every attempt.

    Example: tryage calibrate my-router prompts.jsonl "score >= 95% of best" "share(big) <= 20%"
    """
    loaded = load_router(router, allow_models, download=download)
    task, texts = _of_one_task(list(read_prompts(prompts)), task)
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


def _of_one_task(records: Sequence[PromptRecord], task: str | None) -> tuple[str | None, list[str]]:
    """Return the task that is calibrated for, and its prompts.

    Raises:
        PromptError: lines name several tasks, and none was chosen.
    """
    named = {record.task: record.where for record in records if record.task is not None}
    if task is not None:
        chosen = [record for record in records if record.task in (None, task)]
        if len(chosen) < len(records):
            others = ", ".join(sorted(set(named) - {task}))
            note(f"left out: {len(records) - len(chosen)} prompts of {others}")
        return task, [record.prompt for record in chosen]
    # A line without a task asks for one by its mark.
    tasks = {record.task or task_of_prompt(record.prompt): record.where for record in records}
    if named and len(tasks) > 1:
        places = "; ".join(f"{name} on {where}" for name, where in tasks.items())
        raise PromptError(f"the prompts are of several tasks ({places}); choose one with --task")
    return next(iter(named), None), [record.prompt for record in records]


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
