"""Train and measure several experts at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tryage.errors import ExpertError
from tryage.quickstart.recipes import Recipe

Progress = Callable[[str, int, int], None]
"""Called with the name of a bar, the units done and the total."""

_MOST = 4  # processes; each holds a copy of torch, about 400 MB


@dataclass(frozen=True)
class Job:
    """One expert to train, if its model is not there yet, and to measure.

    Attributes:
        recipe: what to train.
        folder: the quickstart's workspace, where texts and prompts lie.
        mask_share: part of the words hidden in measuring.
    """

    recipe: Recipe
    folder: Path
    mask_share: float


def run_jobs(jobs: Sequence[Job], progress: Progress) -> None:
    """Train and measure every expert; finished ones are kept if a later one fails.

    Args:
        jobs: the longest trainings begin first.
        progress: called in this thread after every step.

    Raises:
        ExpertError: a job failed; the message says which and why.
    """
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in sorted(jobs, key=lambda job: _work(job.recipe), reverse=True):
        waiting.put(job)
    events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
    workers = [_Worker(waiting, events) for _ in range(min(len(jobs), _cores(), _MOST))]
    unfinished = len(jobs)
    try:
        while unfinished:
            event = events.get()
            if event.error is not None:
                raise ExpertError(f"making {event.job.recipe.name!r} failed: {event.error}")
            if event.finished:
                unfinished -= 1
            else:
                progress(event.what, event.done, event.total)
    finally:
        for worker in workers:
            worker.stop()


@dataclass(frozen=True)
class _Event:
    job: Job
    what: str = ""
    done: int = 0
    total: int = 0
    finished: bool = False
    error: str | None = None


class _Worker:
    """A worker process, and the thread that sends it jobs and reads its progress."""

    def __init__(self, waiting: queue.SimpleQueue[Job], events: queue.SimpleQueue[_Event]) -> None:
        self._waiting = waiting
        self._events = events
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tryage.quickstart.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
                "HF_HUB_OFFLINE": "1",
            },
            # Ctrl-C reaches the quickstart alone, which then stops its workers.
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End process and thread."""
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):  # a pipe whose other end is gone
                    stream.close()

    def _serve(self) -> None:
        while True:
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                finished = self._make(job)
            except OSError:  # the process is gone, and with it the pipe
                finished = False
            if not finished:
                self._process.wait()
                self._events.put(_Event(job, error=self._reason()))
                return

    def _make(self, job: Job) -> bool:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            return False
        order = {
            "recipe": job.recipe.to_dict(),
            "folder": str(job.folder),
            "mask_share": job.mask_share,
        }
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        for line in stdout:
            message = json.loads(line)
            self._events.put(_Event(job, **message))
            if message.get("finished"):
                return True
        return False

    def _reason(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"its process ended with code {self._process.returncode}"


def _work(recipe: Recipe) -> int:
    """Rough cost of a training, for the order of jobs."""
    return recipe.steps * recipe.batch * recipe.window * recipe.hidden


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
