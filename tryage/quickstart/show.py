"""What the quickstart prints: progress bars while it works, then experts, table and examples."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
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
from tryage.quickstart.answers import Answered

_SHOWN = 400  # characters of a prompt or answer
_LINES = 8  # lines of it


class Show:
    """Prints a quickstart to one console.

    Args:
        console: where everything goes, progress bars included.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
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

    def evaluation(self, evaluations: TaskEvaluations) -> None:
        """Print the tables, one per task."""
        self.say()
        self.say("On held-out files, losses in bits per byte:")
        for task, evaluation in evaluations.tasks.items():
            self.say()
            self.say(task)
            self.say()
            self.say(evaluation.table())

    def answered(self, number: int, answered: Answered) -> None:
        """Print one example."""
        self.say()
        self.say(
            f"{number}. {answered.expert} via {answered.via}, "
            f"predicted loss {answered.predicted_loss:.2f}, measured {answered.measured_loss:.2f} "
            "bits per byte"
        )
        self.say(_indented("prompt", answered.prompt))
        self.say(_indented("answer", answered.answer))

    def end(self, folder: Path, result: dict[str, Any]) -> None:
        """Print where the results are."""
        self.say()
        self.say(f"{len(result['experts'])} experts, score tables and router: {folder}")
        where = f"--router {folder / 'router'} --allow-models {folder}"
        self.say(f'Route a prompt of your own: tryage run "import os" {where}')
        self.say(f"{result['seconds']['total']:.0f} s in all.")


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
