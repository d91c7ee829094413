"""The command line: ``tryage quickstart | route | run | label | fit | evaluate | check | …``.

Every command prints for people, or one JSON object with ``--json``; then standard output holds the
JSON alone, and progress and warnings go to standard error. User errors end with exit code 2 and
one clear line.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import typer

from tryage.cli import checking, deciding, learning, libraries, steering
from tryage.cli.shared import show_warning

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Send each prompt to the model that will do best on it, under your own limits and goals.",
)
library = typer.Typer(no_args_is_help=True, help="Look at a library of experts.")

_COMMANDS: Mapping[typer.Typer, tuple[Callable[..., None], ...]] = {
    app: (
        learning.quickstart,
        deciding.route,
        deciding.run,
        learning.label,
        learning.fit,
        learning.evaluate,
        steering.calibrate,
        steering.pareto,
        checking.check,
        deciding.flags,
    ),
    library: (libraries.show, libraries.check, libraries.from_hub),
}
for _group, _commands in _COMMANDS.items():
    for _command in _commands:
        _group.command()(_command)
app.add_typer(library, name="library")


def main() -> None:
    """Run the command line."""
    warnings.showwarning = show_warning
    app()
