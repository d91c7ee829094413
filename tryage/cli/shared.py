"""What the commands share: options, output, progress bars, and errors as one clear line."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer
from rich.console import Console

from tryage.errors import DispatchError, GoalError, NoEligibleExpertError, TryageError
from tryage.goals import Goals, check_weights
from tryage.limits import parse_limits

if TYPE_CHECKING:
    from rich.progress import Progress

P = ParamSpec("P")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
RouterName = Annotated[
    str, typer.Option("--router", metavar="NAME", help="A router folder, or a bundled name.")
]
GoalOptions = Annotated[
    list[str] | None,
    typer.Option("--goal", metavar="GOAL=WEIGHT", help="Weight of a goal, e.g. size=0.3."),
]
LimitOptions = Annotated[
    list[str] | None,
    typer.Option("--limit", metavar="LIMIT", help="A limit, e.g. 'parameters<=3B'."),
]
TaskName = Annotated[
    str | None, typer.Option("--task", help="A Transformers task, instead of the prompt's own.")
]
Download = Annotated[
    bool, typer.Option("--download", help="Fetch models that are not in the local cache.")
]
AllowedKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-key",
        metavar="HOST=VARIABLE",
        help="Send the value of this environment variable to this host, where the file asks it.",
    ),
]
AllowedModels = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-models",
        metavar="FOLDER",
        help="Use models in this folder, where the file names them.",
    ),
]


_PATH_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
"""A path the user named is not what it should be; any other OSError is the machine's."""


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn errors on purpose into one line and an exit code: 2 the user's, 1 anything else."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except DispatchError as error:
            _fail(str(error), 1)
        except NoEligibleExpertError as error:
            _fail(str(error), 2)
        except TryageError as error:
            _fail(" ".join(str(error).split()), 2)
        except _PATH_ERRORS as error:
            _fail(f"{error.filename}: {error.strerror}", 2)
        except OSError as error:
            _fail(str(error), 1)
        except KeyboardInterrupt:
            _fail("interrupted; what is finished is kept", 130)

    return run


def _fail(message: str, code: int) -> None:
    stderr().print(f"error: {message}", soft_wrap=True, markup=False, highlight=False, style="red")
    raise typer.Exit(code)


def stderr() -> Console:
    """Return a console on standard error."""
    return Console(stderr=True)


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning in one line on standard error."""
    stderr().print(f"warning: {message}", soft_wrap=True, markup=False, highlight=False)


def say(text: str) -> None:
    """Write text on standard output as it is: a model's answer may hold anything."""
    sys.stdout.write(text + "\n")


def print_json(data: Any) -> None:
    """Print one JSON object on one line of standard output."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def progress_bars(*, rate: str | None = None) -> Iterator[Progress]:
    """Yield progress bars on standard error.

    Args:
        rate: unit of a column that says how fast each goes, such as ``"cells/s"``; None has none.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.1f} {rate}")

    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    ]
    if rate is not None:
        columns.insert(3, Rate())
    with Progress(*columns, console=stderr()) as progress:
        yield progress


class ProgressLines:
    """Says how far a run is where bars cannot be drawn: in a log or a pipe.

    Args:
        every: seconds between two lines at least; the end of each part is always told.
        rate: unit of what is counted, a second.
    """

    def __init__(self, *, every: float = 30.0, rate: str) -> None:
        self._every, self._rate = every, rate
        self._begun: dict[str, tuple[float, int]] = {}
        self._told = time.monotonic()

    def tell(self, name: str, done: int, total: int) -> None:
        """Note how much of a part is done; print it if it is time to."""
        now = time.monotonic()
        begun, before = self._begun.setdefault(name, (now, done))
        if done < total and now - self._told < self._every:
            return
        self._told = now
        line = f"{name}: {done:,} of {total:,}"
        if done > before and now > begun:
            speed = (done - before) / (now - begun)
            line += f", {speed:,.1f} {self._rate}, {(total - done) / speed:,.0f} s left"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def read_goals(goals: list[str] | None, limits: list[str] | None) -> Goals | None:
    """Read the values of ``--goal`` and ``--limit``; None where there are neither."""
    if not goals and not limits:
        return None
    weights: dict[str, float] = {}
    for item in goals or []:
        name, _, value = item.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise GoalError(f"--goal {item!r}: write it as GOAL=WEIGHT, e.g. size=0.3") from None
    checked = check_weights(weights)  # before a name can be taken for another argument
    return Goals(limits=parse_limits(limits or []), custom=(), **checked)
