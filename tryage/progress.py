"""Progress of a labelling run: bars on a terminal, lines now and then in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called with a part's name, how much of it is done, and how much there is."""


@contextlib.contextmanager
def shown_progress(progress: Progress | bool | None, *, rate: str) -> Iterator[Progress | None]:
    """Yield what is told of every step.

    Args:
        progress: a function that is called itself; None draws bars where standard error is a
            terminal; True also prints lines where it is not; False shows nothing.
        rate: unit of the speed, such as ``"cells/s"``.
    """
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if callable(progress):
        yield progress
    elif is_terminal and progress is not False:
        with _bars(rate) as advance:
            yield advance
    else:
        yield ProgressLines(rate=rate).update if progress else None


@contextlib.contextmanager
def _bars(rate: str) -> Iterator[Progress]:
    """Yield a function that moves a bar for each part, with its speed."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.1f} {rate}")

    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    ]
    bars: dict[str, Any] = {}
    with RichProgress(*columns, console=Console(stderr=True)) as drawn:

        def advance(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = drawn.add_task(name, total=total, completed=done)
            drawn.update(bars[name], completed=done, total=total)

        yield advance


class ProgressLines:
    """Prints progress as lines where bars cannot be drawn: in a log or a pipe.

    The speed of a part is that since its work began: parts that wait for others have not begun.

    Args:
        every: least seconds between two lines; the end of each part is always printed.
        rate: unit of the speed, such as ``"cells/s"``.
    """

    def __init__(self, *, every: float = 30.0, rate: str) -> None:
        self._every, self._rate = every, rate
        self._before: dict[str, int] = {}
        self._starts: dict[str, float] = {}
        self._printed = self._latest = time.monotonic()

    def update(self, name: str, done: int, total: int) -> None:
        """Note how much of a part is done, and print it if the last line is old enough."""
        now = time.monotonic()
        done_before = self._before.setdefault(name, done)
        if done > done_before:
            # What ended before the first step of a part was not its work.
            self._starts.setdefault(name, self._latest)
        self._latest = now
        if done < total and now - self._printed < self._every:
            return
        self._printed = now
        line = f"{name}: {done:,} of {total:,}"
        start = self._starts.get(name, now)
        if now > start:
            speed = (done - done_before) / (now - start)
            line += f", {speed:,.1f} {self._rate}, {(total - done) / speed:,.0f} s left"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
