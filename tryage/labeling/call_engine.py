"""The engine of callables: asks models that run anywhere, many at once, in one event loop."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from tryage.errors import ExpertError
from tryage.labeling.calling import Caller
from tryage.labeling.cells import Job, Measurement, Record, Result, failed
from tryage.labeling.rows import Row
from tryage.runtime import Answer

T = TypeVar("T")

_Task = tuple[Row, dict[str, int]]
"""A row, and the experts that are to answer it with the number of the row in their jobs."""


class AnswerScorer(Protocol):
    """Turns answers into measurements."""

    @property
    def together(self) -> bool:
        """Whether all experts' answers to a prompt are scored at once."""

    @property
    def refusal(self) -> str | None:
        """Why answers are not scored any more in this run; None while they are."""

    async def measure(self, row: Row, answers: Mapping[str, Answer]) -> dict[str, Measurement]:
        """Score the answers to one prompt, expert → answer."""


class CallEngine:
    """Asks callables for answers and has them scored.

    Args:
        callers: expert → how it is called.
        scorer: scores the answers.
        concurrency: prompts at once, per expert; prompts at once where answers are scored
            together.
    """

    def __init__(
        self, callers: Mapping[str, Caller], scorer: AnswerScorer, concurrency: int
    ) -> None:
        self._callers = callers
        self._scorer = scorer
        self._concurrency = concurrency

    async def measure(self, jobs: Sequence[Job], record: Record) -> None:
        """Measure all jobs; see `tryage.labeling.run.AsyncEngine`."""
        ready = time.perf_counter()
        workers = []
        for tasks in self._queues(jobs):
            queue = iter(tasks)
            for _ in range(min(self._concurrency, len(tasks))):
                workers.append(self._work(queue, record, ready))
        await _all_of(workers)

    def _queues(self, jobs: Sequence[Job]) -> list[list[_Task]]:
        """Return one queue of tasks per expert, or one for all if answers are scored together."""
        if not self._scorer.together:
            return [[(row, {job.expert: i}) for i, row in enumerate(job.rows)] for job in jobs]
        tasks: dict[tuple[str, str], _Task] = {}
        for job in jobs:
            for number, row in enumerate(job.rows):
                _, numbers = tasks.setdefault((row.task, row.id), (row, {}))
                numbers[job.expert] = number
        return [list(tasks.values())]

    async def _work(self, queue: Iterable[_Task], record: Record, ready: float) -> None:
        """Measure tasks of a queue, which other workers share, until none is left."""
        for row, numbers in queue:
            replies = await _all_of([self._answer(name, row) for name in numbers])
            by_expert = dict(zip(numbers, replies, strict=True))
            answers = {name: one for name, one in by_expert.items() if isinstance(one, Answer)}
            scored = await self._scorer.measure(row, answers)
            failures = {n: one for n, one in by_expert.items() if isinstance(one, Measurement)}
            for name, measurement in (failures | scored).items():
                record(Result(name, [numbers[name]], [measurement], ready))

    async def _answer(self, name: str, row: Row) -> Answer | Measurement:
        if self._scorer.refusal is not None:
            # Answers cost money, and nobody would score this one.
            return failed(self._scorer.refusal)
        try:
            return await self._callers[name].ask(row.prompt)
        except ExpertError as error:
            return failed(error)


async def _all_of(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all coroutines; if one raises, the others are cancelled first."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run_in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    started: Future[_RunningTask] = Future()
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(context.run, asyncio.run, _announced(work, started))
        try:
            return result.result()
        except KeyboardInterrupt:
            # Leaving the block waits for the thread, so the work still stores what it holds.
            loop, task = started.result()
            loop.call_soon_threadsafe(task.cancel)
            raise


_RunningTask = tuple[asyncio.AbstractEventLoop, "asyncio.Task[Any]"]


async def _announced(work: Coroutine[Any, Any, T], started: Future[_RunningTask]) -> T:
    task = asyncio.current_task()
    if task is not None:
        started.set_result((asyncio.get_running_loop(), task))
    return await work
