"""Measure by likelihood: losses in bits per byte, comparable between tokenizers.

A model that gives the scored tokens probabilities p_1 … p_k needs ``Σ -log2 p_i`` bits to encode
the text; divided by the text's UTF-8 bytes, that compares models whose tokenizers split the text
differently. Text that a tokenizer cannot express costs 8 bits per byte on top. A tokenizer that
drops case or accents is not charged for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from tryage.errors import ExpertError, TaskError
from tryage.experts import FILL_MASK, TEXT_GENERATION, Expert
from tryage.labeling.cells import Measurement, failed
from tryage.labeling.rows import Row, read_rows
from tryage.labeling.tokens import MAX_WINDOW, Encoded, Pipeline, encode_row, split_together
from tryage.labeling.window_losses import WindowScorer
from tryage.runtime import AnyPipeline, FillMaskPipeline, Runtime, TextGenerationPipeline
from tryage.scores.fields import Kind

BATCH_TOKENS = 2048
"""Tokens, padding included, that go through a model at once by default."""

MASK_SHARE = 0.15
"""Share of the words that are hidden by default."""

_MAX_LOGITS = 1 << 27
"""Outputs of one batch at most: half a gigabyte, however large the vocabulary."""


@dataclass(frozen=True)
class Likelihood:
    """Measures the likelihood of texts under local models.

    Attributes:
        mask_share: share of the words to hide from fill-mask experts.
        max_window: tokens read at once at most.
        batch_tokens: tokens, padding included, that go through a model at once.
    """

    mask_share: float = MASK_SHARE
    max_window: int = MAX_WINDOW
    batch_tokens: int = BATCH_TOKENS

    @property
    def kind(self) -> Kind:
        """The folder is a table of losses."""
        return "losses"

    @property
    def code(self) -> str | None:
        """No code of the user's own takes part."""
        return None

    def settings(self) -> dict[str, Any]:
        """Return what the losses depend on, as JSON."""
        return {"mask_share": self.mask_share, "max_window": self.max_window}

    def check_rows(self, rows: Sequence[Row]) -> None:
        """Accept all rows: any text has a likelihood."""

    def check_expert(self, runtime: Runtime, expert: Expert) -> Path:
        """Return the model folder of an expert whose likelihoods can be read.

        Raises:
            TaskError: they cannot; says why.
            ModelNotFoundError, ExpertError: the expert cannot be run at all.
        """
        folder = runtime.check(expert.name)
        if folder is None:
            raise TaskError(
                f"expert {expert.name!r} is served at an endpoint, which does not tell the "
                "probabilities of a text; give a metric for its answers, or a local model"
            )
        if expert.task not in (TEXT_GENERATION, FILL_MASK):
            raise TaskError(
                f"expert {expert.name!r} does {expert.task!r}; likelihoods are those of "
                f"{TEXT_GENERATION} and {FILL_MASK}. Give a metric for its answers."
            )
        return folder

    def load(self, runtime: Runtime, name: str) -> Pipeline:
        """Load an expert's model and return its pipeline.

        Raises:
            ExpertError: it cannot be loaded, or its likelihoods cannot be read.
        """
        pipeline = runtime.load(name)
        if not isinstance(pipeline, TextGenerationPipeline | FillMaskPipeline):
            runtime.unload(name)
            raise TaskError(
                f"expert {name!r} has an encoder and a decoder; likelihoods are those of models "
                "that continue a text. Give a metric for its answers."
            )
        return pipeline

    def per_worker(self, workers: int) -> Self:
        """Return the method for each of `workers` threads that share `batch_tokens`."""
        return replace(self, batch_tokens=max(1, self.batch_tokens // workers))

    def measure(
        self, runtime: Runtime, name: str, pipeline: Pipeline | None, rows: Sequence[Row]
    ) -> Iterator[tuple[list[int], list[Measurement]]]:
        """Measure rows batch by batch; see `measure_rows`.

        Args:
            runtime: unused.
            name: the expert.
            pipeline: what `load` returned, or a twin of it.
            rows: rows of the expert's task.
        """
        if pipeline is None:
            raise ExpertError(f"expert {name!r} is not loaded")
        yield from measure_rows(
            pipeline, rows, max_window=self.max_window, batch_tokens=self.batch_tokens
        )


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
        mask_share: share of the words to hide.
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
    by_number: dict[int, Measurement] = {}
    for numbers, measurements in measure_rows(
        pipeline, rows, max_window=max_window, batch_tokens=batch_tokens
    ):
        by_number.update(zip(numbers, measurements, strict=True))
    return [by_number[i] for i in range(len(rows))]


def measure_rows(
    pipeline: Pipeline, rows: Sequence[Row], *, max_window: int, batch_tokens: int
) -> Iterator[tuple[list[int], list[Measurement]]]:
    """Measure rows batch by batch, rows of similar length together.

    Args:
        pipeline: the expert.
        rows: rows of the expert's task.
        max_window: tokens read at once at most.
        batch_tokens: tokens, padding included, that go through the model at once.

    Yields:
        Numbers of rows that are done, and their measurements. A row that fails does not stop
        the others.
    """
    encoded: dict[int, Encoded] = {}
    tokens = split_together(pipeline, rows)
    for i, row in enumerate(rows):
        try:
            encoded[i] = encode_row(pipeline, row, max_window=max_window, split=tokens)
        except ExpertError as error:
            yield [i], [failed(error)]
    vocabulary = int(pipeline.model.config.get_text_config().vocab_size)
    limit = min(batch_tokens, _MAX_LOGITS // vocabulary)
    scorer = WindowScorer(pipeline)
    for batch in _packed(encoded, limit):
        part = [encoded[i] for i in batch]
        try:
            measurements = _measure_batch(scorer, part, limit)
        except ExpertError:
            # One row may be at fault, or memory short for all of them: each gets its own chance.
            measurements = [_measure_alone(scorer, item) for item in part]
        yield batch, measurements


def _measure_alone(scorer: WindowScorer, item: Encoded) -> Measurement:
    try:
        return _measure_batch(scorer, [item], 1)[0]
    except ExpertError as error:
        return failed(error)


def _packed(encoded: Mapping[int, Encoded], limit: int) -> Iterator[list[int]]:
    """Group rows of similar length, at most `limit` tokens with padding if a row allows it."""

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


def _measure_batch(scorer: WindowScorer, part: Sequence[Encoded], limit: int) -> list[Measurement]:
    windows = sorted(
        ((window, i) for i, item in enumerate(part) for window in item.windows),
        key=lambda pair: len(pair[0].ids),
        reverse=True,
    )
    bits = [item.bits for item in part]
    nats, hits, count = [0.0] * len(part), [0] * len(part), [0] * len(part)
    start = 0
    while start < len(windows):
        size = max(1, limit // len(windows[start][0].ids))
        chunk = windows[start : start + size]
        for (window, i), (loss, window_hits) in zip(
            chunk, scorer.losses([window for window, _ in chunk]), strict=True
        ):
            bits[i] += loss / math.log(2)
            nats[i] += loss
            hits[i] += window_hits
            count[i] += len(window.targets)
        start += size
    return [_measurement(item, bits[i], nats[i], hits[i], count[i]) for i, item in enumerate(part)]


def _measurement(item: Encoded, bits: float, nats: float, hits: int, count: int) -> Measurement:
    if not math.isfinite(bits):
        return Measurement(math.nan, "the model's output is not a number")
    return Measurement(
        # Rounding may leave the loss of a certain prediction slightly below 0.
        loss=max(0.0, bits / item.size),
        truncated=item.truncated,
        token_loss=nats / count if count else math.nan,
        token_accuracy=hits / count if count else math.nan,
    )
