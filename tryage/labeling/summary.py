"""What a run of `label` did, counted cell by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tryage.labeling.jobs import Job
from tryage.labeling.record import CONDITIONS, Measurement


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """What a run of `label` did.

    Attributes:
        cells: cells asked for: measured + failed + reused.
        measured: cells measured by this run.
        failed: cells that could not be measured; the store says why, the next run tries again.
        reused: cells that an earlier run had measured.
        seconds: wall time.
        start_up: seconds of it until the engine could measure; 0 where there was nothing to do.
        failures: expert → why its cells failed, with counts, the most frequent first.
        conditions: condition → cells of this run in it; `tryage.labeling.Measurement` says what
            each means. Only those that occurred.
    """

    cells: int
    measured: int
    failed: int
    reused: int
    seconds: float
    start_up: float = 0.0
    failures: dict[str, dict[str, int]] = field(default_factory=dict)
    conditions: dict[str, int] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[str, int]:
        """Why cells failed, over all experts, with counts, the most frequent first."""
        found: Counter[str] = Counter()
        for reasons in self.failures.values():
            found.update(reasons)
        return dict(found.most_common())

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``tryage label --json`` prints.

        `failures` and `conditions` are there where there are any.
        """
        names = ("cells", "measured", "failed", "reused", "seconds")
        told = {name: getattr(self, name) for name in names}
        more = {"failures": self.failures, "conditions": self.conditions}
        return told | {name: found for name, found in more.items() if found}

    def __str__(self) -> str:
        """What happened, for a person: one line, and one for each reason of a failure."""
        lines = [
            f"{self.cells} cells in {self.seconds:.1f} s: {self.measured} measured, "
            f"{self.failed} failed, {self.reused} reused"
        ]
        for expert, reasons in self.failures.items():
            lines += [f"  {expert}: {count} failed: {why}" for why, count in reasons.items()]
        for condition, count in self.conditions.items():
            lines.append(f"  {count} {condition.replace('_', ' ')}")
        return "\n".join(lines)


class Tally:
    """Counts cells while a run goes on.

    Args:
        jobs: what the run is to do.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.cells = sum(job.reused + len(job.rows) for job in jobs)
        self.reused = sum(job.reused for job in jobs)
        self.measured = 0
        self.failures: dict[str, Counter[str]] = {}
        self.conditions: Counter[str] = Counter()

    def add(self, expert: str, found: Sequence[Measurement]) -> None:
        """Count measurements of an expert."""
        failed = [one.error for one in found if one.error is not None]
        self.measured += len(found) - len(failed)
        if failed:
            self.failures.setdefault(expert, Counter()).update(failed)
        for one in found:
            self.conditions.update(name for name in CONDITIONS if getattr(one, name))

    def summary(self, seconds: float, start_up: float) -> LabelSummary:
        """Return what was counted."""
        return LabelSummary(
            cells=self.cells,
            measured=self.measured,
            failed=sum(reasons.total() for reasons in self.failures.values()),
            reused=self.reused,
            seconds=seconds,
            start_up=start_up,
            failures={name: dict(found.most_common()) for name, found in self.failures.items()},
            conditions=dict(self.conditions.most_common()),
        )
