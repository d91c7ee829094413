"""Progress of work in steps that take unequal time: what is at work, and the time left."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from tryage.progress import Progress


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the work stands.

    Attributes:
        name: what is at work.
        done: steps that have ended.
        total: all steps, as far as they are known.
        seconds_left: estimate for the rest; None before the first step has ended.
        step_seconds: estimate for a step that begins; None where none begins or nothing tells.
    """

    name: str
    done: int
    total: int
    seconds_left: float | None
    step_seconds: float | None = None


@dataclass(slots=True)
class _Kind:
    """Steps of one kind: how many and how large are left, and what those that ended took."""

    left: int = 0
    size_left: float = 0.0
    seconds: float = 0.0
    size: float = 0.0


class Steps:
    """Counts the steps of a piece of work, and estimates how long the rest takes.

    A step has a kind and a size, such as a predictor and the prompts it is fitted on; its time is
    taken to be proportional to its size. The speed of a kind is that of its own steps; before the
    first of them has ended it follows from the relative costs.

    Args:
        show: called when a step begins, when a part of it is done, and when it ends.
        costs: kind → relative cost of a step of size 1; 1 for kinds that are not named.
    """

    def __init__(
        self,
        show: Callable[[Standing], None] | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        self._show = show
        self._costs = costs or {}
        self._kinds: dict[str, _Kind] = {}
        self._done = 0
        self._kind = self._name = ""
        self._size = self._start = 0.0

    def expect(self, kind: str, count: int = 1, size: float = 1.0) -> None:
        """Announce steps of one kind, each of a size."""
        steps = self._kinds.setdefault(kind, _Kind())
        steps.left += count
        steps.size_left += count * size

    def drop(self, kind: str) -> None:
        """Take back one announced step of a kind, if there is any."""
        steps = self._kinds.get(kind)
        if steps is not None and steps.left:
            steps.size_left *= (steps.left - 1) / steps.left
            steps.left -= 1

    @contextlib.contextmanager
    def step(self, kind: str, name: str, size: float = 1.0) -> Iterator[None]:
        """Do one step of a kind.

        Args:
            kind: of the step.
            name: what is at work, for people.
            size: of the step.
        """
        if kind not in self._kinds or not self._kinds[kind].left:
            self.expect(kind, size=size)
        self._kind, self._size, self._name = kind, size, name
        self._start = time.monotonic()
        pace = self._pace()
        seconds = None if pace is None else size * self._seconds_of_one(kind, pace)
        self._tell(self._seconds_left(), step_seconds=seconds)
        yield
        self._end(time.monotonic() - self._start)
        self._done += 1
        self._tell(self._seconds_left())

    def part(self, what: str, done: int, total: int) -> None:
        """Tell that a part of the step at work is done, such as an epoch of training."""
        seconds_left = None
        if done > 0:
            elapsed = time.monotonic() - self._start
            whole = elapsed * total / done
            # As if the step had ended in the time that its parts foretell.
            before = replace(self._kinds[self._kind])
            self._end(whole)
            seconds_left = (self._seconds_left() or 0.0) + whole - elapsed
            self._kinds[self._kind] = before
        self._tell(seconds_left, f", {what} {min(done + 1, total)} of {total}")

    def _end(self, seconds: float) -> None:
        """Count the step at work among those that have ended."""
        steps = self._kinds[self._kind]
        steps.seconds += seconds
        steps.size += self._size
        steps.left = max(steps.left - 1, 0)
        steps.size_left = max(steps.size_left - self._size, 0.0) if steps.left else 0.0

    def _tell(
        self, seconds_left: float | None, detail: str = "", step_seconds: float | None = None
    ) -> None:
        if self._show is not None:
            total = self._done + sum(steps.left for steps in self._kinds.values())
            name = self._name + detail
            self._show(Standing(name, self._done, total, seconds_left, step_seconds))

    def _seconds_left(self) -> float | None:
        """Return the estimate for all steps that have not ended; None before the first has."""
        pace = self._pace()
        if pace is None:
            return None
        return sum(
            steps.size_left * self._seconds_of_one(kind, pace)
            for kind, steps in self._kinds.items()
        )

    def _pace(self) -> float | None:
        """Return the seconds of a step of size and cost 1; None before the first has ended."""
        ended = {kind: steps for kind, steps in self._kinds.items() if steps.size > 0}
        units = sum(self._cost(kind) * steps.size for kind, steps in ended.items())
        return sum(steps.seconds for steps in ended.values()) / units if units > 0 else None

    def _seconds_of_one(self, kind: str, pace: float) -> float:
        """Return the estimate for a step of a kind and of size 1."""
        steps = self._kinds[kind]
        return steps.seconds / steps.size if steps.size > 0 else pace * self._cost(kind)

    def _cost(self, kind: str) -> float:
        return self._costs.get(kind, 1.0)


@contextlib.contextmanager
def shown_steps(
    progress: Progress | bool | None, costs: Mapping[str, float] | None = None
) -> Iterator[Steps]:
    """Yield steps that are shown: a bar on a terminal, lines now and then in a log.

    Args:
        progress: a function that is called with what is at work, how many steps are done, and how
            many there are; None draws a bar where standard error is a terminal; True also prints
            lines where it is not; False shows nothing.
        costs: as in `Steps`.
    """
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if callable(progress):
        yield Steps(lambda now: progress(now.name, now.done, now.total), costs)
    elif is_terminal and progress is not False:
        with _bar() as show:
            yield Steps(show, costs)
    else:
        yield Steps(StepLines().show if progress else None, costs)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Standing], None]]:
    """Yield a function that moves the bar of all steps, with the time left; it is wiped at the end.

    Between two steps the time left runs down by the clock.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:
            ends = task.fields.get("ends")
            seconds = 0.0 if ends is None else ends - time.monotonic()
            return Text(f"{_time(seconds)} left" if seconds >= 1.0 else "")

    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        Left(),
    ]
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as drawn:
        bar = drawn.add_task("", total=None)

        def show(now: Standing) -> None:
            ends = None if now.seconds_left is None else time.monotonic() + now.seconds_left
            drawn.update(bar, description=now.name, completed=now.done, total=now.total, ends=ends)

        yield show


class StepLines:
    """Prints where the work stands as lines, where a bar cannot be drawn: in a log or a pipe.

    Args:
        every: least seconds between two lines.
    """

    def __init__(self, *, every: float = 30.0) -> None:
        self._every = every
        self._printed = time.monotonic()

    def show(self, now: Standing) -> None:
        """Print a line if the last one is old enough, or a step begins that takes longer."""
        is_due = time.monotonic() - self._printed >= self._every
        is_long = now.step_seconds is not None and now.step_seconds > self._every
        if now.done >= now.total or not (is_due or is_long):
            return
        self._printed = time.monotonic()
        left = "" if now.seconds_left is None else f", {_time(now.seconds_left)} left"
        sys.stderr.write(f"{now.name}: {now.done:,} of {now.total:,} steps done{left}\n")
        sys.stderr.flush()


def _time(seconds: float) -> str:
    """Return seconds as people say them: 42 s, 7 min, 2 h 5 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
