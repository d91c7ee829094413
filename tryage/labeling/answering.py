"""Rows are answered by an expert, and the answers scored by a metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

import numpy as np

from tryage.errors import ExpertError, PromptError
from tryage.labeling.metrics import Metric, scored
from tryage.labeling.prompts import Row
from tryage.labeling.record import Measurement, failed
from tryage.runtime import Answer, Runtime


def answer_rows(
    runtime: Runtime,
    name: str,
    rows: Sequence[Row],
    metric: Metric,
    *,
    max_new_tokens: int,
    keep: bool = False,
) -> Iterator[tuple[list[int], list[Measurement]]]:
    """Let an expert answer rows, as many at once as the runtime batches, and score the answers.

    Answers are greedy, so that the same model gives the same answer again.

    Args:
        runtime: runs the expert; its `batching` bounds the calls at once and their tokens.
        name: the expert.
        rows: rows of the expert's task.
        metric: scores an answer against the row's reference.
        max_new_tokens: tokens of an answer at most.
        keep: whether the measurements hold the answers' texts.

    Yields:
        The number of a row that is done, and its measurement.
    """

    def call(row: Row) -> Measurement:
        try:
            answer = runtime.run(name, row.prompt, max_new_tokens=max_new_tokens)
        except (ExpertError, PromptError) as error:
            return failed(error)
        return scored(
            answer.text,
            row.reference,
            metric,
            latency=answer.seconds,
            cost=_cost(runtime, name, answer),
            truncated=answer.truncated,
            cut_off=answer.finish_reason == "length",
            answer=answer.text if keep else None,
        )

    # Prompts of like length come together, so that batches hold little padding.
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].prompt), reverse=True)
    with ThreadPoolExecutor(runtime.batching.size) as pool:
        calls: dict[Future[Measurement], int] = {pool.submit(call, rows[i]): i for i in order}
        try:
            for done in as_completed(calls):
                yield [calls[done]], [done.result()]
        finally:
            for waiting in calls:
                waiting.cancel()


def _cost(runtime: Runtime, name: str, answer: Answer) -> float:
    """What a call cost in US dollars; NaN without a price, or where tokens were not counted."""
    read, written = runtime.library.token_prices[:, runtime.library.index(name)]
    if not answer.counted:
        return float(np.nan)
    return float(read * answer.prompt_tokens + written * answer.completion_tokens)
