"""Rows are answered by an expert, and the answers scored by a metric."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

from tryage.errors import ExpertError, PromptError
from tryage.labeling.metrics import Metric, scored
from tryage.labeling.prompts import Row
from tryage.labeling.record import Measurement, failed
from tryage.library import Library
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
        told = facts_of(answer, runtime.library, name, keep=keep)
        return scored(answer.text, row.reference, metric, **told)

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


def facts_of(answer: Answer, library: Library, name: str, *, keep: bool) -> dict[str, Any]:
    """Return what is measured of an answer whatever its score: fields of a `Measurement`.

    Args:
        answer: what the expert wrote.
        library: tells the expert's price, per token.
        name: the expert.
        keep: whether the answer's text is one of them.
    """
    read, written = library.token_prices[:, library.index(name)]
    cost = float(read * answer.prompt_tokens + written * answer.completion_tokens)
    return {
        "latency": answer.seconds,
        "cost": cost if answer.counted else math.nan,
        "truncated": answer.truncated,
        "cut_off": answer.finish_reason == "length",
        "answer": answer.text if keep else None,
    }
