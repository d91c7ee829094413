"""Text analysis: classification and feature extraction with a local model."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from tryage.dispatch import blame_request
from tryage.errors import PromptError
from tryage.runtime.answer import Answer
from tryage.runtime.base import MODEL_FAULTS, Pipeline, check_prompt
from tryage.runtime.batching import CallCancellation
from tryage.runtime.streams import run_in_thread
from tryage.runtime.windows import frame, windows


class AnalysisPipeline(Pipeline):
    """Analyses a prompt; the result is in `Answer.result`."""

    def run(self, prompt: str, **options: Any) -> Answer:
        """Analyse one prompt; options as in the class's description.

        Raises:
            PromptError: the prompt is empty.
            ExpertError: the model failed.
        """
        return self._analyse(prompt, options, CallCancellation())

    async def arun(self, prompt: str, **options: Any) -> Answer:
        """Analyse one prompt in a thread; the event loop is not blocked."""
        self._check(options)
        return await run_in_thread(functools.partial(self._analyse, prompt, options))

    def _analyse(self, prompt: str, options: dict[str, Any], cancel: CallCancellation) -> Answer:
        started = time.perf_counter()
        check_prompt(prompt)
        self._check(options)
        try:
            with self.turn(cancel):
                ids = self.encode(prompt, special=True)
                result, text = self._result(prompt, **options)
        except PromptError:
            raise
        except MODEL_FAULTS as error:
            raise self.failure(error) from error
        return Answer(
            text=text,
            prompt_tokens=len(ids),
            completion_tokens=0,
            seconds=time.perf_counter() - started,
            truncated=self._truncates() and len(ids) > self.context,
            result=result,
        )

    def _check(self, options: dict[str, Any]) -> None:
        if options:
            raise blame_request(TypeError(f"{self.task} takes no option {next(iter(options))!r}"))

    def _truncates(self) -> bool:
        """Whether a text longer than the context is cut."""
        return False

    def _result(self, prompt: str, **options: Any) -> tuple[Any, str]:
        raise NotImplementedError

    def _pipe(self, **options: Any) -> Any:
        """Return Transformers' pipeline for this task with the loaded model."""
        import transformers

        return transformers.pipeline(
            self.task,
            model=self.model,
            tokenizer=self.tokenizer,
            device=self.model.device,
            **options,
        )


class TextClassificationPipeline(AnalysisPipeline):
    """Assigns a label to a text; the answer's text is the most probable one.

    A text longer than the model's context loses its end, and the answer says so.
    """

    task: ClassVar[str] = "text-classification"

    def _truncates(self) -> bool:
        return True

    def _result(self, prompt: str, **options: Any) -> tuple[Any, str]:
        rows = self._pipe()(prompt, top_k=None, truncation=True, max_length=self.context)
        result = _ranked([row["label"] for row in rows], [row["score"] for row in rows])
        return result, str(result[0]["label"])


class ZeroShotClassificationPipeline(AnalysisPipeline):
    """Assigns one of the labels given with the call to a text, by an entailment model.

    Options of a call: `labels`, the candidates (required); `hypothesis` (``"This example is
    {}."``), the sentence that each label is inserted into; `multi_label` (False), whether several
    may apply, so that the scores do not add up to 1.
    """

    task: ClassVar[str] = "zero-shot-classification"

    def _truncates(self) -> bool:
        return True

    def _check(self, options: dict[str, Any]) -> None:
        for key in options:
            if key not in ("labels", "hypothesis", "multi_label"):
                raise blame_request(TypeError(f"{self.task} takes no option {key!r}"))
        labels = options.get("labels", ())
        if isinstance(labels, str) or not labels:
            raise PromptError(f"{self.task} needs labels=[...], the labels to choose from")
        if "{}" not in options.get("hypothesis", "{}"):
            raise PromptError("hypothesis must hold {} where the label stands")

    def _result(
        self,
        prompt: str,
        *,
        labels: Sequence[str] = (),
        hypothesis: str = "This example is {}.",
        multi_label: bool = False,
        **options: Any,
    ) -> tuple[Any, str]:
        output = self._pipe()(
            prompt, list(labels), hypothesis_template=hypothesis, multi_label=multi_label
        )
        result = _ranked(output["labels"], output["scores"])
        return result, str(result[0]["label"])


class TokenClassificationPipeline(AnalysisPipeline):
    """Labels spans of a text, such as names; adjacent tokens with one label are merged.

    The answer's text has one line per span, ``LABEL: words``. A text longer than the model's
    context is read in overlapping windows.
    """

    task: ClassVar[str] = "token-classification"

    def _result(self, prompt: str, **options: Any) -> tuple[Any, str]:
        settings: dict[str, Any] = {"aggregation_strategy": "simple"}
        if self.tokenizer.is_fast:
            settings["stride"] = max(1, self.context // 8)
        spans = self._pipe(**settings)(prompt)
        result = [
            {
                "label": span["entity_group"],
                "score": float(span["score"]),
                "start": int(span["start"]),
                "end": int(span["end"]),
                "text": prompt[span["start"] : span["end"]],
            }
            for span in spans
        ]
        return result, "\n".join(f"{span['label']}: {span['text']}" for span in result)


class FeatureExtractionPipeline(AnalysisPipeline):
    """Embeds a text: the mean of the last layer over the text's tokens.

    A text longer than the model's context is read in consecutive windows. The answer's text is the
    vector as JSON.
    """

    task: ClassVar[str] = "feature-extraction"

    def _result(self, prompt: str, **options: Any) -> tuple[Any, str]:
        import torch

        prefix, suffix = frame(self.tokenizer)
        ids = self.encode(prompt)
        room = max(1, self.context - len(prefix) - len(suffix))
        total: Any = 0.0
        for start, end in windows(len(ids), room):
            row = torch.tensor([[*prefix, *ids[start:end], *suffix]], device=self.model.device)
            output = self.model(row, attention_mask=torch.ones_like(row)).last_hidden_state
            inner = output[0, len(prefix) : len(prefix) + end - start]
            total = total + inner.double().sum(dim=0)
        vector = [float(x) for x in total / max(1, len(ids))]
        return vector, json.dumps(vector)


def _ranked(labels: Sequence[str], scores: Sequence[float]) -> list[dict[str, Any]]:
    pairs = sorted(zip(labels, scores, strict=True), key=lambda pair: -pair[1])
    return [{"label": str(label), "score": float(score)} for label, score in pairs]
