"""The values that a run passes on: measurements and cells, and the jobs of engines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from tryage.labeling.rows import Row
from tryage.masking import hide_secrets

Key = tuple[str, str, str]
"""A cell: task, prompt id, expert."""

NUMBERS = (
    "token_loss",
    "token_accuracy",
    "response_chars",
    "readability",
    "latency",
    "cost",
)
"""Fields of a `Measurement` that are numbers, NaN where not measured, beside its loss."""

CONDITIONS = ("truncated", "cut_off", "empty", "parse_failure")
"""Fields of a `Measurement` that flag something unusual about it."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one expert did on one row.

    Conditions stand beside the loss and are never folded into it.

    Attributes:
        loss: lower is better: bits per byte of the scored text, or 1 − score of the answer; NaN
            if it could not be measured.
        error: why it could not be measured; None if it was.
        truncated: whether the beginning of the prompt did not fit the context. Text that is
            scored is never cut.
        token_loss: mean cross-entropy of the scored tokens in nats, lower is better: the paper's
            loss, not comparable between tokenizers.
        token_accuracy: share of the scored tokens that the model finds likeliest, 0 to 1.
        response_chars: characters of the answer.
        readability: grade of the answer, as `tryage.scores.readability`; lower is easier.
        latency: seconds that the answer took.
        cost: US dollars that prompt and answer cost.
        cut_off: whether the answer ran out of tokens before it ended.
        empty: whether the answer holds nothing but white space.
        parse_failure: whether the metric, or the judge, could not read what it was given.
        answer: the answer's text, if the folder keeps answers.
    """

    loss: float
    error: str | None = None
    truncated: bool = False
    token_loss: float = math.nan
    token_accuracy: float = math.nan
    response_chars: float = math.nan
    readability: float = math.nan
    latency: float = math.nan
    cost: float = math.nan
    cut_off: bool = False
    empty: bool = False
    parse_failure: bool = False
    answer: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Cell:
    """One measured or failed cell, ready to be stored."""

    row: Row
    expert: str
    measurement: Measurement


def failed(error: BaseException | str) -> Measurement:
    """Return the measurement of a cell that could not be measured."""
    return Measurement(math.nan, hide_secrets(str(error)))


@dataclass(frozen=True, slots=True)
class Job:
    """The rows that one expert still lacks.

    Attributes:
        expert: its name.
        rows: the rows to measure, in the order of the prompts.
        reused: cells that an earlier run had measured.
    """

    expert: str
    rows: Sequence[Row]
    reused: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """Measurements of some rows of a job.

    Attributes:
        expert: the job's expert.
        numbers: positions of the rows in the job.
        measurements: one for each of them.
        ready: when the engine could begin, on the clock of `time.perf_counter`.
    """

    expert: str
    numbers: Sequence[int]
    measurements: Sequence[Measurement]
    ready: float | None = None

    @classmethod
    def all_failed(cls, job: Job, measurement: Measurement) -> Self:
        """Return the result of a job whose expert cannot be loaded."""
        return cls(job.expert, range(len(job.rows)), [measurement] * len(job.rows))


Record = Callable[[Result], None]
"""Takes the results of an engine as they come; called in the thread or loop of the run."""
