"""What decides the blocks of a file: this process, several, or workers of a Ray cluster.

All give the same lines in the file's order. Few blocks are in hand at once, so that memory does
not grow with the file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

from tryage.cli.options import load_router
from tryage.cli.route_lines import Block, Order
from tryage.cli.summary import Tally
from tryage.errors import TryageError
from tryage.paths import user_path
from tryage.ray_session import RESTARTS, check_engine, last_line, ray_session
from tryage.router import Router

Result = tuple[str, Tally]
Decided = Callable[[Iterator[Block]], Iterator[tuple[Block, Result]]]
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """How each process gets its router: the arguments of `load_router`."""

    name: str
    folders: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    download: bool = False

    def load(self) -> Router:
        """Load the router."""
        return load_router(self.name, self.folders, self.excluded, download=self.download)

    def absolute(self) -> Source:
        """Return it with whole paths: other machines' processes start in other folders."""
        folder = user_path(self.name)
        name = str(folder.resolve()) if folder.is_dir() else self.name
        folders = tuple(str(user_path(folder).resolve()) for folder in self.folders)
        return replace(self, name=name, folders=folders)


@dataclass(frozen=True)
class Engine:
    """What decides.

    Attributes:
        name: ``"local"`` or ``"ray"``.
        workers: processes; None is this one alone, and with Ray as many as there are CPUs.
        address: of a Ray cluster; None starts Ray here.
    """

    name: str = "local"
    workers: int | None = None
    address: str | None = None

    def check(self) -> None:
        """See that it can run.

        Raises:
            OptionError: there is no such engine.
            MissingExtraError: Ray is not installed.
        """
        check_engine(self.name)

    @contextlib.contextmanager
    def deciding(self, source: Source, router: Router, order: Order) -> Iterator[Decided]:
        """Yield a function that decides blocks, in order.

        Args:
            source: of the router, for other processes.
            router: the same, loaded here.
            order: goals and task of every prompt, and the form of its line.
        """
        if self.name == "ray":
            with _on_ray(source, order, self.workers, self.address) as (submit, ended, workers):
                yield lambda blocks: _in_order(blocks, submit, ended, workers, router, order)
        elif self.workers is None or self.workers == 1:
            yield lambda blocks: ((block, order.lines(router, block)) for block in blocks)
        else:
            workers = self.workers
            with _in_processes(source, order, workers) as submit:
                yield lambda blocks: _in_order(blocks, submit, _ended, workers, router, order)


def _in_order(
    blocks: Iterator[Block],
    submit: Callable[[Block], T],
    ended: Callable[[T], Result | None],
    workers: int,
    router: Router,
    order: Order,
) -> Iterator[tuple[Block, Result]]:
    """Decide blocks elsewhere, a few at once; a failed one again here, which raises its error."""
    waiting: deque[tuple[Block, T]] = deque()

    def first() -> tuple[Block, Result]:
        block, pending = waiting.popleft()
        result = ended(pending)
        return block, order.lines(router, block) if result is None else result

    for block in blocks:
        waiting.append((block, submit(block)))
        if len(waiting) > 2 * workers:
            yield first()
    while waiting:
        yield first()


class Worker:
    """Decides blocks in a process of its own."""

    def __init__(self, source: Source, order: Order) -> None:
        self._router = source.load()
        self._order = order

    def lines(self, block: Block) -> Result | None:
        """Return `Order.lines`; None where a prompt has no decision."""
        try:
            return self._order.lines(self._router, block)
        except TryageError:
            return None


@contextlib.contextmanager
def _on_ray(
    source: Source, order: Order, workers: int | None, address: str | None
) -> Iterator[Any]:
    """Yield what submits a block, what waits for its result, and how many actors there are."""
    with ray_session(address) as ray:
        most = int(ray.cluster_resources().get("CPU", 1)) or 1
        count = min(workers or most, most)  # more would wait for a CPU, and their blocks with them
        actor = ray.remote(num_cpus=1, max_restarts=RESTARTS, max_task_retries=RESTARTS)(Worker)
        actors = [actor.remote(source.absolute(), order) for _ in range(count)]
        turns = itertools.cycle(actors)

        def ended(reference: Any) -> Result | None:
            try:
                result: Result | None = ray.get(reference)
            except ray.exceptions.RayError as error:
                raise TryageError(
                    f"Ray gave up: {last_line(error)}; what was decided is kept, and the same "
                    "command goes on"
                ) from error
            return result

        yield (lambda block: next(turns).lines.remote(block)), ended, count


@contextlib.contextmanager
def _in_processes(
    source: Source, order: Order, workers: int
) -> Iterator[Callable[[Block], Future[Result | None]]]:
    """Yield what submits a block to a pool of processes."""
    from concurrent.futures import ProcessPoolExecutor

    # Each process loads the router itself, and nothing is copied from this one, threads included.
    pool = ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn"),
        initializer=_begin_worker,
        initargs=(source, order),
    )
    try:
        yield lambda block: pool.submit(_decide_in_worker, block)
    finally:
        pool.shutdown(cancel_futures=True)


def _ended(future: Future[Result | None]) -> Result | None:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise TryageError(
            "a worker process ended before its time, perhaps for want of memory; repeat the "
            "command to go on, with fewer --workers"
        ) from error


_worker: Worker
"""What a worker process decides with."""


def _begin_worker(source: Source, order: Order) -> None:
    global _worker
    # Ctrl-C reaches the whole group; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = Worker(source, order)


def _end_with_parent() -> None:
    """End this process when its parent was killed."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _decide_in_worker(block: Block) -> Result | None:
    return _worker.lines(block)
