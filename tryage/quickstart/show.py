"""What the quickstart prints: progress bars, then a verdict; tables and examples go into a file."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from tryage.evaluation import TaskEvaluations
from tryage.evaluation.verdict import Verdict
from tryage.quickstart.answers import Answered

_SHOWN = 400  # characters of a prompt or answer
_LINES = 8  # lines of it


class Show:
    """Prints a quickstart to one console.

    Args:
        console: where everything goes, progress bars included.
        verbose: print the details as well, which are otherwise only gathered.
    """

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        self.console, self.verbose = console, verbose
        self.details: list[str] = []
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    @contextlib.contextmanager
    def step(self, name: str, title: str, total: int) -> Iterator[Bar]:
        """Show a step's bar while it works; note how long it took under `name`."""
        started = time.perf_counter()
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            yield Bar(progress, title, total)
        self.seconds[name] = round(time.perf_counter() - started, 2)

    def timings(self) -> dict[str, float]:
        """Return the seconds of every step, and in all."""
        return {**self.seconds, "total": round(time.perf_counter() - self._started, 2)}

    def say(self, text: str = "") -> None:
        """Print plain text."""
        self.console.print(Text(text), soft_wrap=True)

    def detail(self, text: str = "") -> None:
        """Gather plain text for the file of details; print it where it is wanted."""
        self.details.append(text)
        if self.verbose:
            self.say(text)

    def evaluation(self, evaluations: TaskEvaluations) -> None:
        """Tell the tables, one per task."""
        self.detail()
        self.detail("On held-out files, losses in bits per byte:")
        for task, evaluation in evaluations.tasks.items():
            self.detail()
            self.detail(task)
            self.detail()
            self.detail(evaluation.table())

    def answered(self, number: int, answered: Answered) -> None:
        """Tell one example."""
        self.detail()
        self.detail(
            f"{number}. {answered.expert} via {answered.via}, "
            f"predicted loss {answered.predicted_loss:.2f}, measured {answered.measured_loss:.2f} "
            "bits per byte"
        )
        self.detail(_indented("prompt", answered.prompt))
        self.detail(_indented("answer", answered.answer))

    def end(self, verdicts: Mapping[str, Verdict], details: Path, command: str) -> None:
        """Print the verdict of each task, where everything is, and a command to go on with."""
        self.say()
        for task, verdict in verdicts.items():
            self.say(f"{task}: {verdict.sentence()}")
        total = self.timings()["total"]
        folder = details.parent
        self.say(f"Experts, score tables and router: {folder} ({total:.0f} s in all)")
        self.say(f"Tables and answered examples: {details}")
        self.say(f"Try it: {command}")

    def report(self, path: Path | None) -> None:
        """Name the report, or the way to one."""
        if path is None:
            self.say('For a report with plots: pip install "tryage[report]", and run this again.')
        else:
            self.say(f"Its report, to open in a browser: {path}")


def command_line(*arguments: str) -> str:
    """Return a command of this program that works as printed in the user's shell.

    The program is named as it was called: ``tryage`` where the shell finds it, else its path, such
    as ``.venv/bin/tryage``, else ``python -m tryage``.
    """
    called = Path(sys.argv[0])
    if called.name == "tryage":
        on_path = shutil.which("tryage")
        if on_path is not None and Path(on_path).resolve() == called.resolve():
            program = ["tryage"]
        else:
            program = [_short(called)]
    else:
        program = [_short(Path(sys.executable)), "-m", "tryage"]
    return shlex.join([*program, *arguments])


def _short(path: Path) -> str:
    """Return a path relative to the working directory where it lies below it."""
    absolute = os.path.abspath(path)
    below = os.path.relpath(absolute)
    return absolute if below.startswith(os.pardir) else below


class Bar:
    """The bars of one step: the step's own, and one below it for each part at work."""

    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total)
        self._parts: dict[str, Any] = {}
        self._done: dict[str, int] = {}

    def advance(self, count: int = 1) -> None:
        """Move the step's own bar."""
        self._progress.advance(self._task, count)

    def part(self, name: str, done: int, total: int) -> None:
        """Set the bar of a part, and move the step's own by as much."""
        if name not in self._parts:
            self._parts[name] = self._progress.add_task(f"  {name}", total=total)
            self._done[name] = 0
        self._progress.update(self._parts[name], completed=done, visible=done < total)
        self.advance(done - self._done[name])
        self._done[name] = done


def _indented(label: str, text: str) -> str:
    """Show a text beside its label, blank lines left out, cut after some lines."""
    excerpt = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    lines = [line for line in excerpt.splitlines() if line.strip()] or [""]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], "..."]
    return "\n".join(f"   {label if not row else '':<7}| {line}" for row, line in enumerate(lines))
