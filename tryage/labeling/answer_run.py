"""One run of `label_answers`: experts are asked, answers scored, cells written."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tryage.dispatch.scopes import acall_within
from tryage.errors import ExpertError
from tryage.labeling.answering import facts_of
from tryage.labeling.calling import Caller
from tryage.labeling.jobs import Job, JobWriter
from tryage.labeling.judges import Judge
from tryage.labeling.loops import all_of
from tryage.labeling.metrics import Metric, answered, scored
from tryage.labeling.prompts import Row
from tryage.labeling.record import Key, Measurement, failed
from tryage.labeling.store import LabelStore
from tryage.labeling.summary import Tally
from tryage.library import Library
from tryage.runtime import Answer

Progress = Callable[[str, int, int], None]


class AnswerRun:
    """Asks experts and the judge, and writes what comes of it.

    Args:
        library: the experts.
        callers: name → how it is asked.
        scorer: scores answers.
        judge: how the scorer's model is asked, if it is a judge.
        keep: whether the folder keeps the answers' texts.
        kept: answers of an earlier run, which new ones are compared with.

    Attributes:
        tally: what came of the cells so far.
    """

    def __init__(
        self,
        library: Library,
        callers: Mapping[str, Caller],
        scorer: Metric | Judge,
        judge: Caller | None,
        *,
        keep: bool,
        kept: Mapping[Key, str],
    ) -> None:
        self._library = library
        self._callers = callers
        self._scorer = scorer
        self._judge = judge
        self._keep = keep
        self._progress: Progress
        self._writers: dict[str, JobWriter] = {}
        self._kept = kept
        self.tally = Tally([])

    @contextlib.contextmanager
    def writing(self, store: LabelStore, jobs: Sequence[Job], progress: Progress) -> Iterator[None]:
        """Take cells for jobs; at the end everything that came is written, however it comes."""
        self._progress, self.tally = progress, Tally(jobs)
        with contextlib.ExitStack() as stack:
            for job in jobs:
                self._writers[job.expert] = stack.enter_context(JobWriter(store, job))
                progress(job.expert, job.reused, job.reused + len(job.rows))
            yield

    async def measure(self, jobs: Sequence[Job], at_once: int) -> None:
        """Measure all cells, `at_once` of every expert at the same time."""
        if not isinstance(self._scorer, Judge) or self._scorer.alone:
            lanes = [
                [(row, {job.expert: number}) for number, row in enumerate(job.rows)] for job in jobs
            ]
        else:
            together: dict[tuple[str, str], tuple[Row, dict[str, int]]] = {}
            for job in jobs:
                for number, row in enumerate(job.rows):
                    cells = together.setdefault((row.task, row.id), (row, {}))
                    cells[1][job.expert] = number
            lanes = [list(together.values())]
        workers = []
        for lane in lanes:
            todo = iter(lane)
            workers += [self._work(todo) for _ in range(min(at_once, len(lane)))]
        await all_of(workers)

    async def _work(self, todo: Iterable[tuple[Row, dict[str, int]]]) -> None:
        """Take rows with the experts that are to answer them, until none is left."""
        for row, numbers in todo:
            names = list(numbers)
            found = await all_of([self._answer(name, row) for name in names])
            measured = await self._scored(row, dict(zip(names, found, strict=True)))
            for name, one in measured.items():
                writer = self._writers[name]
                writer.add([numbers[name]], [one])
                self.tally.add(name, [one])
                self._progress(name, writer.done, writer.total)

    async def _answer(self, name: str, row: Row) -> Answer | Measurement:
        if self._judge is not None and self._judge.refusal is not None:
            # Answers cost money, and nobody would score this one.
            return failed(f"the judge failed: {self._judge.refusal}")
        try:
            return await self._callers[name].ask(row.prompt)
        except ExpertError as error:
            return failed(error)

    async def _scored(
        self, row: Row, found: Mapping[str, Answer | Measurement]
    ) -> dict[str, Measurement]:
        answers = {name: one for name, one in found.items() if isinstance(one, Answer)}
        measured = {name: one for name, one in found.items() if isinstance(one, Measurement)}
        told = {
            name: facts_of(answer, self._library, name, keep=self._keep)
            for name, answer in answers.items()
        }
        if isinstance(self._scorer, Judge):
            return measured | await self._judged(self._scorer, row, answers, told)
        for name, answer in answers.items():
            score = functools.partial(
                scored, answer.text, row.reference, self._scorer, **told[name]
            )
            # In a thread, since a metric is the user's own and may take its time.
            measured[name] = await acall_within("metric", None, score)
        return measured

    async def _judged(
        self,
        judge: Judge,
        row: Row,
        answers: Mapping[str, Answer],
        told: Mapping[str, dict[str, Any]],
    ) -> dict[str, Measurement]:
        if not answers:
            return {}
        earlier = {
            name: self._kept[row.task, row.id, name]
            for name in self._library.names
            if (row.task, row.id, name) in self._kept
        }
        texts = earlier | {name: answer.text for name, answer in answers.items()}
        verdicts = await judge.verdicts(self._ask_judge, row, texts, list(answers))
        return {
            name: answered(
                answers[name].text,
                math.nan if verdict.score is None else 1.0 - verdict.score,
                error=verdict.error,
                parse_failure=verdict.parse_failure,
                **told[name],
            )
            for name, verdict in verdicts.items()
        }

    async def _ask_judge(self, text: str) -> str:
        if self._judge is None:
            raise ExpertError("there is no judge")
        return (await self._judge.ask(text)).text
