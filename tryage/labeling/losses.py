"""Losses in bits per byte: what a text costs an expert, whatever its tokenizer.

A model that gives the scored tokens probabilities p_1 … p_k needs ``Σ -log2 p_i`` bits to write
the text down; divided by the text's UTF-8 bytes, that compares models whose tokenizers cut the
text differently. Text that a tokenizer cannot express costs 8 bits per byte on top. A tokenizer
that drops case or accents is not charged for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tryage.errors import ExpertError, TaskError
from tryage.labeling.prompts import Row, read_rows
from tryage.labeling.reading import Reader
from tryage.labeling.record import Measurement, failed
from tryage.labeling.tokens import MAX_WINDOW, Encoded, Pipeline, encode_row, split_together
from tryage.runtime import AnyPipeline, FillMaskPipeline, TextGenerationPipeline

BATCH_TOKENS = 2048
"""Tokens, padding included, that go through a model at once by default."""

MASK_SHARE = 0.15
"""Part of the words that are hidden by default."""

_MAX_LOGITS = 1 << 27
"""Outputs of one batch at most: half a gigabyte, however large the vocabulary."""


def measure(
    pipeline: AnyPipeline,
    prompts: Iterable[str | Mapping[str, Any]],
    *,
    mask_share: float = MASK_SHARE,
    max_window: int = MAX_WINDOW,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Measurement]:
    """Measure one loaded expert on prompts, in memory.

    Args:
        pipeline: a pipeline of `tryage.runtime`.
        prompts: texts, or mappings with ``prompt`` and optionally ``reference``. For a fill-mask
            expert a prompt with `[MASK]` needs its text without marks as reference; in any other
            text a share of the words is hidden.
        mask_share: part of the words to hide.
        max_window: tokens read at once at most.
        batch_tokens: tokens, padding included, that go through the model at once.

    Returns:
        One measurement per prompt, in order.

    Raises:
        PromptError: a prompt is wrong; says which and why.
        TaskError: the probabilities of this expert cannot be read.
    """
    if not isinstance(pipeline, TextGenerationPipeline | FillMaskPipeline):
        raise TaskError(
            f"expert {pipeline.expert.name!r}: losses are those of local models that continue or "
            f"fill in a text, not of {type(pipeline).__name__}"
        )
    rows = read_rows(prompts, (pipeline.task,), mask_share=mask_share)
    found: dict[int, Measurement] = {}
    for numbers, measured in measure_rows(
        pipeline, rows, max_window=max_window, batch_tokens=batch_tokens
    ):
        found.update(zip(numbers, measured, strict=True))
    return [found[i] for i in range(len(rows))]


def measure_rows(
    pipeline: Pipeline, rows: Sequence[Row], *, max_window: int, batch_tokens: int
) -> Iterator[tuple[list[int], list[Measurement]]]:
    """Measure rows batch by batch, rows of like length together.

    Args:
        pipeline: the expert.
        rows: rows of the expert's task.
        max_window: tokens read at once at most.
        batch_tokens: tokens, padding included, that go through the model at once.

    Yields:
        The numbers of the rows that are done, and their measurements. A row that fails does not
        keep the others from being measured.
    """
    encoded: dict[int, Encoded] = {}
    known = split_together(pipeline, rows)
    for i, row in enumerate(rows):
        try:
            encoded[i] = encode_row(pipeline, row, max_window=max_window, known=known)
        except ExpertError as error:
            yield [i], [failed(error)]
    vocabulary = int(pipeline.model.config.get_text_config().vocab_size)
    limit = min(batch_tokens, _MAX_LOGITS // vocabulary)
    reader = Reader(pipeline)
    for batch in _packed(encoded, limit):
        part = [encoded[i] for i in batch]
        try:
            found = _measure_batch(reader, part, limit)
        except ExpertError:
            # One row may be at fault, or memory short for all of them: each gets its own chance.
            found = [_measure_alone(reader, item) for item in part]
        yield batch, found


def _measure_alone(reader: Reader, item: Encoded) -> Measurement:
    try:
        return _measure_batch(reader, [item], 1)[0]
    except ExpertError as error:
        return failed(error)


def _packed(encoded: Mapping[int, Encoded], limit: int) -> Iterator[list[int]]:
    """Put rows of like length together, `limit` tokens with padding at most if a row allows it."""

    def longest(i: int) -> int:
        return max((len(window.ids) for window in encoded[i].windows), default=0)

    batch: list[int] = []
    count = 0
    # The longest first: if memory is short, that shows at once.
    for i in sorted(encoded, key=longest, reverse=True):
        more = len(encoded[i].windows)
        if batch and (count + more) * longest(batch[0]) > limit:
            yield batch
            batch, count = [], 0
        batch.append(i)
        count += more
    if batch:
        yield batch


def _measure_batch(reader: Reader, part: Sequence[Encoded], limit: int) -> list[Measurement]:
    windows = sorted(
        ((window, i) for i, item in enumerate(part) for window in item.windows),
        key=lambda pair: len(pair[0].ids),
        reverse=True,
    )
    bits = [item.bits for item in part]
    nats, right, count = [0.0] * len(part), [0] * len(part), [0] * len(part)
    start = 0
    while start < len(windows):
        size = max(1, limit // len(windows[start][0].ids))
        chunk = windows[start : start + size]
        for (window, i), (cost, hits) in zip(
            chunk, reader.read([window for window, _ in chunk]), strict=True
        ):
            bits[i] += cost / math.log(2)
            nats[i] += cost
            right[i] += hits
            count[i] += len(window.wanted)
        start += size
    return [_measurement(item, bits[i], nats[i], right[i], count[i]) for i, item in enumerate(part)]


def _measurement(item: Encoded, bits: float, nats: float, right: int, count: int) -> Measurement:
    if not math.isfinite(bits):
        return Measurement(math.nan, "the model's output is not a number")
    return Measurement(
        # Rounding may leave a certain prediction a hair below nothing.
        loss=max(0.0, bits / item.size),
        truncated=item.truncated,
        token_loss=nats / count if count else math.nan,
        token_accuracy=right / count if count else math.nan,
    )
