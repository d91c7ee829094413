"""Commands that find weights, or show what they bring: calibrate, pareto."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tryage.budgets import Calibration
from tryage.cli.checking import CheckRates, MaxAttempts, read_check
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
from tryage.errors import OptionError
from tryage.evaluation.pareto import Front
from tryage.evaluation.sweeps import RAYS
from tryage.plans import MAX_ATTEMPTS
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
    check: CheckRates = None,
    max_attempts: MaxAttempts = MAX_ATTEMPTS,
    as_json: AsJson = False,
) -> None:
    """Find the weights with which predicted means meet budgets.

    With --check prompts are answered by plans, and a budget counts every attempt.

    Example: tryage calibrate my-router prompts.jsonl "score >= 95% of best" "share(big) <= 20%"
    """
    from tryage.prompts import read_prompts

    loaded = Router.from_pretrained(router)
    texts = [record.prompt for record in read_prompts(prompts)]
    with stderr().status("calibrating"):
        found = loaded.calibrate(
            texts,
            *budgets,
            goals=read_goals(goal, limit),
            task=task,
            seed=seed,
            check=None if check is None else read_check(check, loaded),
            max_attempts=max_attempts,
        )
    if as_json:
        print_json(found.to_dict())
    else:
        say(_told(found))


@guarded
def pareto(
    router: Annotated[str, typer.Argument(help="A router folder, or a bundled name.")],
    scores: Annotated[Path, typer.Argument(help="A score table the router was not fitted on.")],
    goal: Annotated[
        list[str] | None, typer.Option("--goal", help="A goal; give two for both together.")
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Draw the front of one goal.")] = None,
    check: CheckRates = None,
    max_attempts: MaxAttempts = MAX_ATTEMPTS,
    train: Annotated[
        Path | None, typer.Option(help="The table it was fitted on, to choose fixed plans on.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what raising the weight of a goal brings and costs, on measured results.

    With --check the points are those of plans: experts that are tried until an answer is accepted.

    Example: tryage pareto my-router test.jsonl --goal cost --png front.png
    """
    from tryage.scores import ScoreTable

    loaded = Router.from_pretrained(router)
    table = ScoreTable.read(scores)
    if check is not None:
        if len(goal or ()) > 1 or png is not None:
            raise OptionError("with --check the front is over one --goal, and has no --png")
        known = None if train is None else ScoreTable.read(train)
        with stderr().status("sweeping"):
            plans = loaded.plan_front(
                table,
                read_check(check, loaded),
                goal=(goal or ["cost"])[0],
                max_attempts=max_attempts,
                train=known,
            )
        print_json(plans.to_dict()) if as_json else say(plans.table())
        return
    if train is not None:
        raise OptionError("--train chooses fixed plans, which need --check")
    with stderr().status("sweeping"):
        front = loaded.pareto(table, *(goal or ["cost"]))
    if png is not None:
        from tryage.cli.pictures import draw_front

        draw_front(front, png)
    if as_json:
        print_json(front.to_dict())
    else:
        say(_front_told(front))


def _front_told(front: Front) -> str:
    measure = "score" if front.kind == "scores" else "loss"
    found = front.to_dict()
    lines = [f"{front.prompts} prompts, {len(front.points)} points that no other dominates"]
    if not front.exact:
        lines.append(f"from {RAYS} proportions of the weights; other weights may attain more")
    points = found["points"]
    for point in points[:: max(1, len(points) // 10)]:
        weight, value = _shown(point["weight"]), _shown(point["value"])
        lines.append(f"  weight {weight}  {measure} {point[measure]:.4f}  value {value}")
    lines.append("single experts:")
    for name, point in found["experts"].items():
        lines.append(f"  {name}  {measure} {point[measure]:.4f}  value {_shown(point['value'])}")
    lines.append(f"hypervolume {front.hypervolume:.4f}")
    if found["aiq"] is not None:
        rest = found["references"]
        lines.append(
            f"AIQ {found['aiq']:.4f}; mixtures of single experts "
            f"{rest['zero_router']['aiq']:.4f}; oracle {rest['oracle']['aiq']:.4f}"
        )
    return "\n".join(lines)


def _shown(numbers: float | dict[str, float]) -> str:
    if isinstance(numbers, dict):
        return ", ".join(f"{name} {number:.4g}" for name, number in numbers.items())
    return f"{numbers:.4g}"


def _told(found: Calibration) -> str:
    lines = [f"weight  {name}={weight:.4g}" for name, weight in found.weights.items()]
    for text, row in found.attained.items():
        low, high = row["ci95"]
        line = f"{text}: {row['value']:.4g} (95 %: {low:.4g} to {high:.4g})"
        if row["met"]:
            lines.append(f"met     {line}")
        else:
            nearest = f"the nearest attainable is {row['attainable']:.4g}"
            if "alone" in row:
                nearest += f" beside the other budgets, {row['alone']:.4g} without them"
            lines.append(f"NOT MET {line}; {nearest}")
    shares = sorted(found.shares.items(), key=lambda item: (-item[1], item[0]))
    lines += [f"share   {share:6.1%}  {name}" for name, share in shares]
    return "\n".join(lines)
