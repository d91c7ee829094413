"""The command line: ``tryage quickstart | route | run | label | fit | show | evaluate | …``.

Every command prints for people, or one JSON object with ``--json``; then standard output holds the
JSON alone, and progress and warnings go to standard error. User errors end with exit code 2 and
one clear line.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Annotated

import typer

from tryage.cli import library, library_show, table
from tryage.cli.add import add
from tryage.cli.calibrate import calibrate
from tryage.cli.check import check
from tryage.cli.commands import Command, Group
from tryage.cli.cotrain import cotrain
from tryage.cli.distill import distill
from tryage.cli.evaluate import evaluate
from tryage.cli.fit import fit
from tryage.cli.flags import flags
from tryage.cli.label import label
from tryage.cli.output import say, show_warning
from tryage.cli.pareto import pareto
from tryage.cli.push import push
from tryage.cli.quickstart import quickstart
from tryage.cli.report import report
from tryage.cli.route import route
from tryage.cli.run import run
from tryage.cli.show import show

app = typer.Typer(
    cls=Group, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)
library_app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Show, check or write a library of experts."
)
table_app = typer.Typer(cls=Group, no_args_is_help=True, help="Show or convert tables of results.")

_COMMANDS: Mapping[typer.Typer, tuple[Callable[..., None], ...]] = {
    app: (
        quickstart,
        route,
        run,
        label,
        fit,
        distill,
        add,
        cotrain,
        show,
        evaluate,
        report,
        calibrate,
        pareto,
        check,
        push,
        flags,
    ),
    library_app: (library_show.show, library.check, library.from_hub),
    table_app: (table.convert, table.show),
}
for _app, _commands in _COMMANDS.items():
    for _command in _commands:
        _app.command(cls=Command)(_command)
app.add_typer(library_app, name="library")
app.add_typer(table_app, name="table")


def _print_version(is_set: bool) -> None:
    if is_set:
        say(f"tryage {version('tryage')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Route each prompt to the model that does best on it, within your limits and goals."""


def main() -> None:
    """Run the command line."""
    warnings.showwarning = show_warning
    for stream in (sys.stdout, sys.stderr):
        # Characters that a console cannot show appear as escapes.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
