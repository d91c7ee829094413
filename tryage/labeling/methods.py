"""How cells are measured: by the likelihood of a text, or by a metric on the expert's answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tryage.errors import ExpertError, PromptError, TaskError
from tryage.experts import FILL_MASK, TEXT_GENERATION, Expert
from tryage.labeling.answering import answer_rows
from tryage.labeling.code_marks import code_mark
from tryage.labeling.losses import BATCH_TOKENS, MASK_SHARE, measure_rows
from tryage.labeling.metrics import METRICS, Metric, find_metric, metric_name
from tryage.labeling.prompts import Row
from tryage.labeling.record import Measurement
from tryage.labeling.tokens import MAX_WINDOW, Pipeline
from tryage.runtime import FillMaskPipeline, Runtime, TextGenerationPipeline
from tryage.scores.fields import Kind

Found = tuple[list[int], list[Measurement]]
"""Numbers of rows that are done, and their measurements."""


@dataclass(frozen=True)
class Method:
    """How the cells of one run are measured.

    Attributes:
        metric: scores the expert's answers; None measures the likelihood of texts instead.
        mask_share: part of the words to hide from fill-mask experts.
        max_window: tokens read at once at most.
        batch_tokens: tokens, padding included, that go through a model at once.
        max_new_tokens: tokens of an answer at most.
        keep_answers: whether the answers' texts are kept.
    """

    metric: str | Metric | None = None
    mask_share: float = MASK_SHARE
    max_window: int = MAX_WINDOW
    batch_tokens: int = BATCH_TOKENS
    max_new_tokens: int = 256
    keep_answers: bool = False

    def __post_init__(self) -> None:
        if self.metric is not None:
            find_metric(self.metric)

    @property
    def kind(self) -> Kind:
        """What the store holds."""
        return "losses" if self.metric is None else "scores"

    def settings(self) -> dict[str, Any]:
        """Return what the numbers depend on, as JSON: it must not change within one folder."""
        if self.metric is None:
            return {"mask_share": self.mask_share, "max_window": self.max_window}
        return {"metric": metric_name(self.metric), "max_new_tokens": self.max_new_tokens}

    @property
    def code(self) -> str | None:
        """What changes when the code of a metric of the user's own does; None without one."""
        return None if self.metric is None else code_mark(find_metric(self.metric))

    def check_expert(self, runtime: Runtime, expert: Expert) -> Path | None:
        """Return the model folder of an expert that can be measured so; None for an endpoint.

        Raises:
            TaskError: it cannot; says why.
            ModelNotFoundError, ExpertError: it cannot be run at all.
        """
        folder = runtime.check(expert.name)
        if self.metric is not None:
            return folder
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

    def check_rows(self, rows: Sequence[Row]) -> None:
        """Refuse rows that the metric can say nothing about.

        Raises:
            PromptError: a prompt lacks the reference that the metric compares answers with.
        """
        named = self.metric is not None and find_metric(self.metric) in METRICS.values()
        for row in rows if named else ():
            if row.reference is None:
                raise PromptError(
                    f"prompt {row.id!r}: reference: missing; the metric "
                    f"{metric_name(self.metric or '')!r} compares answers with it"
                )

    def load(self, runtime: Runtime, name: str) -> Pipeline | None:
        """Load an expert's model; return the pipeline whose likelihoods are read, if any is.

        Raises:
            ExpertError: it cannot be loaded, or its likelihoods cannot be read.
        """
        pipeline = runtime.load(name)
        if self.metric is not None:
            return None
        if not isinstance(pipeline, TextGenerationPipeline | FillMaskPipeline):
            runtime.unload(name)
            raise TaskError(
                f"expert {name!r} has an encoder and a decoder; likelihoods are those of models "
                "that continue a text. Give a metric for its answers."
            )
        return pipeline

    def measure(
        self, runtime: Runtime, name: str, pipeline: Pipeline | None, rows: Sequence[Row]
    ) -> Iterator[Found]:
        """Measure rows batch by batch.

        Args:
            runtime: runs the expert.
            name: the expert.
            pipeline: what `load` returned, or a twin of it.
            rows: rows of the expert's task.

        Yields:
            The numbers of the rows that are done, and their measurements. A row that fails does
            not keep the others from being measured.
        """
        if pipeline is not None:
            yield from measure_rows(
                pipeline, rows, max_window=self.max_window, batch_tokens=self.batch_tokens
            )
        elif self.metric is not None:
            yield from answer_rows(
                runtime,
                name,
                rows,
                find_metric(self.metric),
                max_new_tokens=self.max_new_tokens,
                keep=self.keep_answers,
            )
        else:
            raise ExpertError(f"expert {name!r} is not loaded")
