"""Measure by answers: experts answer prompts, and a metric or a judge scores the answers."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tryage.dispatch import describe_error
from tryage.dispatch.scopes import acall_within
from tryage.errors import ExpertError, PromptError
from tryage.experts import Expert
from tryage.labeling.calling import Caller, token_count
from tryage.labeling.cells import Key, Measurement, failed
from tryage.labeling.fingerprints import code_fingerprint
from tryage.labeling.judges import Judge
from tryage.labeling.metrics import Metric, check_references, find_metric, metric_name
from tryage.labeling.rows import Row
from tryage.library import Library
from tryage.prompts import short
from tryage.runtime import Answer, Runtime
from tryage.scores.fields import Kind
from tryage.scores.grades import readability


@dataclass(frozen=True)
class _MetricMethod:
    """Base of the classes that score answers by a metric.

    Attributes:
        metric: scores an answer against the row's reference.
    """

    metric: str | Metric

    def __post_init__(self) -> None:
        find_metric(self.metric)

    @property
    def kind(self) -> Kind:
        """The folder is a table of scores."""
        return "scores"

    @property
    def code(self) -> str | None:
        """Fingerprint of the metric's code."""
        return code_fingerprint(find_metric(self.metric))

    def settings(self) -> dict[str, Any]:
        """Return what the scores depend on, as JSON."""
        return {"metric": metric_name(self.metric)}

    def check_rows(self, rows: Sequence[Row]) -> None:
        """Raise PromptError if a row lacks the reference that the metric needs."""
        check_references(self.metric, rows)


@dataclass(frozen=True)
class GeneratedAnswers(_MetricMethod):
    """Scores the answers of the library's own models, which a `Runtime` runs.

    Attributes:
        metric: scores an answer against the row's reference.
        max_new_tokens: tokens of an answer at most.
        keep_answers: whether the folder keeps the answers' texts.
    """

    max_new_tokens: int = 256
    keep_answers: bool = False

    def settings(self) -> dict[str, Any]:
        """Return what the scores depend on, as JSON."""
        return super().settings() | {"max_new_tokens": self.max_new_tokens}

    def check_expert(self, runtime: Runtime, expert: Expert) -> Path | None:
        """Return the expert's model folder; None for an endpoint.

        Raises:
            ModelNotFoundError, ExpertError: it cannot be run at all.
        """
        return runtime.check(expert.name)

    def load(self, runtime: Runtime, name: str) -> None:
        """Load an expert; the runtime, not its pipeline, makes the answers."""
        runtime.load(name)

    def per_worker(self, workers: int) -> Self:
        """Return itself: the runtime bounds the memory of answers."""
        return self

    def measure(
        self, runtime: Runtime, name: str, pipeline: Any, rows: Sequence[Row]
    ) -> Iterator[tuple[list[int], list[Measurement]]]:
        """Answer rows, as many at once as the runtime batches, and score the answers.

        Answers are greedy, so the same model repeats them.

        Args:
            runtime: runs the expert; its `batching` bounds the calls at once and their tokens.
            name: the expert.
            pipeline: unused.
            rows: rows of the expert's task.

        Yields:
            The number of a row that is done, and its measurement.
        """
        metric = find_metric(self.metric)

        def measure_row(row: Row) -> Measurement:
            try:
                answer = runtime.run(name, row.prompt, max_new_tokens=self.max_new_tokens)
            except (ExpertError, PromptError) as error:
                return failed(error)
            fields = _answer_fields(answer, runtime.library, name, keep=self.keep_answers)
            return score_answer(answer.text, row.reference, metric, **fields)

        # Prompts of similar length come together, so batches hold little padding.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].prompt), reverse=True)
        with ThreadPoolExecutor(runtime.batching.size) as pool:
            calls: dict[Future[Measurement], int] = {
                pool.submit(measure_row, rows[i]): i for i in order
            }
            try:
                for done in as_completed(calls):
                    yield [calls[done]], [done.result()]
            finally:
                for waiting in calls:
                    waiting.cancel()


@dataclass(frozen=True)
class MetricScorer(_MetricMethod):
    """Scores answers that an engine got from callables, by a metric.

    How long answers may be is up to the callables, so the settings do not say.

    Attributes:
        metric: scores an answer against the row's reference.
        library: the experts, with their prices.
        keep_answers: whether the folder keeps the answers' texts.
    """

    library: Library
    keep_answers: bool = False

    @property
    def together(self) -> bool:
        """Each answer is scored by itself."""
        return False

    @property
    def refusal(self) -> str | None:
        """A metric never gives up."""
        return None

    @functools.cached_property
    def _function(self) -> Metric:
        return find_metric(self.metric)

    async def measure(self, row: Row, answers: Mapping[str, Answer]) -> dict[str, Measurement]:
        """Score the answers to one prompt, expert → answer."""
        measurements = {}
        for name, answer in answers.items():
            fields = _answer_fields(answer, self.library, name, keep=self.keep_answers)
            score = functools.partial(
                score_answer, answer.text, row.reference, self._function, **fields
            )
            # In a thread, because a metric is the user's own and may take its time.
            measurements[name] = await acall_within("metric", None, score)
        return measurements


@dataclass(frozen=True)
class JudgeScorer:
    """Scores answers that an engine got from callables, by a judge.

    Attributes:
        judge: the judge.
        caller: calls the judge's model.
        library: the experts, with their prices.
        keep_answers: whether the folder keeps the answers' texts. It always does where answers
            are compared with each other.
        earlier: answers of earlier runs, which new ones are compared with.
    """

    judge: Judge
    caller: Caller
    library: Library
    keep_answers: bool = False
    earlier: Mapping[Key, str] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> Kind:
        """The folder is a table of scores."""
        return "scores"

    @property
    def code(self) -> str | None:
        """Fingerprint of the code that reads the judge's replies."""
        return code_fingerprint(self.judge.parse)

    def settings(self) -> dict[str, Any]:
        """Return what the scores depend on, as JSON."""
        return self.judge.settings()

    def check_rows(self, rows: Sequence[Row]) -> None:
        """Raise PromptError if a row lacks the reference that the judge needs."""
        self.judge.check_rows(rows)

    @property
    def together(self) -> bool:
        """Whether all experts' answers to a prompt are scored at once."""
        return not self.judge.alone

    @property
    def refusal(self) -> str | None:
        """Why the judge is not called any more in this run; None while it is."""
        return None if self.caller.refusal is None else f"the judge failed: {self.caller.refusal}"

    async def measure(self, row: Row, answers: Mapping[str, Answer]) -> dict[str, Measurement]:
        """Score the answers to one prompt, expert → answer."""
        if not answers:
            return {}
        earlier = {
            name: self.earlier[row.task, row.id, name]
            for name in self.library.names
            if (row.task, row.id, name) in self.earlier
        }
        texts = earlier | {name: answer.text for name, answer in answers.items()}
        verdicts = await self.judge.verdicts(self._ask, row, texts, list(answers))
        keep = self.keep_answers or self.together
        return {
            name: _measurement(
                answers[name].text,
                math.nan if verdict.score is None else 1.0 - verdict.score,
                error=verdict.error,
                parse_failure=verdict.parse_failure,
                **_answer_fields(answers[name], self.library, name, keep=keep),
            )
            for name, verdict in verdicts.items()
        }

    async def _ask(self, text: str) -> str:
        return (await self.caller.ask(text)).text


def score_answer(
    answer: str, reference: str | None, metric: Metric, /, **fields: Any
) -> Measurement:
    """Return the measurement of an answer: its score as a loss, and what its text shows.

    Args:
        answer: the expert's answer.
        reference: what the metric compares it with; None if there is none.
        metric: scores it.
        **fields: further fields of `Measurement`, such as `latency` and `cost`.
    """
    try:
        score = metric(answer, reference)
    except Exception as error:  # noqa: BLE001 - a metric is the user's own and may raise anything
        reason = f"the metric failed: {describe_error(error)}"
        return _measurement(answer, math.nan, error=reason, **fields)
    if score is None:
        reason = "the metric could not read the answer"
        return _measurement(answer, math.nan, error=reason, parse_failure=True, **fields)
    value = _as_number(score)
    if not 0.0 <= value <= 1.0:
        reason = f"the metric gave {short(score)}, which is no number in [0, 1]"
        return _measurement(answer, math.nan, error=reason, **fields)
    return _measurement(answer, 1.0 - value, **fields)


def _measurement(answer: str, loss: float, /, **fields: Any) -> Measurement:
    """Return the measurement of an answer whose loss is known, or NaN with an `error`."""
    return Measurement(
        loss,
        response_chars=float(len(answer)),
        readability=readability(answer),
        empty=not answer.strip(),
        **fields,
    )


def _answer_fields(answer: Answer, library: Library, name: str, *, keep: bool) -> dict[str, Any]:
    """Return the fields of a `Measurement` that do not depend on the score.

    Args:
        answer: the expert's answer.
        library: states the expert's price, per token.
        name: the expert.
        keep: whether the answer's text is kept.
    """
    cost = math.nan
    read, written = token_count(answer.prompt_tokens), token_count(answer.completion_tokens)
    if answer.counted and read is not None and written is not None:
        input_price, output_price = library.token_prices[:, library.index(name)]
        cost = float(input_price * read + output_price * written)
    return {
        "latency": answer.seconds,
        "cost": cost,
        "truncated": bool(answer.truncated),
        "cut_off": answer.finish_reason == "length",
        "answer": answer.text if keep else None,
    }


def _as_number(score: Any) -> float:
    try:
        return float(score)
    except (TypeError, ValueError):
        return math.nan
