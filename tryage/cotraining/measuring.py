"""Experts of a co-training: loading one, and measuring it on all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tryage.cotraining.options import CotrainingOptions
from tryage.errors import TaskError, missing_extra
from tryage.experts import Expert
from tryage.files import replacing
from tryage.labeling.likelihood import measure_rows
from tryage.labeling.rows import Row
from tryage.labeling.tokens import Pipeline
from tryage.library import Library
from tryage.runtime import FillMaskPipeline, Runtime, TextGenerationPipeline

try:
    from safetensors.numpy import load_file, save_file
except ImportError as error:
    raise missing_extra("hf", "co-training") from error

Floats = NDArray[np.float64]

Advance = Callable[[int, int], None]


@contextmanager
def loaded(expert: Expert, folder: Path, device: str) -> Iterator[Pipeline]:
    """Yield an expert's pipeline, its model in float32; it is unloaded afterwards.

    Args:
        expert: says name and task.
        folder: of its model.
        device: where it runs.

    Raises:
        ExpertError: it cannot be loaded, or has no likelihoods.
    """
    local = Expert(
        name=expert.name,
        model=str(folder.resolve()),
        task=expert.task,
        context_length=expert.context_length,
    )
    with Runtime(Library([local]), device=device, dtype="float32") as runtime:
        pipeline = runtime.load(expert.name)
        if not isinstance(pipeline, TextGenerationPipeline | FillMaskPipeline):
            raise TaskError(
                f"expert {expert.name!r} has an encoder and a decoder; co-training is for models "
                "that continue a text or fill in words"
            )
        yield pipeline


def measured_losses(
    pipeline: Pipeline,
    rows: Sequence[Row],
    options: CotrainingOptions,
    advance: Advance | None = None,
) -> Floats:
    """Return an expert's losses in bits per byte, (n,); NaN where a row cannot be measured."""
    losses = np.full(len(rows), np.nan)
    done = 0
    for numbers, measurements in measure_rows(
        pipeline, rows, max_window=options.max_window, batch_tokens=options.batch_tokens
    ):
        losses[numbers] = [one.loss for one in measurements]
        done += len(numbers)
        if advance is not None:
            advance(done, len(rows))
    return losses


def write_losses(path: Path, losses: Floats) -> None:
    """Write an expert's losses on all measured rows, whole or not at all."""
    with replacing(path) as temporary:
        save_file({"losses": losses}, temporary)


def read_losses(path: Path) -> Floats:
    """Return what `write_losses` wrote, (n,): the labelling sample, then the held-out rows."""
    losses: Floats = load_file(path)["losses"]
    return losses
