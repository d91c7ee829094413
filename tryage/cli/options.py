"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tryage.checks import Check
from tryage.errors import CheckError, GoalError, did_you_mean
from tryage.goals import Goals, check_weights
from tryage.limits import parse_limits
from tryage.router import Router

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
RouterArgument = Annotated[str, typer.Argument(help="A router folder, or a bundled name.")]
RouterName = Annotated[
    str, typer.Option("--router", metavar="NAME", help="A router folder, or a bundled name.")
]
LibraryFile = Annotated[Path, typer.Argument(help="The library's YAML file.")]
GoalOptions = Annotated[
    list[str] | None,
    typer.Option("--goal", metavar="GOAL=WEIGHT", help="Weight of a goal, e.g. size=0.3."),
]
LimitOptions = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="LIMIT", help="A limit, e.g. 'parameters<=3B'."),
]
TaskName = Annotated[
    str | None,
    typer.Option("--task", help="A Transformers task; by default it is inferred from the prompt."),
]
Download = Annotated[
    bool, typer.Option("--download", help="Download models that are not in the local cache.")
]
AllowedKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-key",
        metavar="HOST=VARIABLE",
        help="Send this environment variable to this host where the library asks for it.",
    ),
]
AllowedModels = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-models",
        metavar="FOLDER",
        help="Load models from this folder where the library names them.",
    ),
]
BootstrapSeed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")]
CheckRates = Annotated[
    str | None,
    typer.Option(
        "--check",
        help="Plan several attempts with a check: its reliability, as "
        "accepts-right=0.9,accepts-wrong=0.1, or the name of a measured check.",
    ),
]
MaxAttempts = Annotated[int, typer.Option(min=1, help="Most experts in a plan.")]

_RATES = {"accepts-right": "accepts_right", "accepts-wrong": "accepts_wrong"}


def read_goals(goals: list[str] | None, limits: list[str] | None) -> Goals | None:
    """Return the goals of ``--goal`` and ``--limit``; None where there are neither.

    Raises:
        GoalError: a value is malformed, or names no goal.
    """
    if not goals and not limits:
        return None
    weights: dict[str, float] = {}
    for item in goals or []:
        name, _, value = item.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise GoalError(f"--goal {item!r}: write it as GOAL=WEIGHT, e.g. size=0.3") from None
    checked = check_weights(weights)  # before a name can be mistaken for another argument
    return Goals(limits=parse_limits(limits or []), custom=(), **checked)


def read_check(text: str, router: Router) -> Check:
    """Return the check that ``--check`` describes; only its rates matter.

    Raises:
        CheckError: a rate is missing or unknown, or no check of that name was measured.
    """
    if "=" not in text:
        if text not in router.check_rates:
            names = list(router.check_rates)
            hint = did_you_mean(text, names) or f" Measured: {', '.join(names) or 'none'}."
            raise CheckError(f"the router knows no rates of a check {text!r}.{hint}")
        return Check(_never_called, name=text)
    rates: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        key = _RATES.get(name.strip())
        if key is None:
            raise CheckError(
                f"--check {text!r}: {name.strip()!r} is unknown; write "
                "accepts-right=0.9,accepts-wrong=0.1"
            )
        try:
            rates[key] = float(value)
        except ValueError:
            raise CheckError(f"--check {text!r}: {value!r} is not a number") from None
    missing = [name for name, key in _RATES.items() if key not in rates]
    if missing:
        raise CheckError(f"--check {text!r}: {' and '.join(missing)} missing")
    return Check(_never_called, name="check", **rates)


def _never_called(prompt: str, answer: Any) -> bool:
    raise CheckError("this check has rates but no function")
