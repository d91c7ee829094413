"""Dynamic batching: calls that arrive together go through a model together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tryage.dispatch import current_scope
from tryage.runtime.answer import Answer


@dataclass(frozen=True, slots=True)
class Batching:
    """How concurrent calls of one model are put together.

    Attributes:
        window: seconds that the first call of a batch waits for others, 0 or more. Calls that
            arrive while a batch runs wait for its end, and need no window.
        size: calls in a batch at most; 1 runs them one after another.
        tokens: tokens of a batch at most, padding and the tokens to be written included; what
            bounds the memory that a batch takes. A call that is larger runs alone.
    """

    window: float = 0.005
    size: int = 32
    tokens: int = 32768

    def __post_init__(self) -> None:
        if self.window < 0:
            raise ValueError(f"window is {self.window}; it is 0 seconds or more")
        if self.size < 1 or self.tokens < 1:
            raise ValueError(f"size is {self.size}, tokens is {self.tokens}; both are at least 1")


class CallCancellation:
    """Whether a caller has given up: by itself, or because its dispatch waits no longer."""

    def __init__(self) -> None:
        scope = current_scope()
        self._own = threading.Event()
        self._dispatch = None if scope is None else scope.given_up

    def set(self) -> None:
        """Give up."""
        self._own.set()

    def is_set(self) -> bool:
        """Whether anybody gave up."""
        return self._own.is_set() or (self._dispatch is not None and self._dispatch.is_set())


@dataclass(slots=True, eq=False)
class Request:
    """One call that waits for its answer.

    Attributes:
        prompt: what the model is asked.
        options: how it answers.
        emit: takes the pieces of the answer; None where nobody reads along.
        cancel: set once nobody waits.
        future: the answer, or why there is none.
        since: when the call came, on the clock of `time.perf_counter`.
    """

    prompt: Any
    options: Any
    emit: Callable[[str], None] | None = None
    cancel: CallCancellation = field(default_factory=CallCancellation)
    future: Future[Answer] = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)

    def answer(self, answer: Answer) -> None:
        """Settle the call, unless it is settled."""
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Settle the call with an error, unless it is settled."""
        if not self.future.done():
            self.future.set_exception(error)

    def give_up(self) -> None:
        """Settle a call that was cancelled before its turn came."""
        seconds = time.perf_counter() - self.since
        self.answer(Answer("", 0, 0, seconds, finish_reason="cancelled"))


class BatchCancellation:
    """Cancels a batch that waits for its model once nobody waits for any of its calls."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = requests

    def is_set(self) -> bool:
        """Settle the calls that were cancelled; True if none is left."""
        for request in self._requests:
            if request.cancel.is_set():
                request.give_up()
        return all(request.future.done() for request in self._requests)


class Batcher:
    """Gathers calls and runs them in one thread, which is there only while there is work.

    Args:
        name: of the thread.
        run: answers a batch; must settle every call of it.
        batching: window and size.
    """

    def __init__(
        self, name: str, run: Callable[[Sequence[Request]], None], batching: Batching
    ) -> None:
        self._name = name
        self._run = run
        self._batching = batching
        self._waiting: deque[Request] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def submit(self, request: Request) -> Request:
        """Queue a call; its future is settled later."""
        with self._changed:
            self._waiting.append(request)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name=f"tryage-batch-{self._name}"
                )
                self._thread.start()
            self._changed.notify()
        return request

    def _work(self) -> None:
        while batch := self._gather():
            try:
                self._run(batch)
            except BaseException as error:  # noqa: BLE001 - every caller gets it
                for request in batch:
                    request.fail(error)
            batch.clear()

    def _gather(self) -> list[Request]:
        """Return the next batch; an empty one ends the thread."""
        with self._changed:
            while self._waiting:
                closes = self._waiting[0].since + self._batching.window
                while len(self._waiting) < self._batching.size:
                    left = closes - time.perf_counter()
                    if left <= 0:
                        break
                    self._changed.wait(left)
                batch: list[Request] = []
                while self._waiting and len(batch) < self._batching.size:
                    request = self._waiting.popleft()
                    if request.cancel.is_set():
                        request.give_up()
                    else:
                        batch.append(request)
                if batch:
                    return batch
            self._thread = None
            return []
