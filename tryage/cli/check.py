"""The command `check`: measures how reliable a check is."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from tryage.check_rates import CheckReport, Rate
from tryage.checks import Check
from tryage.cli.options import AllowedModels, AsJson, RouterArgument, RouterDownload, load_router
from tryage.cli.output import guarded, print_json, say, waiting
from tryage.errors import CheckError
from tryage.persistence import check_output


@guarded
def check(
    router: RouterArgument,
    answers: Annotated[Path, typer.Argument(help="A folder that label --keep-answers wrote.")],
    function: Annotated[
        str, typer.Option("--check", help="The check, as MODULE:NAME; the module is imported.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Save the router with the rates here; by default they are only printed."),
    ] = None,
    download: RouterDownload = False,
    allow_models: AllowedModels = None,
    as_json: AsJson = False,
) -> None:
    """Measure how often a check accepts right and wrong answers.

    Example: tryage check my-router answers/ --check my_checks:has_number --out my-router
    """
    if out is not None:
        check_output(out)
    loaded = load_router(router, allow_models, download=download)
    imported = _imported_check(function)
    with waiting("checking"):
        measured, report = loaded.measure_check(imported, answers)
    if out is not None:
        measured.save_pretrained(out)
    if as_json:
        print_json(report.to_dict())
    else:
        say(_report_text(report))


def _imported_check(path: str) -> Check:
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


def _report_text(report: CheckReport) -> str:
    lines = [f"{report.check}: {_rates_text(report.pooled)}"]
    lines += [f"  {name}: {_rates_text(rates)}" for name, rates in report.experts.items()]
    if report.failed:
        lines.append(f"it failed on {report.failed} answers, which count as its on_error says")
    return "\n".join(lines)


def _rates_text(rates: tuple[Rate, Rate]) -> str:
    right, wrong = rates
    return f"accepts {_share_text(right)} of right and {_share_text(wrong)} of wrong answers"


def _share_text(rate: Rate) -> str:
    if rate.value is None or rate.ci95 is None:
        return "an unknown share"
    low, high = rate.ci95
    return f"{rate.value:.1%} (95 %: {low:.1%} to {high:.1%}; {rate.count})"
