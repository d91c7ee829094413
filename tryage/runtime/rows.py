"""Calls as rows of a batch: their tokens, their progress, and which may go together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tryage.runtime.answer import Answer
from tryage.runtime.batching import Request
from tryage.runtime.decoding import AnswerBuilder
from tryage.runtime.inputs import Options


@dataclass(slots=True, eq=False)
class Row:
    """One call as the model sees it.

    Attributes:
        request: the call.
        ids: tokens of its prompt, cut to the context.
        max_new: tokens to write at most.
        truncated: whether the prompt was cut.
        builder: puts the answer together.
        logprobs: of the tokens written, where the call asks for them.
        done: whether the row has ended.
        reason: why it ended.
    """

    request: Request
    ids: list[int]
    max_new: int
    truncated: bool
    builder: AnswerBuilder
    logprobs: list[float] = field(default_factory=list)
    done: bool = False
    reason: Literal["stop", "length", "cancelled"] = "length"

    @property
    def options(self) -> Options:
        """The options of its answer."""
        options: Options = self.request.options
        return options

    @property
    def size(self) -> int:
        """Tokens that the row takes at most, new ones included."""
        return len(self.ids) + self.max_new

    def answer(self) -> Answer:
        """Return its answer so far."""
        return Answer(
            text=self.builder.text,
            prompt_tokens=len(self.ids),
            completion_tokens=self.builder.tokens,
            seconds=time.perf_counter() - self.request.since,
            truncated=self.truncated,
            finish_reason=self.reason,
            logprobs=tuple(self.logprobs[: self.builder.tokens]) if self.options.logprobs else None,
        )

    def advance(self, token: int, end_tokens: set[int]) -> bool:
        """Append the newest token; True if the row ends with it."""
        stopped = self.builder.add(token) or token in end_tokens
        cancelled = self.request.cancel.is_set()
        if not (stopped or cancelled or self.builder.tokens >= self.max_new):
            return False
        self.reason = "stop" if stopped else "cancelled" if cancelled else "length"
        self.builder.finish()
        self.done = True
        return True


def group_rows(rows: Sequence[Row], *, max_tokens: int, mix_lengths: bool) -> Iterator[list[Row]]:
    """Yield batches of rows, each at most `max_tokens` with padding; a larger row goes alone.

    Args:
        rows: in the order of their arrival.
        max_tokens: of a batch, padding and new tokens included.
        mix_lengths: whether prompts of different lengths may share a batch.
    """
    waiting = list(rows)
    while waiting:
        batch = [waiting.pop(0)]
        for row in list(waiting):
            size = max(row.size, *(other.size for other in batch)) * (len(batch) + 1)
            equal = len(row.ids) == len(batch[0].ids)
            if (mix_lengths or equal) and size <= max_tokens:
                batch.append(row)
                waiting.remove(row)
        yield batch
