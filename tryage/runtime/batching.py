"""Dynamic batching of concurrent calls."""

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
    """How concurrent calls of one model are batched.

    Attributes:
        window: seconds that the first call of a batch waits for others, 0 or more. Calls that
            arrive while a batch runs wait for its end anyway, which counts towards their window.
        size: most calls in a batch; 1 disables batching.
        tokens: most tokens in a batch, including padding and new tokens; bounds the memory that a
            batch takes. A larger call runs alone.
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
    """Whether a caller has given up: cancelled by itself, or abandoned by its dispatch."""

    def __init__(self) -> None:
        scope = current_scope()
        self._event = threading.Event()
        self._dispatch = None if scope is None else scope.given_up

    def set(self) -> None:
        """Cancel the call."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the call is cancelled."""
        return self._event.is_set() or (self._dispatch is not None and self._dispatch.is_set())


@dataclass(slots=True, eq=False)
class Request:
    """A call in the queue of a model.

    Attributes:
        prompt: input of the model.
        options: of the answer.
        emit: called with each piece of the answer; None if it is not streamed.
        cancel: set when the caller gives up.
        future: receives the answer or the error.
        since: time of arrival on the clock of `time.perf_counter`.
    """

    prompt: Any = field(repr=False)
    options: Any
    emit: Callable[[str], None] | None = None
    cancel: CallCancellation = field(default_factory=CallCancellation)
    future: Future[Answer] = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)

    def answer(self, answer: Answer) -> None:
        """Settle the call with its answer, unless it is settled."""
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Settle the call with an error, unless it is settled."""
        if not self.future.done():
            self.future.set_exception(error)

    def cancelled(self) -> None:
        """Settle a call that was cancelled before it ran."""
        seconds = time.perf_counter() - self.since
        self.answer(Answer("", 0, 0, seconds, finish_reason="cancelled"))


class BatchCancellation:
    """Cancels a waiting batch once all its calls are cancelled."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = requests

    def is_set(self) -> bool:
        """Settle the cancelled calls; True if no other call is left."""
        for request in self._requests:
            if request.cancel.is_set():
                request.cancelled()
        return all(request.future.done() for request in self._requests)


class Batcher:
    """Collects calls into batches and runs these in one thread, which ends when idle.

    Args:
        name: of the thread.
        run: answers a batch; must settle each of its calls.
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
        """Queue a call and return it; its future is settled later."""
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
                        request.cancelled()
                    else:
                        batch.append(request)
                if batch:
                    return batch
            self._thread = None
            return []
