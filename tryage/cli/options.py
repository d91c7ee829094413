"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tryage.checks import Check
from tryage.errors import CheckError, GoalError, OptionError, did_you_mean
from tryage.goals import Goals, check_weights
from tryage.limits import parse_limits
from tryage.paths import user_path
from tryage.router import Router

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
RouterArgument = Annotated[
    str, typer.Argument(help="A router folder, a bundled name, or a Hub id.")
]
RouterName = Annotated[
    str,
    typer.Option("--router", metavar="NAME", help="A router folder, a bundled name, or a Hub id."),
]
LibraryFile = Annotated[Path, typer.Argument(help="The library's file: YAML, .jsonl or .parquet.")]
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
TaskOfTable = Annotated[
    str | None,
    typer.Option("--task", help="The Transformers task to look at, of a table that has several."),
]
Download = Annotated[
    bool,
    typer.Option("--download", help="Fetch a router and models that are not in the local cache."),
]
RouterDownload = Annotated[
    bool, typer.Option("--download", help="Fetch a router that is not in the local cache.")
]
AllowedKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-key",
        metavar="HOST=VARIABLE",
        help="Send this environment variable to this host where the library asks for it.",
    ),
]
Excluded = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="EXPERT", help="Never choose this expert; may be repeated."),
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

_KINDS = {"<": "at most", "<=": "at most", ">": "at least", ">=": "at least"}
_KINDS |= {"=": "one of", "in": "one of"}
"""Operator → what a limit says; two of one kind on one attribute are a mistake."""

_RATES = {"accepts-right": "accepts_right", "accepts-wrong": "accepts_wrong"}


def load_router(
    name: str,
    folders: Sequence[str] | None = None,
    excluded: Sequence[str] | None = None,
    *,
    download: bool = False,
) -> Router:
    """Return the router that a command names.

    Args:
        name: a folder, a bundled router's, or a Hub id.
        folders: those of ``--allow-models``.
        excluded: the experts of ``--exclude``.
        download: whether a router may be fetched from the Hub.

    Raises:
        OptionError: one of `folders` is no folder.
        LibraryError: the library has no such expert.
    """
    loaded = Router.from_pretrained(name, folders=allowed_folders(folders), download=download)
    reasons = dict.fromkeys(excluded or (), "left out by --exclude")
    return loaded.excluding(reasons) if reasons else loaded


def allowed_folders(folders: Sequence[str] | None) -> tuple[str, ...]:
    """Return the folders of ``--allow-models``.

    Raises:
        OptionError: one is no folder.
    """
    for folder in folders or ():
        if not user_path(folder).is_dir():
            raise OptionError(f"--allow-models {folder!r} is no folder; name one that is there")
    return tuple(folders or ())


def read_goals(goals: list[str] | None, limits: list[str] | None) -> Goals | None:
    """Return the goals of ``--goal`` and ``--limit``; None where there are neither.

    Raises:
        GoalError: a value is malformed, or names no goal.
    """
    if not goals and not limits:
        return None
    weights: dict[str, float] = {}
    for item in goals or []:
        name, _, text = item.rpartition("=")  # the name of an expert may hold one
        name = name.strip()
        try:
            weight = float(text)
        except ValueError:
            raise GoalError(f"--goal {item!r}: write it as GOAL=WEIGHT, e.g. size=0.3") from None
        if name in weights and weights[name] != weight:
            both = f"{weights[name]:g} and {weight:g}"
            raise GoalError(f"--goal {name} is given twice, as {both}; keep one")
        weights[name] = weight
    checked = check_weights(weights)  # before a name can be mistaken for another argument
    parsed = parse_limits(limits or [])
    for first, second in itertools.combinations(parsed, 2):
        kind = _KINDS.get(first.operator)
        if kind and first.attribute == second.attribute and kind == _KINDS.get(second.operator):
            raise GoalError(
                f"two values of --limit say {kind} for {first.attribute}, {str(first)!r} and "
                f"{str(second)!r}; keep one"
            )
    return Goals(limits=parsed, custom=(), **checked)


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
            rate = float(value)
        except ValueError:
            raise CheckError(f"--check {text!r}: {value!r} is not a number") from None
        if key in rates and rates[key] != rate:
            both = f"{rates[key]:g} and {rate:g}"
            raise CheckError(
                f"--check {text!r}: {name.strip()} is given twice, as {both}; keep one"
            )
        rates[key] = rate
    missing = [name for name, key in _RATES.items() if key not in rates]
    if missing:
        raise CheckError(f"--check {text!r}: {' and '.join(missing)} missing")
    return Check(_never_called, name="check", **rates)


def _never_called(prompt: str, answer: Any) -> bool:
    raise CheckError("this check has rates but no function")
