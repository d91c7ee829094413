"""The command `pareto`: shows what the weight of a goal brings and costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tryage.cli.options import (
    AllowedModels,
    AsJson,
    CheckRates,
    MaxAttempts,
    RouterArgument,
    RouterDownload,
    TaskOfTable,
    load_router,
    read_check,
)
from tryage.cli.output import guarded, print_json, say, waiting
from tryage.errors import GoalError, OptionError
from tryage.evaluation.pareto import Front
from tryage.evaluation.sweeps import RAYS
from tryage.plans import MAX_ATTEMPTS


@guarded
def pareto(
    router: RouterArgument,
    scores: Annotated[Path, typer.Argument(help="A score table the router was not fitted on.")],
    goal: Annotated[
        list[str] | None, typer.Option("--goal", help="A goal; give two for both together.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", "--png", help="Draw the front of one goal, as .png or .svg."),
    ] = None,
    check: CheckRates = None,
    max_attempts: MaxAttempts = MAX_ATTEMPTS,
    task: TaskOfTable = None,
    train: Annotated[
        Path | None, typer.Option(help="The table it was fitted on, to choose fixed plans on.")
    ] = None,
    download: RouterDownload = False,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Show what raising the weight of a goal brings and costs, on measured results.

    With --check the points are plans: experts are tried until the check accepts an answer.

    Example: tryage pareto my-router test.jsonl --goal cost --plot front.svg
    """
    from tryage.scores import ScoreTable

    if plot is not None:
        _check_plot(plot, goal or ["cost"])
    loaded = load_router(router, allow_models, download=download)
    table = ScoreTable.read(scores)
    if check is not None:
        if len(goal or ()) > 1 or plot is not None:
            raise OptionError("with --check the front is over one --goal, and has no --plot")
        train_table = None if train is None else ScoreTable.read(train)
        with waiting("sweeping"):
            plans = loaded.plan_front(
                table,
                read_check(check, loaded),
                goal=(goal or ["cost"])[0],
                max_attempts=max_attempts,
                train=train_table,
                task=task,
            )
        print_json(plans.to_dict()) if as_json else say(plans.table())
        return
    if train is not None:
        raise OptionError("--train chooses fixed plans, which need --check")
    with waiting("sweeping"):
        front = loaded.pareto(table, *(goal or ["cost"]), task=task)
    if plot is not None:
        from tryage.report import plots

        plots.write(front.plot(), plot)
    if as_json:
        print_json(front.to_dict())
    else:
        say(_front_text(front))


def _check_plot(path: Path, goals: list[str]) -> None:
    """See that a front can be drawn, before it is computed."""
    from tryage.report import plots

    if len(goals) > 1:
        raise GoalError("a picture shows one goal; draw one for each, or take the JSON")
    plots.check(path)


def _front_text(front: Front) -> str:
    measure = "score" if front.kind == "scores" else "loss"
    data = front.to_dict()
    lines = [f"{front.prompts} prompts, {len(front.points)} points that no other dominates"]
    if not front.cells.complete:
        lines.append(
            f"{front.cells}, the others estimated from them; cells says how many a row rests on; "
            "the oracle chooses among the measured"
        )
    if not front.exact:
        lines.append(f"from {RAYS} proportions of the weights; other weights may attain more")
    points = data["points"]
    for point in points[:: max(1, len(points) // 10)]:
        weight, value = _number_text(point["weight"]), _number_text(point["value"])
        cells = _cells_text(front, point)
        lines.append(f"  weight {weight}  {measure} {point[measure]:.4f}  value {value}{cells}")
    lines.append("single experts:")
    for name, point in data["experts"].items():
        value, cells = _number_text(point["value"]), _cells_text(front, point)
        lines.append(f"  {name}  {measure} {point[measure]:.4f}  value {value}{cells}")
    lines.append(f"hypervolume {front.hypervolume:.4f}")
    if data["aiq"] is not None:
        rest = data["references"]
        lines.append(
            f"AIQ {data['aiq']:.4f}; mixtures of single experts "
            f"{rest['zero_router']['aiq']:.4f}; oracle {rest['oracle']['aiq']:.4f}"
        )
    return "\n".join(lines)


def _cells_text(front: Front, point: dict[str, Any]) -> str:
    return "" if front.cells.complete else f"  cells {point['cells']:,}"


def _number_text(numbers: float | dict[str, float]) -> str:
    if isinstance(numbers, dict):
        return ", ".join(f"{name} {number:.4g}" for name, number in numbers.items())
    return f"{numbers:.4g}"
