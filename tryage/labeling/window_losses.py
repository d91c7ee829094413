"""Cross-entropy of windows of tokens: the only place that calls a model to measure it."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from tryage.errors import ExpertError
from tryage.labeling.tokens import Pipeline, Window
from tryage.runtime import FillMaskPipeline
from tryage.runtime.base import MODEL_FAULTS

_ROWS_AT_ONCE = 256
"""Targets whose outputs are compared at once, in float32: few enough to stay in a core's cache."""

_TRIAL_WINDOWS = 4
"""Windows that are computed both ways, the longest and the shortest of a batch."""

_TOLERANCE = 1e-4
"""Largest difference of outputs that are equal up to rounding, in units of the largest output."""

_MAY_SKIP: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
"""Model → whether it may skip positions where nothing is predicted; tried out once per model."""


class WindowScorer:
    """Computes the losses of windows with one pipeline's model.

    The last layer, which scores every token of the vocabulary, is the expensive part of a small
    model. It runs only at positions where something is predicted, and a causal model does without
    the mask of the padding behind the text, if that changes nothing. A few windows of every model
    are computed both ways to find out.

    Args:
        pipeline: the expert; its model is in memory.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def losses(self, windows: Sequence[Window]) -> list[tuple[float, int]]:
        """Return the summed loss of each window's target tokens, in nats, and its hits.

        A hit is a target token that the model finds likeliest.

        Raises:
            ExpertError: the model failed on these windows.
        """
        import torch

        targets = torch.tensor([token for window in windows for token in window.targets]).long()
        try:
            with self.pipeline.turn():
                outputs = self._outputs(windows, skip=self._may_skip(windows))
                losses, hits = _losses(outputs, targets.to(self.pipeline.model.device))
        except MODEL_FAULTS as error:
            text = str(error).strip()
            kind = type(error).__name__
            raise ExpertError(f"{kind}: {text.splitlines()[0]}" if text else kind) from error
        sizes = [len(window.at) for window in windows]
        return [
            (float(loss.sum()), int(hit.sum()))
            for loss, hit in zip(losses.split(sizes), hits.split(sizes), strict=True)
        ]

    @property
    def _masked(self) -> bool:
        return isinstance(self.pipeline, FillMaskPipeline)

    def _may_skip(self, windows: Sequence[Window]) -> bool:
        """Whether the model's last layer may skip positions where nothing is predicted."""
        model = self.pipeline.model
        may_skip = _MAY_SKIP.get(model)
        if may_skip is not None:
            return may_skip
        trial = [windows[0], *windows[1:][1 - _TRIAL_WINDOWS :]]
        padded = len({len(window.ids) for window in trial}) > 1
        if not any(window.at for window in trial) or not (self._masked or padded):
            return False
        whole = self._outputs(trial, skip=False)
        may_skip = _nearly_equal(whole, _attempt(lambda: self._outputs(trial, skip=True)))
        _MAY_SKIP[model] = may_skip
        return may_skip

    def _outputs(self, windows: Sequence[Window], *, skip: bool) -> Any:
        """Return the model's outputs where something is predicted, (targets, vocabulary).

        Args:
            windows: its input.
            skip: whether its last layer sees only those positions; the result may be None then.
        """
        model = self.pipeline.model
        ids, attention_mask = padded(self.pipeline, windows)
        rows, at = predicted_places(windows, model.device)
        # A causal model does not look at what stands behind a token.
        mask = {"attention_mask": attention_mask} if self._masked or not skip else {}
        options = {} if self._masked else {"use_cache": False}
        if not skip:
            return model(ids, **mask, **options).logits[rows, at]
        with _only(model, rows, at):
            logits = model(ids, **mask, **options).logits
        return logits[0] if logits.shape[:2] == (1, len(rows)) else None


def padded(pipeline: Pipeline, windows: Sequence[Window]) -> tuple[Any, Any]:
    """Return token ids (windows, tokens), and 1 where they are no padding."""
    import torch

    length = max(len(window.ids) for window in windows)
    pad = pipeline.tokenizer.pad_token_id or 0
    ids = torch.tensor([window.ids + [pad] * (length - len(window.ids)) for window in windows])
    sizes = torch.tensor([len(window.ids) for window in windows])
    mask = (torch.arange(length) < sizes[:, None]).long()
    device = pipeline.model.device
    return ids.to(device), mask.to(device)


def predicted_places(windows: Sequence[Window], device: Any) -> tuple[Any, Any]:
    """Return the window and the position in it of every output that predicts, (targets,) each."""
    import torch

    rows = torch.tensor([i for i, window in enumerate(windows) for _ in window.at]).long()
    at = torch.tensor([place for window in windows for place in window.at]).long()
    return rows.to(device), at.to(device)


@contextlib.contextmanager
def _only(model: Any, rows: Any, at: Any) -> Iterator[None]:
    """Let the layers above a model's body see only the chosen positions, as one row."""

    def choose(_module: Any, _inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[rows, at][None]
        return output

    handle = model.base_model.register_forward_hook(choose)
    try:
        yield
    finally:
        handle.remove()


def _attempt(call: Any) -> Any:
    """Return the result of a call; None if the model is not built for it."""
    try:
        return call()
    except (AttributeError, TypeError, *MODEL_FAULTS):
        return None


def _nearly_equal(whole: Any, part: Any) -> bool:
    if part is None or part.shape != whole.shape:
        return False
    scale = max(1.0, float(whole.float().nan_to_num(0.0, 0.0, 0.0).abs().max()))
    difference = float((whole.float() - part.float()).nan_to_num(0.0, 0.0, 0.0).abs().max())
    return difference <= _TOLERANCE * scale


def _losses(outputs: Any, targets: Any) -> tuple[Any, Any]:
    """Cross-entropy of the target tokens, in parts, because float32 outputs are large.

    Args:
        outputs: (targets, vocabulary).
        targets: (targets,) the right token at each position.

    Returns:
        (targets,) loss in nats as float64, and whether the token was the likeliest.
    """
    import torch

    losses, hits = [], []
    for start in range(0, len(targets), _ROWS_AT_ONCE):
        part = outputs[start : start + _ROWS_AT_ONCE].float()
        tokens = targets[start : start + _ROWS_AT_ONCE]
        loss = torch.nn.functional.cross_entropy(part, tokens, reduction="none")
        losses.append(loss.double())
        hits.append(part.gather(1, tokens[:, None])[:, 0] >= part.amax(dim=-1))
    if not losses:
        return torch.zeros(0), torch.zeros(0)
    return torch.cat(losses).cpu(), torch.cat(hits).cpu()
