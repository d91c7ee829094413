"""The command that measures a check, and how other commands are told its reliability."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tryage.check_rates import CheckReport, Rate
from tryage.checks import Check
from tryage.cli.shared import AsJson, guarded, print_json, say, stderr
from tryage.errors import CheckError, did_you_mean
from tryage.router import Router

CheckRates = Annotated[
    str | None,
    typer.Option(
        "--check",
        help="Reliability of a check, accepts-right=0.9,accepts-wrong=0.1, or the name of one that "
        "was measured: judge plans of several attempts.",
    ),
]
MaxAttempts = Annotated[int, typer.Option(min=1, help="Experts in a plan at most.")]

_RATES = {"accepts-right": "accepts_right", "accepts-wrong": "accepts_wrong"}


def read_check(text: str, router: Router) -> Check:
    """Return the check that ``--check`` describes; only its rates matter.

    Raises:
        CheckError: a rate is missing or unknown, or no check of that name was measured.
    """
    if "=" not in text:
        if text not in router.check_rates:
            known = list(router.check_rates)
            hint = did_you_mean(text, known) or f" Measured: {', '.join(known) or 'none'}."
            raise CheckError(f"the router knows no rates of a check {text!r}.{hint}")
        return Check(_never, name=text)
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
    return Check(_never, name="check", **rates)


def _never(prompt: str, answer: Any) -> bool:
    raise CheckError("this check is known by its rates alone")


@guarded
def check(
    router: Annotated[str, typer.Argument(help="A router folder, or a bundled name.")],
    answers: Annotated[Path, typer.Argument(help="A folder of label --keep-answers.")],
    function: Annotated[
        str, typer.Option("--check", help="The check, as MODULE:NAME; the module is imported.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Save the router with the rates; by default only tell.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how often a check accepts right and wrong answers.

    Example: tryage check my-router answers/ --check my_checks:has_number --out my-router
    """
    loaded = Router.from_pretrained(router)
    made = _imported(function)
    with stderr().status("checking"):
        measured, report = loaded.measure_check(made, answers)
    if out is not None:
        measured.save_pretrained(out)
    if as_json:
        print_json(report.to_dict())
    else:
        say(_told(report))


def _imported(path: str) -> Check:
    module, _, name = path.partition(":")
    if not module or not name:
        raise CheckError(f"--check {path!r}: write it as MODULE:NAME, e.g. my_checks:has_number")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CheckError(f"--check {path!r}: {error}") from error
    finally:
        sys.path.pop(0)
    return Check.of(function)


def _told(report: CheckReport) -> str:
    lines = [f"{report.check}: {_line(report.pooled)}"]
    lines += [f"  {name}: {_line(pair)}" for name, pair in report.experts.items()]
    if report.failed:
        lines.append(f"it failed on {report.failed} answers, which count as it says")
    return "\n".join(lines)


def _line(pair: tuple[Rate, Rate]) -> str:
    right, wrong = pair
    return f"accepts {_share(right)} of right and {_share(wrong)} of wrong answers"


def _share(rate: Rate) -> str:
    if rate.value is None or rate.ci95 is None:
        return "an unknown share"
    low, high = rate.ci95
    return f"{rate.value:.1%} (95 %: {low:.1%} to {high:.1%}; {rate.count})"
